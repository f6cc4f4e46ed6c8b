"""JSONL files that people bring: read line by line, capped in lines and length, every bad line named."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import Json, JsonError, parse_json

MAX_PROBLEMS = 1000
MAX_LINE_BYTES = 10_000_000
_BOM = b"\xef\xbb\xbf"


def numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their number, without blanks around them and the byte order mark of the first."""
    for number, raw in enumerate(file, 1):
        line = (raw.removeprefix(_BOM) if number == 1 else raw).strip()
        if line:
            yield number, line


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The same of a file. Raises DataError when it cannot be read."""
    try:
        with path.open("rb") as file:
            yield from numbered(file)
    except OSError as error:
        raise DataError("file cannot be read", where=str(path), why=error.strerror or "") from None


def take_rows(
    path: Path, take: Callable[[Json, str], Iterable[Problem]], *, what: str, most: int, hint: str = ""
) -> None:
    """Give each row and its `file:line` to `take`, which keeps the row or says what is wrong with it.

    Raises DataError with every bad line (at most 1000; `what` and `hint` are said of a line that is no JSON, or longer than 10 MB),
    with `no rows` for none, and with the line where there are more than `most`.
    """
    problems: list[Problem] = []
    count = 0
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        count += 1
        if count > most:
            problems.append(Problem(what=f"more than {most} rows", where=where, hint="take a random sample of them"))
            break
        try:
            problems += take(_parse(line), where)
        except JsonError as error:
            problems.append(Problem(what=what, where=where, why=str(error), hint=hint))
        if len(problems) >= MAX_PROBLEMS:
            break
    if not count:
        problems.append(Problem(what="no rows", where=str(path), hint=hint))
    if problems:
        raise DataError(problems=problems)


def _parse(line: bytes) -> Json:
    if len(line) > MAX_LINE_BYTES:
        raise JsonError(f"{len(line)} bytes, more than {MAX_LINE_BYTES}")
    return parse_json(line)
