"""Rows that people bring in JSONL files: outcomes, labels, training rows."""

from pathlib import Path

import pytest

from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import Json
from promptops.project.jsonlines import MAX_LINE_BYTES, MAX_PROBLEMS, numbered_lines, take_rows


def taken(path: Path, *, most: int = 10) -> tuple[list[Json], list[str]]:
    """(rows, problems as text); a row that is the number 13 is refused."""
    rows: list[Json] = []

    def take(row: Json, where: str) -> list[Problem]:
        if row == 13:
            return [Problem(what="unlucky", where=where)]
        rows.append(row)
        return []

    try:
        take_rows(path, take, what="not a row", most=most, hint="write one")
    except DataError as error:
        return rows, [str(problem).replace(str(path), "F") for problem in error.problems]
    return rows, []


@pytest.mark.parametrize(
    ("content", "rows", "problems"),
    [
        (b"1\n\n  2  \r\n3", [1, 2, 3], []), (b"\xef\xbb\xbf1\n2\n", [1, 2], []),
        (b"1\n13\nnope\n2\n", [1, 2], ["F:2: unlucky", "F:3: not a row, unexpected character: line 1 column 1 (char 0); write one"]),
        (b"", [], ["F: no rows; write one"]), (b"\n \n", [], ["F: no rows; write one"]),
    ],
)  # fmt: skip
def test_rows_are_taken_and_bad_lines_named(tmp_path: Path, content: bytes, rows: list[Json], problems: list[str]):
    """Blank lines, line ends and the byte order mark do not count; every other line is a row or a problem."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)

    found = taken(path)

    assert (rows, [problem.partition(",")[0].partition(";")[0] for problem in problems]) == (found[0], [problem.partition(",")[0].partition(";")[0] for problem in found[1]])  # fmt: skip


@pytest.mark.parametrize("content", [b'"caf\xe9"\n', '"café"\n'.encode("utf-16")])
def test_another_encoding_is_named_with_its_line(tmp_path: Path, content: bytes):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)

    assert taken(path)[1][0].startswith("F:1: not a row, ")


def test_there_are_limits_to_rows_problems_and_length(tmp_path: Path):
    """One row too many, a thousand bad lines, 10 MB in one line: each said, and reading stops."""
    path = tmp_path / "rows.jsonl"
    path.write_text("1\n" * 11)
    assert ["F:11: more than 10 rows; take a random sample of them"] == taken(path)[1]
    path.write_text("x\n" * 3000)
    assert MAX_PROBLEMS == len(taken(path, most=5000)[1])
    path.write_text(f'"{"a" * MAX_LINE_BYTES}"\n1\n')
    assert ([1], [f"F:1: not a row, {MAX_LINE_BYTES + 2} bytes, more than {MAX_LINE_BYTES}; write one"]) == taken(path)


@pytest.mark.parametrize("name", ["none.jsonl", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str):
    with pytest.raises(DataError, match="file cannot be read"):
        list(numbered_lines(tmp_path / name))
