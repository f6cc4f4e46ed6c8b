"""Runs as JSONL files: a header, one line per answer, result and attempt, and a last line that proves the file is whole."""

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from dataclasses import fields as fields_of
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import IO, Any, Literal, TypeVar, get_args, get_origin

from promptops.core.errors import DataError
from promptops.core.jsontext import JsonError, canonical_json, parse_json
from promptops.core.names import is_name, is_run_id
from promptops.project.store import Result, Run, RunHeader, RunState, Store, StoredAnswer, Verdict
from promptops.project.tree import is_stream

_T = TypeVar("_T")
_Row = TypeVar("_Row", RunHeader, Result, StoredAnswer, Verdict)
FORMAT = 1
_FLUSH_EVERY = 1000
_BATCH = 500
_HINT = "make one with `promptops runs export`"


def export_run(store: Store, run: Run, path: Path) -> int:
    """Write a run to a file, all or nothing; returns the number of lines. A device or pipe is written to as it is."""
    if is_stream(path):
        with path.open("wb") as stream:
            return _write(store, run, stream)
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            count = _write(store, run, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
            _sync_folder(path.parent)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return count


def _sync_folder(folder: Path) -> None:
    """Make a rename in it last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(store: Store, run: Run, file: IO[bytes]) -> int:
    count = 0
    for line in _lines(store, run):
        file.write(canonical_json(line) + b"\n")
        count += 1
    file.write(canonical_json({"type": "end", "lines": count}) + b"\n")
    return count + 1


def _lines(store: Store, run: Run) -> Iterator[dict[str, Any]]:
    yield {
        "type": "run",
        "promptops": FORMAT,
        "state": run.state,
        "finished_at": run.finished_at,
        "header": asdict(run.header),
    }
    written: set[str] = set()
    for results in batches(store.results(run.id)):
        answers = store.find_answers([item.answer_key for item in results if item.answer_key not in written])
        for result in results:
            yield from _answer_line(answers.get(result.answer_key), result.answer_key, written)
            yield {"type": "result", **asdict(result)}
    for verdicts in batches(store.verdicts(run.id)):
        answers = store.find_answers([item.answer_key for _, _, item in verdicts if item.answer_key not in written])
        for case_id, draw, verdict in verdicts:
            yield from _answer_line(answers.get(verdict.answer_key), verdict.answer_key, written)
            yield {"type": "verdict", "case_id": case_id, "draw": draw, **asdict(verdict)}
    for key, started_at, outcome, cost in store.attempts(run.id):
        yield {"type": "attempt", "key": key, "started_at": started_at, "outcome": outcome, "cost_nanousd": cost}


def _answer_line(answer: StoredAnswer | None, key: str, written: set[str]) -> Iterator[dict[str, Any]]:
    """The answer under a key, before the first line that names it."""
    if answer is not None and key not in written:
        yield {"type": "answer", **asdict(answer)}
    written.add(key)


def batches(rows: Iterable[_T]) -> Iterator[list[_T]]:
    """What is looked up together: a query each would be a round trip each where the store is on a server."""
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def import_run(store: Store, path: Path) -> tuple[Run, list[str]]:
    """Read an exported run into the store; (run, notices). A run that is there already is left as it is.

    A duplicate result keeps the first and every attempt is counted. An answer whose key has another text here is kept beside it, as the run's own.
    A torn last line makes the run incomplete.
    Raises DataError for a file that is no export, or torn elsewhere; the store is then as before.
    """
    importer = _Importer(store, path.name)
    try:
        with store.all_or_nothing(), path.open("rb") as file:
            for batch in batches(importer.rows(file)):
                importer.meet([row for _, row in batch])
                if not all(importer.add(number, row) for number, row in batch):
                    break
            importer.finish()
    except OSError as error:
        raise DataError("cannot read the exported run", where=path.name, why=error.strerror or "") from error
    except (sqlite3.DatabaseError, OverflowError) as error:
        raise DataError("not a line of an exported run", where=path.name, why=str(error)[:200], hint=_HINT) from error
    return store.run(importer.run_id), importer.notices


class _Importer:
    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self.notices: list[str] = []
        self.header: RunHeader | None = None
        self.known = False
        self.state: RunState = "incomplete"
        self.finished_at = ""
        self.ended = self.whole = False
        self.results: set[tuple[str, int]] = set()
        self.kept: dict[str, StoredAnswer] = {}
        self.renamed: dict[str, str] = {}
        self.attempts: list[tuple[str, str, str, int]] = []

    def rows(self, file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
        torn = ""
        for number, line in enumerate(file, 1):
            if torn:
                raise DataError("torn line", where=f"{self.name}:{number - 1}", why=torn, hint="export the run again")
            try:
                row = parse_json(line)
            except JsonError as error:
                torn = str(error)
                continue
            yield number, row if isinstance(row, dict) else {}
        if torn:
            self.notices.append("the last line is torn and was dropped")

    def meet(self, rows: list[dict[str, Any]]) -> None:
        """Look up which answers of these lines are here already."""
        keys = [row["key"] for row in rows if row.get("type") == "answer" and isinstance(row.get("key"), str)]
        self.kept = {key: answer for key, answer in self.store.find_answers(keys).items() if answer.key == key}

    def add(self, number: int, row: dict[str, Any]) -> bool:
        """Take one line; False when the run is in the store already."""
        kind, fields = row.get("type"), {key: value for key, value in row.items() if key != "type"}
        try:
            if self.ended:
                self._unknown(number)
            elif kind == "run":
                self._begin(fields)
            elif kind == "answer":
                self._answer(_typed(StoredAnswer(**fields)))
            elif kind == "result":
                scores = tuple((name, ok, reason, value) for name, ok, reason, value in fields["scores"])
                self._result(number, _typed(Result(**{**fields, "scores": scores})))
            elif kind == "verdict":
                self._verdict(fields)
            elif kind == "attempt":
                self.attempts.append((fields["key"], fields["started_at"], fields["outcome"], fields["cost_nanousd"]))
            elif kind == "end":
                self.ended, self.whole = True, number > fields["lines"]
            else:
                self._unknown(number)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("not a line of an exported run", where=f"{self.name}:{number}", hint=_HINT) from error
        return not self.known

    def _unknown(self, number: int) -> None:
        raise DataError("not a line of an exported run", where=f"{self.name}:{number}", hint=_HINT)

    def finish(self) -> None:
        if self.header is None:
            raise DataError("not an exported run", where=self.name, hint=_HINT)
        if not self.known:
            self.store.import_attempts(self.header.id, self.attempts)
            if not self.whole:
                self.notices.append("lines are missing: the file was cut, and the run is incomplete")
                self.state = "incomplete"
            self.store.finish_run(self.header.id, self.state, self.finished_at)

    @property
    def run_id(self) -> str:
        return self.header.id if self.header else ""

    def _begin(self, fields: dict[str, Any]) -> None:
        header = _typed(RunHeader(**{**fields["header"], "slices": tuple(fields["header"]["slices"])}))
        if (
            self.header is not None
            or fields["promptops"] != FORMAT
            or not (is_run_id(header.id) and is_name(header.prompt))
        ):
            raise ValueError("header")
        if not all(map(_is_share, header.weights.values())):
            raise ValueError("weights")
        if fields["state"] not in get_args(RunState):
            raise ValueError("state")
        self.header, self.state, self.finished_at = header, fields["state"], str(fields["finished_at"])
        if self.store.has_run(header.id):
            self.known = True
            self.notices.append(f"run {header.id} is already here")
        else:
            self.store.begin_run(header)

    def _answer(self, answer: StoredAnswer) -> None:
        if answer.key in self.kept and answer != self.kept[answer.key] and self.header is not None:
            self.renamed[answer.key] = own_key(answer.key, self.header.id)
        self.store.add_answer(replace(answer, key=self._key(answer.key)))

    def _key(self, key: str) -> str:
        return self.renamed.get(key, key)

    def _verdict(self, fields: dict[str, Any]) -> None:
        if self.header is None:
            raise ValueError("a verdict before the header")
        case_id, draw = fields.pop("case_id"), fields.pop("draw")
        scores = {name: (float(value), str(reason)) for name, (value, reason) in fields["scores"].items()}
        if not isinstance(case_id, str) or not isinstance(draw, int):
            raise TypeError("case_id")
        verdict = _typed(Verdict(**{**fields, "scores": scores}))
        self.store.add_verdicts(
            self.header.id, case_id, draw, [replace(verdict, answer_key=self._key(verdict.answer_key))]
        )

    def _result(self, number: int, result: Result) -> None:
        if self.header is None:
            raise ValueError("a result before the header")
        key = (result.case_id, result.draw)
        if key in self.results:
            self.notices.append(f"line {number}: a second result of {result.case_id}; the first is kept")
            return
        self.results.add(key)
        self.store.add_result(self.header.id, replace(result, answer_key=self._key(result.answer_key)))
        if self.store.buffered >= _FLUSH_EVERY:
            self.store.flush()


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def own_key(key: str, run_id: str) -> str:
    """The key under which a run keeps an answer for itself."""
    return key if key.endswith(f":{run_id}") else f"{key}:{run_id}"


def _typed(row: _Row) -> _Row:
    """The row, when each of its fields has the type it is declared with. Raises TypeError."""
    for field in fields_of(row):
        declared: Any = field.type if isinstance(field.type, UnionType) else get_origin(field.type) or field.type
        value = getattr(row, field.name)
        allowed = get_args(field.type) if declared is Literal else None
        right = value in allowed if allowed else isinstance(value, declared)
        if not right or (isinstance(value, bool) and field.type is int):
            raise TypeError(field.name)
    return row
