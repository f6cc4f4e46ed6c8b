"""Rows of JSONL, CSV and Parquet files, one file or a folder of them, here or at an fsspec URL: read as a stream, each row as a JSON line."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from promptops.core.errors import DataError, EvaluationError, RefusedError
from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.project.config import check_places
from promptops.project.golden_table import from_table
from promptops.project.jsonlines import numbered
from promptops.project.tree import Tree

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".parquet")
_BATCH = 1_000
_MAX_CELL = 2**31 - 1
_TABLES = ("inputs", "expected", "tags")


@dataclass(frozen=True, slots=True)
class RowFile:
    """One file of rows: its name for messages, and how to open it."""

    name: str
    open: Callable[[], BinaryIO]

    @property
    def suffix(self) -> str:
        """'' for a file of another kind."""
        return next((suffix for suffix in SUFFIXES if self.name.endswith(suffix)), "")


class RowStream:
    """(number, JSON line) of each row, numbered through all files in order of their names; `where` says where a row stands.

    Numbers of a CSV or JSONL file are its lines, those of a Parquet file its rows.
    """

    def __init__(self, files: Sequence[RowFile]) -> None:
        self._files = files
        self._starts: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        self._starts = []
        last = before = 0
        for file in self._files:
            before = last
            self._starts.append((before, file.name))
            for number, line in read_row_file(file):
                last = before + number
                yield last, line

    def where(self, number: int) -> str:
        for start, name in reversed(self._starts):
            if number > start:
                return f"{name}:{number - start}"
        return self._files[0].name if self._files else ""


def is_url(path: str) -> bool:
    return "://" in path


def tree_rows(tree: Tree, path: str) -> RowStream:
    """The rows at a path of a project, or at a URL that it names. Raises DataError without a file, RefusedError for a place that is not allowed."""
    if is_url(path):
        parts = urlsplit(path)
        if parts.scheme in ("file", "local"):
            raise RefusedError(
                "path leaves the project", where=path[:200], hint="use a relative path inside the project"
            )
        if parts.scheme != "memory":
            check_places("cases", [parts.netloc], os.environ)
        return RowStream(url_files(path))
    if path.endswith("/"):
        folder = path.rstrip("/")
        files = [RowFile(f"{folder}/{name}", _opener(tree, f"{folder}/{name}")) for name in tree.names(folder)]
        return RowStream(_with_rows(files, path))
    return RowStream([RowFile(path, _opener(tree, path))])


def _opener(tree: Tree, path: str) -> Callable[[], BinaryIO]:
    return lambda: tree.open(path)


def _with_rows(files: Sequence[RowFile], where: str) -> list[RowFile]:
    found = [file for file in files if file.suffix]
    if not found:
        raise DataError("no files of rows", where=where, hint="put .jsonl, .csv or .parquet files there")
    return found


def files_at(place: str) -> list[RowFile]:
    """`url_files`, or the same of a path on this machine."""
    if is_url(place):
        return url_files(place)
    path = Path(place)
    if any(sign in place for sign in "*?["):
        names = sorted(str(name) for name in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    else:
        names = sorted(str(name) for name in path.iterdir()) if path.is_dir() else [place]
    if len(names) == 1 and not RowFile(names[0], _path_opener(names[0])).suffix:
        raise DataError(f"cannot tell the format of {names[0]!r}", hint="use .jsonl, .csv or .parquet")
    return _with_rows([RowFile(name, _path_opener(name)) for name in names], place)


def _path_opener(name: str) -> Callable[[], BinaryIO]:
    return lambda: Path(name).open("rb")


def url_files(url: str) -> list[RowFile]:
    """The files at a URL: itself, what a pattern matches, or what a folder holds; sorted by name.

    Raises DataError when fsspec or its storage is not installed or nothing is there, EvaluationError when it cannot be reached.
    """
    try:
        import fsspec
    except ImportError as error:
        raise DataError("reading from a URL needs the package `fsspec`", where=url[:200], hint="pip install 'promptops[objects]'") from error  # fmt: skip
    try:
        system, path = fsspec.core.url_to_fs(url)
        if any(sign in path for sign in "*?["):
            names = sorted(system.glob(path))
        elif system.isdir(path):
            names = sorted(str(name) for name in system.ls(path, detail=False))
        else:
            names = [path] if system.exists(path) else []
    except (ImportError, ValueError) as error:
        raise DataError("this URL cannot be read", where=url[:200], why=str(error)[:200], hint="install the package of its storage: s3fs, gcsfs, adlfs") from error  # fmt: skip
    except OSError as error:
        raise EvaluationError("the files cannot be listed", where=url[:200], why=str(error)[:200]) from error
    scheme = url.partition("://")[0] + "://" if is_url(url) else ""
    files = [
        RowFile(scheme + str(name).lstrip("/") if scheme else str(name), _url_opener(system, str(name)))
        for name in names
    ]
    if not files:
        raise DataError("file not found", where=url[:200], hint="name a file, a folder, or a pattern such as *.parquet")
    if len(files) == 1 and not files[0].suffix:
        raise DataError(f"cannot tell the format of {files[0].name!r}", hint="use .jsonl, .csv or .parquet")
    return _with_rows(files, url)


def _url_opener(system: Any, name: str) -> Callable[[], BinaryIO]:
    return lambda: system.open(name, "rb")


def read_row_file(file: RowFile, *, as_log: bool = False) -> Iterator[tuple[int, bytes]]:
    """(number, JSON line) of each row of one file. Raises DataError for what cannot be read, with its place.

    A log may have any columns in CSV; golden rows have those of `golden export`.
    """
    try:
        opened = file.open()
    except FileNotFoundError:
        raise DataError(
            "file not found", where=file.name, hint="put the golden cases there, one JSON object a line"
        ) from None
    except OSError as error:
        raise DataError("file cannot be read", where=file.name, why=error.strerror or str(error)[:200]) from None
    with opened:
        if file.suffix == ".csv":
            yield from _csv_lines(opened, file.name, as_log=as_log)
        elif file.suffix == ".parquet":
            yield from _parquet_lines(opened, file.name)
        else:
            yield from numbered(opened)


def _csv_lines(file: BinaryIO, name: str, *, as_log: bool) -> Iterator[tuple[int, bytes]]:
    before = csv.field_size_limit(_MAX_CELL)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    try:
        columns = next(reader, [])
        if not any(columns):
            raise DataError(
                "no header line",
                where=f"{name}:1",
                hint="the first line names the columns: id, category, inputs.<name>, ...",
            )
        rows = _csv_rows(reader, name, len(columns))
        while batch := list(islice(rows, _BATCH)):
            where = [f"{name}:{line}" for line, _ in batch]
            if as_log:
                filled = (
                    {column: cell for column, cell in zip(columns, cells, strict=True) if cell} for _, cells in batch
                )
                cases = [table_row(row, place) for row, place in zip(filled, where, strict=True)]
            else:
                cases = from_table(columns, [cells for _, cells in batch], where)
            yield from ((line, canonical_json(case)) for (line, _), case in zip(batch, cases, strict=True))
    except csv.Error as error:
        raise DataError("not CSV", where=f"{name}:{reader.line_num}", why=str(error), hint="quote cells with commas, quotes or line ends") from error  # fmt: skip
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", where=f"{name}:{reader.line_num + 1}", hint="save the file as UTF-8 (in a spreadsheet: CSV UTF-8)") from error  # fmt: skip
    finally:
        csv.field_size_limit(before)
        text.detach()  # whoever opened the file closes it


def _csv_rows(reader: Any, name: str, width: int) -> Iterator[tuple[int, list[str]]]:
    line = reader.line_num + 1
    for cells in reader:
        began, line = line, reader.line_num + 1
        if not any(cells):
            continue
        if len(cells) != width:
            raise DataError(f"{len(cells)} cells where the header has {width}", where=f"{name}:{began}", hint="quote cells with commas, quotes or line ends")  # fmt: skip
        yield began, cells


def _parquet_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError("Parquet needs the package `pyarrow`", where=name, hint="pip install 'promptops[parquet]'") from error  # fmt: skip
    number = 0
    try:
        for batch in ParquetFile(file).iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield number, canonical_json(table_row(row, f"{name}:{number}"))
    except ArrowException as error:
        raise DataError("not a Parquet file that can be read", where=name, why=str(error)[:200]) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError("a value that JSON does not have", where=f"{name}:{number}", why=str(error)[:200], hint="write dates and bytes as text") from error  # fmt: skip


def table_row(row: Mapping[str, Any], where: str) -> dict[str, Json]:
    """A row as a golden row: columns are tables (`inputs`), their members (`inputs.ticket`), or JSON (`inputs:json`); a null is no value."""
    found: dict[str, Any] = {}
    for column, value in row.items():
        if value is None:
            continue
        name, as_json = column.removesuffix(":json"), column.endswith(":json")
        try:
            said = parse_json(value) if as_json else _without_nulls(value)
        except (JsonError, TypeError) as error:
            raise DataError(f"column {column[:80]!r} holds no JSON", where=where, why=str(error)) from error
        table, dot, key = name.partition(".")
        if dot and table in _TABLES:
            found.setdefault(table, {})[key] = said
        elif isinstance(said, dict) and isinstance(found.get(name), dict):
            found[name] |= said
        else:
            found[name] = said
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
