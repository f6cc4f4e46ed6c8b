"""Runs as JSONL files: a header, one line per answer, result and attempt, and a last line that proves the file is whole."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import JsonError, canonical_json, parse_json
from promptops.project.store import Result, Run, RunHeader, Store, StoredAnswer

FORMAT = 1


def export_run(store: Store, run: Run, path: Path) -> int:
    """Write a run to a file, all or nothing; returns the number of lines."""
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            count = _write(store, run, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return count


def _write(store: Store, run: Run, file: IO[bytes]) -> int:
    count = 0
    for line in _lines(store, run):
        file.write(canonical_json(line) + b"\n")
        count += 1
    file.write(canonical_json({"type": "end", "lines": count}) + b"\n")
    return count + 1


def _lines(store: Store, run: Run) -> Iterator[dict[str, Any]]:
    yield {"type": "run", "promptops": FORMAT, "state": run.state, "finished_at": run.finished_at, "header": asdict(run.header)}
    written: set[str] = set()
    for result in store.results(run.id):
        if result.answer_key not in written:
            written.add(result.answer_key)
            answer = store.find_answer(result.answer_key)
            if answer is not None:
                yield {"type": "answer", **asdict(answer)}
        yield {"type": "result", **asdict(result)}
    for key, started_at, outcome, cost in store.attempts(run.id):
        yield {"type": "attempt", "key": key, "started_at": started_at, "outcome": outcome, "cost_nanousd": cost}


def import_run(store: Store, path: Path) -> tuple[Run, list[str]]:
    """Read an exported run into the store; (run, notices). A run that is there already is left as it is.

    A duplicate result keeps the first and every attempt is counted. A torn last line makes the run incomplete.
    Raises DataError for a file that is no export, or torn elsewhere.
    """
    notices: list[str] = []
    header: dict[str, Any] | None = None
    attempts: list[tuple[str, str, str, int]] = []
    state, results, whole = "incomplete", set[tuple[str, int]](), False
    finished_at = ""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError("cannot read the exported run", where=str(path.name), why=error.strerror or "") from error
    with file:
        for number, row in _rows(file, path.name, notices):
            try:
                match row["type"]:
                    case "run":
                        header, state, finished_at = row["header"], row["state"], row["finished_at"]
                        fields = RunHeader(**{**row["header"], "slices": tuple(row["header"]["slices"])})
                        if store.has_run(fields.id):
                            return store.run(fields.id), [f"run {fields.id} is already here"]
                        store.begin_run(fields)
                    case "answer":
                        store.add_answer(StoredAnswer(**_fields(row)))
                    case "result":
                        key = (row["case_id"], row["draw"])
                        if key in results:
                            notices.append(f"line {number}: duplicate result of {row['case_id']}, the first is kept")
                        results.add(key)
                        assert header is not None
                        store.add_result(header["id"], Result(**{**_fields(row), "scores": tuple(tuple(item) for item in row["scores"])}))
                    case "attempt":
                        attempts.append((row["key"], row["started_at"], row["outcome"], row["cost_nanousd"]))
                    case "end":
                        whole = True
            except (KeyError, TypeError, AssertionError) as error:
                _discard(store, header)
                raise DataError("not a line of an exported run", where=f"{path.name}:{number}", why=type(error).__name__) from error
    if header is None:
        raise DataError("not an exported run", where=path.name, hint="make one with `promptops runs export`")
    store.import_attempts(header["id"], attempts)
    if not whole:
        notices.append("the file has no last line: it was cut, and the run is incomplete")
        state = "incomplete"
    store.finish_run(header["id"], state, finished_at)  # type: ignore[arg-type]
    return store.run(header["id"]), notices


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "type"}


def _discard(store: Store, header: dict[str, Any] | None) -> None:
    if header is not None:
        store.flush()
        store.delete_runs([header["id"]])


def _rows(file: IO[bytes], name: str, notices: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    torn: tuple[int, str] | None = None
    for number, line in enumerate(file, 1):
        if torn:
            raise DataError(problems=[Problem(what="torn line", where=f"{name}:{torn[0]}", why=torn[1], hint="export the run again")])
        try:
            row = parse_json(line)
            if not isinstance(row, dict) or (number == 1 and (row.get("type") != "run" or row.get("promptops") != FORMAT)):
                raise DataError("not an exported run of this format", where=f"{name}:{number}", hint="make one with `promptops runs export`")
            yield number, row
        except JsonError as error:
            if number == 1:
                raise DataError("not an exported run", where=f"{name}:1", why=str(error)) from None
            torn = (number, str(error))
    if torn:
        notices.append(f"line {torn[0]} is torn and was dropped")
