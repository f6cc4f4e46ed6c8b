"""golden/<name>.labels.jsonl: what people said of answers, one line each, sorted, so that git merges it and two writers agree.

A reviewer has one say on an answer under one rubric: labelling it again replaces the line, and of two such lines (a merge
of two branches) the later one counts. Lines may come in any order and twice; they are written sorted and once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptops.core.digest import digest
from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import JsonError, canonical_json, parse_json
from promptops.core.rubric import CriterionScore
from promptops.project.config import STORE_FOLDER
from promptops.project.formats import format_problems, format_schema
from promptops.project.lock import store_lock
from promptops.project.records import write_whole
from promptops.project.store import prepare_folder
from promptops.project.tree import Tree, WorkTree

_ORDER = (
    "case_id", "category", "case_digest", "answer_digest", "rubric", "rubric_digest", "by", "at", "passed", "verdicts", "note",
    "inclusion", "batch", "run", "draw", "answer",
)  # fmt: skip
_WAIT_S = 30.0
_MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One reviewer's verdict on one answer to one golden case.

    `case_digest` and `rubric_digest` (of `Rubric.digest_for`) are of what the reviewer saw. `inclusion` is the probability with which
    the answer was chosen for review, None when somebody picked it. `at` is UTC, ISO 8601 in whole seconds.
    """

    case_id: str
    category: str
    case_digest: str
    answer: str
    rubric: str
    rubric_digest: str
    by: str
    at: str
    passed: bool
    verdicts: Mapping[str, CriterionScore] = field(default_factory=dict)
    note: str = ""
    inclusion: float | None = None
    batch: str = ""
    run: str = ""
    draw: int = 0

    @property
    def answer_digest(self) -> str:
        return answer_digest(self.answer)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What there is one label of: (case, answer, rubric content, reviewer)."""
        return (self.case_id, self.answer_digest, self.rubric_digest, self.by)

    def as_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "case_id": self.case_id, "category": self.category, "case_digest": self.case_digest, "answer_digest": self.answer_digest,
            "rubric": self.rubric, "rubric_digest": self.rubric_digest, "by": self.by, "at": self.at, "passed": self.passed,
            "verdicts": dict(sorted(self.verdicts.items())), "note": self.note, "inclusion": self.inclusion, "batch": self.batch, "run": self.run,
            "draw": self.draw, "answer": self.answer,
        }  # fmt: skip
        return {name: row[name] for name in _ORDER if row[name] not in ("", None, {}) or name == "answer"}


def answer_digest(answer: str) -> str:
    """The content address of an answer's text."""
    return digest(answer)


def labels_path(name: str) -> str:
    """Where the labels of a prompt's answers are."""
    return f"golden/{name}.labels.jsonl"


def read_labels(tree: Tree, name: str) -> list[Label]:
    """The labels of a prompt that count, sorted; empty when there is no file. Raises DataError that lists every bad line."""
    path = labels_path(name)
    try:
        data = tree.read(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError("file cannot be read", where=path, why=error.strerror or "") from error
    return parse_labels(data, path)


def parse_labels(data: bytes, where: str) -> list[Label]:
    """Labels of JSON lines, the last one of each reviewer on each answer. Raises DataError that lists every bad line."""
    labels: list[Label] = []
    problems: list[Problem] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        if line.startswith((b"<<<<<<< ", b"=======", b">>>>>>> ")):
            problems.append(Problem(what="a merge conflict", where=f"{where}:{number}",
                                    hint="keep the lines of both sides; their order does not matter"))  # fmt: skip
            continue
        try:
            labels.append(_label(parse_json(line), f"{where}:{number}"))
        except JsonError as error:
            problems.append(Problem(what="not a valid row", where=f"{where}:{number}", why=str(error)))
        except DataError as error:
            problems += error.problems
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        extra = [Problem(what=f"and {more} more problems", where=where)] if more > 0 else []
        raise DataError(problems=[*problems[:_MAX_PROBLEMS], *extra])
    return current_labels(labels)


def _label(row: Any, where: str) -> Label:
    if not format_schema("label").accepts(row):
        raise DataError(problems=format_problems("label", row, lambda _: where))
    fields = {name: value for name, value in row.items() if name != "answer_digest"}
    label = Label(**fields)
    if label.answer_digest != row["answer_digest"]:
        raise DataError("answer_digest is not that of the answer", where=where, why="the answer was changed after it was labelled",
                        hint="take the line from git again, or label the answer anew")  # fmt: skip
    return label


def current_labels(labels: Iterable[Label]) -> list[Label]:
    """One label for each key, the latest, sorted; of two at the same second, the one that sorts last."""
    latest: dict[tuple[str, str, str, str], Label] = {}
    for label in sorted(labels, key=lambda item: (item.at, canonical_json(item.as_row()))):
        latest[label.key] = label
    return sorted(latest.values(), key=lambda item: item.key)


def update_labels(root: Path, name: str, change: Callable[[list[Label]], Iterable[Label]]) -> list[Label]:
    """Read the labels, change them and write them back, all or nothing, one process at a time; returns what was written.

    Raises DataError when the file there is not valid, EvaluationError when it cannot be written, RefusedError for a path that leaves the project.
    """
    tree = WorkTree(root)
    prepare_folder(root)
    with store_lock(root / STORE_FOLDER, timeout_s=_WAIT_S, name=f"labels-{name}", what=labels_path(name)):
        labels = current_labels(change(read_labels(tree, name)))
        write_whole(tree.resolve(labels_path(name)), labels_text(labels), what="the labels")
    return labels


def add_labels(root: Path, name: str, labels: Iterable[Label]) -> list[Label]:
    """Add labels, each in place of what the same reviewer said of the same answer before; returns all labels of the prompt."""
    new = {label.key: label for label in labels}
    return update_labels(root, name, lambda known: [*(label for label in known if label.key not in new), *new.values()])


def remove_labels(root: Path, name: str, keys: Iterable[tuple[str, str, str, str]]) -> list[Label]:
    """Take labels back; returns those that are left."""
    gone = set(keys)
    return update_labels(root, name, lambda known: [label for label in known if label.key not in gone])


def labels_text(labels: Iterable[Label]) -> bytes:
    """The file: fields in a fixed order with the answer last, so that a diff shows who said what first."""
    import orjson

    return b"".join(orjson.dumps(label.as_row()) + b"\n" for label in labels)
