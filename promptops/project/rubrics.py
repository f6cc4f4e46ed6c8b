"""rubrics/<name>.yaml."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.rubric import PASS_AT, Criterion, Rubric, RubricExample
from promptops.project.formats import format_problems
from promptops.project.tree import Tree, read_text
from promptops.project.yamltext import Document, parse_yaml

FOLDER = "rubrics"
_TWO_QUESTIONS = re.compile(r"\b(?:and|and/or|et|und)\b", re.IGNORECASE)
_OUTSIDE_SUBJECT = ("name", "description")
_Path = tuple[str | int, ...]


def rubric_names(tree: Tree) -> list[str]:
    return [name.removesuffix(".yaml") for name in tree.names(FOLDER) if name.endswith(".yaml")]


def load_rubric(tree: Tree, name: str, *, wanted_by: str = "", categories: Sequence[str] = ()) -> Rubric:
    """A rubric; with `categories`, those it may speak of. Raises DataError with every problem."""
    where = f"{FOLDER}/{name}.yaml"
    if name not in rubric_names(tree):
        raise DataError(
            f"no rubric {name!r}",
            where=wanted_by,
            why=f"{where} does not exist",
            hint=did_you_mean(name, rubric_names(tree)),
        )
    document = parse_yaml(read_text(tree, where), where)
    problems = list(format_problems("rubric", document.value, lambda path: f"{where}:{document.line(path)}"))
    problems = problems or _Lint(document, where, name, categories).problems()
    if problems:
        raise DataError(problems=problems)
    value: Mapping[str, Any] = document.value
    common = tuple(Criterion(**criterion) for criterion in value["criteria"])
    return Rubric(
        name=name, criteria=common, examples=tuple(_example(item) for item in value.get("examples", ())),
        by_category={category: _override(common, entry) for category, entry in value.get("categories", {}).items()},
        pass_at=value.get("pass_at", PASS_AT), model=value.get("model", ""), votes=value.get("votes", 1),
        document={key: item for key, item in value.items() if key not in _OUTSIDE_SUBJECT},
    )  # fmt: skip


def _override(common: tuple[Criterion, ...], entry: Mapping[str, Any]) -> tuple[Criterion, ...]:
    """The common criteria in their order, some replaced or left out, and what is asked in addition."""
    own = {criterion["id"]: Criterion(**criterion) for criterion in entry.get("criteria", ())}
    skipped = set(entry.get("skip", ()))
    kept = tuple(own.pop(criterion.id, criterion) for criterion in common if criterion.id not in skipped)
    return (*kept, *own.values())


def _example(entry: Mapping[str, Any]) -> RubricExample:
    verdicts = {name: (verdict["score"], verdict["reason"]) for name, verdict in entry["verdicts"].items()}
    return RubricExample(input=entry["input"], answer=entry["answer"], verdicts=verdicts, reference=entry.get("reference", ""),
                         category=entry.get("category", ""))  # fmt: skip


class _Lint:
    """What a schema cannot say: names that must be known, scores that must fit their scale, questions that ask two things."""

    def __init__(self, document: Document, where: str, name: str, categories: Sequence[str]) -> None:
        self.document, self.where, self.name, self.known = document, where, name, categories
        self.value: Mapping[str, Any] = document.value
        self.found: list[Problem] = []

    def problems(self) -> list[Problem]:
        if self.value["name"] != self.name:
            self._add(
                ("name",), f"name {self.value['name']!r} differs from the file {self.name!r}", hint="make them equal"
            )
        self._criteria(("criteria",), self.value["criteria"])
        common = {criterion["id"] for criterion in self.value["criteria"]}
        for category, entry in self.value.get("categories", {}).items():
            self._category(category, entry, common)
        if not self.found:  # which scale a score belongs to is clear only when each criterion is there once
            for index, example in enumerate(self.value.get("examples", ())):
                self._example(index, example)
        return self.found

    def _add(self, path: _Path, what: str, *, why: str = "", hint: str = "") -> None:
        self.found.append(Problem(what=what, where=f"{self.where}:{self.document.line(path)}", why=why, hint=hint))

    def _criteria(self, path: _Path, criteria: list[dict[str, Any]]) -> None:
        seen: set[str] = set()
        for index, criterion in enumerate(criteria):
            at = (*path, index, "id")
            if criterion["id"] in seen:
                self._add(at, f"criterion {criterion['id']!r} is given twice", hint="rename or remove one")
            seen.add(criterion["id"])
            if _TWO_QUESTIONS.search(criterion["question"]):
                self._add(at, f"criterion {criterion['id']!r} asks two things at once", why="a judge cannot answer both with one verdict",
                          hint="split it at the `and`")  # fmt: skip

    def _category(self, category: str, entry: Mapping[str, Any], common: set[str]) -> None:
        path: _Path = ("categories", category)
        if self.known and category not in self.known:
            self._add(path, f"no case has the category {category!r}", hint=did_you_mean(category, self.known))
        for index, name in enumerate(entry.get("skip", ())):
            if name not in common:
                self._add((*path, "skip", index), f"unknown criterion {name!r}", hint=did_you_mean(name, common))
        self._criteria((*path, "criteria"), entry.get("criteria", []))
        if common <= set(entry.get("skip", ())) and not entry.get("criteria"):
            self._add(
                (*path, "skip"), f"category {category!r} has no criterion left", hint="leave one, or write one for it"
            )

    def _example(self, index: int, example: Mapping[str, Any]) -> None:
        path: _Path = ("examples", index)
        category = example.get("category", "")
        if category and self.known and category not in self.known:
            self._add(
                (*path, "category"), f"no case has the category {category!r}", hint=did_you_mean(category, self.known)
            )
        common = tuple(Criterion(**criterion) for criterion in self.value["criteria"])
        overrides = self.value.get("categories", {})
        criteria = {
            item.id: item for item in (_override(common, overrides[category]) if category in overrides else common)
        }
        for name, verdict in example["verdicts"].items():
            at = (*path, "verdicts", name)
            if name not in criteria:
                self._add(at, f"unknown criterion {name!r}", hint=did_you_mean(name, criteria))
            elif not criteria[name].allows(verdict["score"]):
                scale = criteria[name].scale
                self._add(at, f"score {verdict['score']!r} is not on the scale {scale} of {name!r}",
                          hint="write true or false" if scale == "pass_fail" else "write 1 to 5")  # fmt: skip
