"""Golden cases go out and come back unchanged, and nothing that is wrong gets in."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import PROMPT, Outcome, Sandbox
from promptops.core.errors import DataError
from promptops.golden import golden_frame, import_frame
from promptops.project.golden_table import from_table, read_csv, to_table, write_csv

Call = Callable[..., Outcome]
ODD = ["001", "NA", "None", "null", "{{x}}", "=1+1", " padded ", "1e5", "a,b", 'say "hi"', "two\nlines", "cr\rhere", "crlf\r\n", "日本語", "", "\ufeffbom", "#"]  # fmt: skip
TEXT = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
)
SCALAR = st.one_of(TEXT, st.integers(-(2**53), 2**53), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False))  # fmt: skip
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=4)  # fmt: skip
KEY = st.one_of(st.sampled_from(["ticket", "a.b", "x:json", ":json", "", "id", "a,b"]), TEXT)


@st.composite
def golden_rows(draw: Any) -> list[dict[str, Any]]:
    ids = draw(st.lists(st.one_of(st.sampled_from(["001", "NA", "None", "1e5", "0"]), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True)),
                        unique=True, min_size=1, max_size=5))  # fmt: skip
    rows = []
    for name in ids:
        row: dict[str, Any] = {"id": name, "category": draw(st.sampled_from(["na", "a", "b-1"])), "inputs": draw(st.dictionaries(KEY, VALUE, max_size=3))}  # fmt: skip
        if draw(st.booleans()):
            row["expected"] = draw(st.dictionaries(KEY, VALUE, max_size=3))
        if draw(st.booleans()):
            row["tags"] = draw(st.dictionaries(st.sampled_from(["lang", "a_b"]), st.sampled_from(["ja", "NA"])))
        row |= draw(st.sampled_from([{}, {"source": ""}, {"source": "001"}, {"group": "NA"}]))
        rows.append(row)
    return rows


@given(golden_rows())
def test_csv_gives_back_every_row_as_it_was(rows: list[dict[str, Any]]):
    """Whatever the values are: texts that look like numbers or nothing, line ends, numbers, nested values, odd names."""
    columns, cells, where = read_csv(write_csv(to_table(rows)), "f.csv")

    assert rows == from_table(columns, cells, where)


@given(golden_rows())
def test_pandas_reads_the_csv_as_the_frame_is(rows: list[dict[str, Any]]):
    """With dtype=str and keep_default_na=False, as the documentation says; pandas itself drops a mark at the very beginning."""
    table = to_table(rows)
    frame = pd.read_csv(io.StringIO(write_csv(table), newline=""), dtype=str, keep_default_na=False)

    expected = [list(row) for row in table.rows]
    assert expected == frame.to_numpy().tolist()


def add(call: Call, sandbox: Sandbox, name: str, content: str | bytes, *options: str) -> Outcome:
    sandbox.write(name, content)
    return call("golden", "import", PROMPT, name, *options)


HEADER = "id,category,inputs.feedback,expected.sentiment\n"


def test_exported_cases_imported_again_change_nothing(call: Call, sandbox: Sandbox):
    """The file keeps its bytes: CSV, JSON lines and a data frame."""
    rows = [*sandbox.rows(), *({"id": name, "category": "product", "inputs": {"feedback": text}, "expected": {"sentiment": "neutral"}}
            for name, text in (("001", "001"), ("NA", "NA"), ("None", "None"), ("t", "{{x}}"), ("f", "=1+1")))]  # fmt: skip
    sandbox.write_rows(rows)
    before = sandbox.read(f"golden/{PROMPT}.jsonl")

    for file in ("out.csv", "out.jsonl"):
        assert 0 == call("golden", "export", PROMPT, "-o", file).code
        done = call("golden", "import", PROMPT, file, "--replace", "--json").json
        assert (0, 0, 27, 0) == (done["added"], done["changed"], done["unchanged"], done["removed"])
    import_frame(golden_frame(PROMPT, root=sandbox.root), PROMPT, root=sandbox.root, replace=True)

    assert before == sandbox.read(f"golden/{PROMPT}.jsonl")


def test_rows_of_a_spreadsheet_are_added_as_they_are_written(call: Call, sandbox: Sandbox):
    """Leading zeros and words for nothing are text, and the lines that were there keep their bytes."""
    before = sandbox.read(f"golden/{PROMPT}.jsonl")

    done = add(
        call,
        sandbox,
        "new.csv",
        "\ufeff" + HEADER + '001,product,NA,neutral\r\nNone,product,"{{x}}",neutral\r\n,,,\r\n',
    )

    assert (0, "IMPORTED") == (done.code, done.out.split()[0])
    after = sandbox.read(f"golden/{PROMPT}.jsonl")
    assert (
        before
        + (
            '{"id":"001","category":"product","inputs":{"feedback":"NA"},"expected":{"sentiment":"neutral"}}\n'
            '{"id":"None","category":"product","inputs":{"feedback":"{{x}}"},"expected":{"sentiment":"neutral"}}\n'
        )
        == after
    )


def test_a_known_id_is_changed_only_on_demand(call: Call, sandbox: Sandbox):
    """Without --update it is an error that names the line; with --dry-run nothing is written."""
    name = sandbox.rows()[0]["id"]
    before = sandbox.read(f"golden/{PROMPT}.jsonl")
    changed = HEADER + f"{name},delivery,another text,neutral\n"

    refused = add(call, sandbox, "new.csv", changed)
    planned = add(call, sandbox, "new.csv", changed, "--update", "--dry-run")
    assert (2, 0, before) == (refused.code, planned.code, sandbox.read(f"golden/{PROMPT}.jsonl"))
    assert (
        f"error: new.csv:2: case '{name}' is there with other content; --update replaces it; or give it another id\n"
        == refused.err
    )

    assert 0 == add(call, sandbox, "new.csv", changed, "--update").code
    assert ("another text", 22) == (sandbox.rows()[0]["inputs"]["feedback"], len(sandbox.rows()))


BAD = {
    "wrong encoding": (b"id,category,inputs.feedback\na,product,caf\xe9\n", "new.csv:2: not UTF-8; save the file as UTF-8"),
    "empty": ("", "new.csv:1: no header line"),
    "header only": (HEADER, "no rows; write one case a line"),
    "too many cells": (HEADER + "a,product,x,y,z\n", "new.csv:2: 5 cells where the header has 4"),
    "open quote": (HEADER + 'a,product,"x,y\n', "new.csv: not CSV, unexpected end of data"),
    "unknown column": ("id,category,feedback\na,product,x\n", "unknown column 'feedback'"),
    "no category": ("id,inputs.feedback\na,x\n", "no column 'category'; every case needs one"),
    "twice": ("id,id,category\na,a,product\n", "two columns are called 'id'"),
    "no JSON": ("id,category,inputs.feedback:json\na,product,x\n", "new.csv:2: column 'inputs.feedback:json' holds no JSON"),
    "no such category": (HEADER + "a,Product X,x,neutral\n", "new.csv:2: "),
    "missing input": ("id,category\na,product\n", "new.csv:2: "),
    "same id twice": (HEADER + "a,product,x,neutral\nb,product,x,neutral\na,product,y,neutral\n", "new.csv:4: duplicate id 'a', line 2 has it too"),
    "1 MB row": (HEADER + f"a,product,{'x' * 1_100_000},neutral\n", "bytes, more than max_case_bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_whole(call: Call, sandbox: Sandbox, name: str):
    """Exit 2 with the file and line, and the golden file keeps its bytes."""
    content, message = BAD[name]
    before = sandbox.read(f"golden/{PROMPT}.jsonl")

    found = add(call, sandbox, "new.csv", content)

    assert (2, before) == (found.code, sandbox.read(f"golden/{PROMPT}.jsonl"))
    assert message in found.err


def test_a_set_that_does_not_lint_yet_says_so(call: Call, sandbox: Sandbox):
    """Rows may come in parts: what is missing is said, not refused."""
    row = HEADER + "a,product,fine,positive\n"

    done = add(call, sandbox, "new.csv", row, "--replace", "--json").json

    assert (1, 22) == (done["total"], done["removed"])
    assert json.loads(sandbox.read(f"golden/{PROMPT}.jsonl"))["id"] == "a"


def test_a_frame_that_was_read_as_numbers_is_refused(sandbox: Sandbox):
    """`001` that became 1 cannot be restored, so it does not get in."""
    frame = pd.read_csv(io.StringIO("id,category,inputs.feedback\n001,product,5\n"))

    with pytest.raises(DataError, match=r"frame:0: column 'id' holds int(64)?, not text; read with dtype=str"):
        import_frame(frame, PROMPT, root=sandbox.root)


def test_exports_to_stdout_by_default(call: Call, sandbox: Sandbox):
    found = sandbox.run("golden", "export", PROMPT)

    assert (0, 23) == (found.code, len(found.out.splitlines()))
    assert Path(sandbox.root / f"golden/{PROMPT}.jsonl").read_text("utf-8") == sandbox.run("golden", "export", PROMPT, "--format", "jsonl").out  # fmt: skip
