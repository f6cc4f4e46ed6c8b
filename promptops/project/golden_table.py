"""Golden cases as a table of text and back: every id and every value comes back as it was.

A column is `id`, `category`, `source`, `group`, or a member of `inputs`, `expected` or `tags` (`inputs.ticket`). A cell is the
text itself, and an empty cell is no value. Where that could not tell everything (a number, a list, an empty text), the column's
name ends in `:json` and its cells hold JSON.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json

_PLAIN = ("id", "category", "source", "group")
_TABLES = ("inputs", "expected", "tags")
_ORDER = ("id", "category", "inputs", "expected", "tags", "source", "group")
_JSON = ":json"
_MAX_CELL = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def to_table(cases: Sequence[Mapping[str, Json]]) -> Table:
    """Golden rows as columns of text; the columns are those that some row has, `id` and `category` first."""
    flat = [dict(_flat(case)) for case in cases]
    names = sorted({name for row in flat for name in row}, key=_rank)
    as_json = {name for name in names if name.endswith(_JSON) or any(not _is_plain(row[name]) for row in flat if name in row)}  # fmt: skip
    columns = tuple(name + _JSON if name in as_json else name for name in names)
    rows = tuple(tuple(_cell(row, name, as_json=name in as_json) for name in names) for row in flat)
    return Table(columns=columns, rows=rows)


def from_table(columns: Sequence[str], rows: Iterable[Sequence[str]], where: Sequence[str]) -> list[dict[str, Json]]:
    """Golden rows of a table; `where` names each row. Raises DataError with every cell that cannot be read."""
    _check_columns(columns, where[0].partition(":")[0] if where else "")
    problems: list[Problem] = []
    found: list[dict[str, Json]] = []
    for place, row in zip(where, rows, strict=True):
        case: dict[str, Json] = {}
        # A whole table (`expected:json`) comes before its members, which add to it.
        for column, cell in sorted(zip(columns, row, strict=True), key=lambda item: item[0].count(".") > 0):
            if cell == "":
                continue
            try:
                _put(case, column.removesuffix(_JSON), parse_json(cell) if column.endswith(_JSON) else cell)
            except JsonError as error:
                problems.append(Problem(what=f"column {column!r} holds no JSON", where=place, why=str(error),
                                        hint=f"write JSON, or name the column {column.removesuffix(_JSON)!r} for plain text"))  # fmt: skip
        found.append({name: case[name] for name in _ORDER if name in case})
    if problems:
        raise DataError(problems=problems[:1000])
    return found


def write_csv(table: Table) -> str:
    """RFC 4180, with line ends inside cells kept. Cells that a spreadsheet takes for formulas are not changed."""
    out = StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return out.getvalue()


def read_csv(text: str, name: str) -> tuple[list[str], list[list[str]], list[str]]:
    """(columns, rows, where each row begins). Raises DataError for a file that is no table, with the line."""
    before = csv.field_size_limit(_MAX_CELL)
    try:
        return _read_csv(csv.reader(StringIO(text, newline=""), strict=True), name)
    except csv.Error as error:
        raise DataError(
            "not CSV", where=name, why=str(error), hint="quote cells with commas, quotes or line ends"
        ) from error
    finally:
        csv.field_size_limit(before)


def _read_csv(reader: Any, name: str) -> tuple[list[str], list[list[str]], list[str]]:
    columns: list[str] = next(reader, [])
    if not any(columns):
        raise DataError("no header line", where=f"{name}:1", hint="the first line names the columns: id, category, inputs.<name>, ...")  # fmt: skip
    rows: list[list[str]] = []
    where: list[str] = []
    problems: list[Problem] = []
    line = reader.line_num + 1
    for row in reader:
        place, line = f"{name}:{line}", reader.line_num + 1
        if not any(row):
            continue
        if len(row) != len(columns):
            problems.append(Problem(what=f"{len(row)} cells where the header has {len(columns)}", where=place, hint="quote cells with commas, quotes or line ends"))  # fmt: skip
            continue
        rows.append(row)
        where.append(place)
    if problems:
        raise DataError(problems=problems[:1000])
    return columns, rows, where


def _check_columns(columns: Sequence[str], where: str) -> None:
    problems = [Problem(what=f"two columns are called {name!r}", where=where, hint="rename one") for name in sorted(set(columns)) if columns.count(name) > 1]  # fmt: skip
    names = [column.removesuffix(_JSON) for column in columns]
    for name in names:
        table, dot, _ = name.partition(".")
        known = name in _PLAIN or (table in _TABLES and (dot or name + _JSON in columns))
        if not known:
            problems.append(Problem(what=f"unknown column {name[:80]!r}", where=where, why="columns are id, category, inputs.<name>, expected.<name>, tags.<name>, source, group",
                                    hint=did_you_mean(name, {*_PLAIN, *_TABLES}) or f"inputs.{name}?"))  # fmt: skip
    problems += [Problem(what=f"no column {name!r}", where=where, hint="every case needs one") for name in ("id", "category") if name not in names]  # fmt: skip
    if problems:
        raise DataError(problems=problems)


def _flat(case: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for name in _ORDER:
        value = case.get(name)
        if name in _TABLES and isinstance(value, dict) and value:
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        elif name in case:
            yield name, value


def _put(case: dict[str, Json], name: str, value: Json) -> None:
    table, dot, key = name.partition(".")
    if not dot or table not in _TABLES:
        case[name] = value
    elif isinstance(case.setdefault(table, {}), dict):
        case[table][key] = value


def _is_plain(value: Json) -> bool:
    return isinstance(value, str) and value != ""


def _cell(row: Mapping[str, Json], name: str, *, as_json: bool) -> str:
    if name not in row:
        return ""
    return canonical_json(row[name]).decode() if as_json else str(row[name])


def _rank(name: str) -> tuple[int, str]:
    return _ORDER.index(name.partition(".")[0]), name
