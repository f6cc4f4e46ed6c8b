"""golden/<name>.jsonl: every bad row is listed, nothing empty passes, and the digest is that of the content."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import PROMPT, Sandbox
from promptops.core.checks import Contains, Equals
from promptops.core.errors import DataError, RefusedError
from promptops.core.prompt import Example, Prompt
from promptops.core.schema import compile_schema
from promptops.core.suite import Suite
from promptops.project.golden import MAX_PROBLEMS, GoldenScan, read_cases, scan_golden
from promptops.project.tree import WorkTree

PATH = f"golden/{PROMPT}.jsonl"
SCHEMA = compile_schema(
    {"type": "object", "additionalProperties": False, "required": ["q"], "properties": {"q": {"type": "string"}, "n": {"type": "integer"}}}
)  # fmt: skip
BARE = Prompt(name="p", messages=(), input_schema=SCHEMA)


class Memory:
    """A tree of one file, which may be endless; it must be streamed."""

    def __init__(self, *lines: bytes) -> None:
        self.lines = lines

    def read(self, path: str) -> bytes:
        raise AssertionError("a golden file is never read at once")

    def open(self, path: str) -> BinaryIO:
        return Stream(iter(self.lines))  # type: ignore[return-value]

    def names(self, folder: str) -> list[str]:
        return []


class Stream:
    def __init__(self, lines: Iterator[bytes]) -> None:
        self.lines = lines

    def __iter__(self) -> Iterator[bytes]:
        return self.lines

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def suite(**options: Any) -> Suite:
    return Suite(**{"name": "s", "prompt": "p", "cases_path": "golden/s.jsonl", "checks": ()} | options)


def line(name: str = "a", **fields: Any) -> bytes:
    return json.dumps({"id": name, "category": "c", "inputs": {"q": "x"}} | fields, ensure_ascii=False).encode() + b"\n"


def scan(*lines: bytes, limit: int = 10_000, prompt: Prompt = BARE, **options: Any) -> GoldenScan:
    return scan_golden(Memory(*lines), suite(**options), prompt, max_case_bytes=limit)


def problems_of(*lines: bytes, **options: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        scan(*lines, **options)
    return [str(problem).removeprefix("golden/s.jsonl:").strip() for problem in caught.value.problems]


def test_a_scan_counts_categories_and_declared_slices():
    """What a plan needs to know, from one pass; a tag that is no slice is only a note."""
    found = scan(
        line("a", tags={"lang": "de", "note": "x"}), b"\n", line("b", tags={"lang": "ja"}), line("c", category="d"), slices=("lang",)
    )  # fmt: skip

    assert (3, {"c": 2, "d": 1}, {"lang=de": 1, "lang=ja": 1}) == (found.count, found.categories, found.slices)


BAD_LINES = {
    b'{"id": "a", "category": "c"': "not a valid row, ",
    b'{"id": "a", "id": "b", "category": "c", "inputs": {"q": "x"}}': "not a valid row, duplicate key 'id'",
    b'{"id": "a", "category": "c", "inputs": {"q": "x\x00"}}': "not a valid row, ",
    b'{"id": "a", "category": "c", "inputs": {"q": "x\\u0000"}}': "not a valid row, NUL character",
    b'{"id": "a", "category": "c", "inputs": {"q": "\\ud800"}}': "not a valid row, ",
    b'{"id": "a", "category": "c", "inputs": {"q": "\xff"}}': "not a valid row, ",
    b'{"id": "a", "category": "c", "inputs": {"q": "x"}, "expected": {"n": NaN}}': "not a valid row, ",
    b'{"id": "a", "category": "c", "inputs": {"q": "x"}, "expected": {"n": 99999999999999999999}}': "not a valid row, integer beyond 64 bits",
    b'\xef\xbb\xbf{"id": "a", "category": "c", "inputs": {"q": "x"}}': "not a valid row, ",
    b'{"id": "a", "category": "c", "inputs": ' + b'{"q":' * 300 + b"1" + b"}" * 301: "not a valid row, nested deeper than 200 levels",
    b"[1]": 'the file is not of type "object"',
    b'{"id": "../a", "category": "c", "inputs": {"q": "x"}}': "`id` '../a' does not match",
    b'{"id": "a", "category": "C", "inputs": {"q": "x"}}': "`category` 'C' does not match",
    b'{"id": "a", "category": "c", "inputs": {"q": "x"}, "expectd": {}}': "unknown key 'expectd'; did you mean 'expected'?",
    b'{"id": "a", "category": "c", "inputs": {}}': 'inputs: "q" is a required property',
    b'{"id": "a", "category": "c", "inputs": {"q": "x", "m": 1}}': "input 'm' is not declared; known: n, q",
    b'{"id": "a", "category": "c", "inputs": {"q": "x", "n": "1"}}': 'inputs/n: value is not of type "integer"',
    line(q="x" * 2000).strip(): "not a valid row, ",
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_LINES, ids=range(len(BAD_LINES)))
def test_E23_a_bad_golden_line_is_refused_with_its_number(bad: bytes):
    """Torn, duplicate keys, NUL, surrogate, not UTF-8, BOM inside, too deep, too large, not the declared inputs."""
    (problem,) = problems_of(line("first"), b"\r\n", bad + b"\r\n", line("last"), limit=2000)

    assert problem.startswith(f"3: {BAD_LINES[bad]}")


def test_E23_every_bad_golden_line_is_listed():
    """All at once; a duplicate names the first line that has the id, however often it comes."""
    lines = [*BAD_LINES, *[line("again", tags={"n": str(number)}).strip() for number in range(5)]]

    found = problems_of(*(item + b"\n" for item in lines), limit=2000)

    count = len(BAD_LINES)
    assert {*range(1, count + 1), *range(count + 2, count + 6)} == {int(item.partition(":")[0]) for item in found}
    assert [f"duplicate id 'again', line {count + 1} has it too; give each case its own id"] * 4 == [
        item.partition(": ")[2] for item in found[-4:]
    ]


def test_E23_more_than_a_thousand_problems_are_counted():
    """A file of the wrong kind does not fill the terminal, and says how much more there is."""
    found = problems_of(*[b"x\n"] * (MAX_PROBLEMS + 7))

    assert (MAX_PROBLEMS + 1, "and 7 more problems") == (len(found), found[-1])


@pytest.mark.parametrize(
    ("lines", "options", "expected"),
    [
        ([], {}, ["no cases; write at least one golden case"]),
        ([b"\xef\xbb\xbf\n", b"\n", b"\r\n"], {}, ["no cases; write at least one golden case"]),
        ([line()], {"categories": ("c", "gone")}, ["category 'gone' has no case; add cases, or remove it from the suite"]),
        ([line(category="renamed")], {"categories": ("name", "rename")}, ["1: unknown category 'renamed'; did you mean 'rename'?"]),
        ([line(expected={"x": 1})], {"checks": (Equals(name="eq", path="/y"),)},
         ["golden/s.yaml:1: check 'eq' never applies, no case states expected/y; fix the pointer, or remove the check"]),
        ([line(expected={"x": 1})], {"checks": (Equals(name="eq", path="/y", expected="/x"),), "by_category": {"c": (Contains(name="co", expected="/z"),)}},
         ["golden/s.yaml:1: check 'co' never applies, no case states expected/z; fix the pointer, or remove the check"]),
    ],
)  # fmt: skip
def test_E24_nothing_to_judge_is_never_a_pass(lines: list[bytes], options: dict[str, Any], expected: list[str]):
    """No case, a category without cases or renamed, a check that no case can fail."""
    assert expected == problems_of(*lines, **options)


def test_E24_an_empty_golden_file_ends_the_command_with_2(sandbox: Sandbox):
    """From the file to the exit code."""
    sandbox.write(PATH, "")

    outcome = sandbox.run("eval")

    assert (2, f"{PATH}: no cases") == (outcome.code, outcome.err.partition("error: ")[2].partition(";")[0])


def test_a_case_that_is_a_few_shot_example_is_refused():
    """It would test what the prompt was shown; the order of the inputs' keys does not hide it."""
    prompt = Prompt(
        name="p", messages=(), input_schema=SCHEMA, examples=(Example(inputs={"n": 1, "q": "x"}, output=""),)
    )

    assert [
        "2: case 'b' is also a few-shot example, it would test what the prompt was shown; remove one of them"
    ] == problems_of(line("a"), line("b", inputs={"q": "x", "n": 1}), prompt=prompt)


ROWS = st.lists(
    st.fixed_dictionaries({"q": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)}, optional={"n": st.integers(0, 9)}),
    min_size=1, max_size=8,
).map(lambda found: [{"id": f"i{number}", "category": "c", "inputs": inputs} for number, inputs in enumerate(found)])  # fmt: skip


@given(
    ROWS,
    st.randoms(use_true_random=False),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n"]),
    st.booleans(),
    st.booleans(),
)
def test_the_digest_does_not_depend_on_order_line_ends_or_spelling(
    rows: list[dict[str, Any]], shuffle: random.Random, end: bytes, ascii_only: bool, mark: bool
):
    """The same rows in any order, key order, escapes, blanks, with or without byte order mark."""
    before = scan(*(json.dumps(row).encode() + b"\n" for row in rows))
    again = [dict(shuffle.sample(list(row.items()), len(row))) for row in shuffle.sample(rows, len(rows))]
    texts = [json.dumps(row, ensure_ascii=ascii_only, separators=(" ,", " : ")).encode() for row in again]
    if mark:
        texts[0] = b"\xef\xbb\xbf" + texts[0]

    after = scan(*(text + end for text in texts[:-1]), texts[-1])

    assert before.digest == after.digest


@given(ROWS, st.data())
def test_one_changed_character_changes_the_digest(rows: list[dict[str, Any]], data: st.DataObject):
    """Of an input, an id or a category; so does a row more."""
    before = scan(*(json.dumps(row).encode() for row in rows)).digest
    row = data.draw(st.sampled_from(rows))
    change: Callable[[dict[str, Any]], dict[str, Any]] = data.draw(
        st.sampled_from([
            lambda row: row | {"inputs": row["inputs"] | {"q": row["inputs"]["q"] + "."}},
            lambda row: row | {"id": row["id"] + "x"},
            lambda row: row | {"category": "d"},
            lambda row: row | {"expected": {"a": 1}},
            lambda row: row | {"tags": {"a": "b"}},
        ])
    )  # fmt: skip
    changed = [change(item) if item is row else item for item in rows]

    assert before not in (
        scan(*(json.dumps(item).encode() for item in changed)).digest,
        scan(*(json.dumps(item).encode() for item in rows), line("more")).digest,
    )


def test_cases_come_in_file_order_as_a_stream():
    """The first case is there before the second line is read."""
    found = scan(line("b"), line("a"))
    served: list[str] = []

    def lines() -> Iterator[bytes]:
        for name in ("b", "a"):
            served.append(name)
            yield line(name)

    class Lazy(Memory):
        def open(self, path: str) -> BinaryIO:
            return Stream(lines())  # type: ignore[return-value]

    cases = read_cases(Lazy(), suite(), found)
    first = next(cases)

    assert (("b", 1, ["b"]), ["a"]) == ((first.id, first.line, served[:]), [case.id for case in cases])


def test_a_case_digest_is_of_what_decides_its_score():
    """Category, inputs and expected values; not its id, tags, source or place."""
    lines = [
        line("a"),
        line("b", tags={"x": "y"}, source="z", group="g"),
        line("c", category="d"),
        line("d", expected={"a": 1}),
    ]

    digests = [case.digest for case in read_cases(Memory(*lines), suite(), scan(*lines))]

    assert (digests[0], 3) == (digests[1], len(set(digests)))


@pytest.mark.parametrize(
    "after",
    [[line("a")], [line("a"), line("b", category="d")], [line("a"), b"{torn\n"], [line("a"), b"[]\n"], [line("a"), line("b"), line("c")], []],
)  # fmt: skip
def test_a_file_that_changed_after_the_scan_is_noticed(after: list[bytes]):
    """A row gone, changed, torn or added while a run reads: the run says so and is not a verdict."""
    found = scan(line("a"), line("b"))

    with pytest.raises(DataError, match=r"golden/s\.jsonl: the golden file changed during the run; run again"):
        list(read_cases(Memory(*after), suite(), found))


def test_a_golden_file_that_cannot_be_read(tmp_path: Path):
    """Missing, or a folder: a problem with the path."""
    (tmp_path / "golden" / "folder.jsonl").mkdir(parents=True)
    for name, expected in (("none.jsonl", "file not found"), ("folder.jsonl", "file cannot be read")):
        with pytest.raises(DataError, match=f"golden/{name}: {expected}"):
            scan_golden(WorkTree(tmp_path), suite(cases_path=f"golden/{name}"), BARE, max_case_bytes=10_000)


def test_L11_golden_rows_linked_from_outside_are_refused(tmp_path: Path):
    """Rows decide verdicts; they are the project's own."""
    (tmp_path / "outside").write_bytes(line())
    (tmp_path / "p" / "golden").mkdir(parents=True)
    (tmp_path / "p" / "golden" / "s.jsonl").symlink_to(tmp_path / "outside")

    with pytest.raises(RefusedError):
        scan_golden(WorkTree(tmp_path / "p"), suite(), BARE, max_case_bytes=10_000)
