"""Golden cases in CSV, Parquet and folders, here and at URLs: the same rows are the same set, and never all in memory."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PROMPT, Outcome, Sandbox
from promptops.project.golden import GoldenScan
from promptops.project.golden_table import to_table, write_csv
from promptops.project.project import open_project
from promptops.project.spill import SortedRecords

Call = Callable[..., Outcome]
SUITE = f"golden/{PROMPT}.yaml"


def point_to(sandbox: Sandbox, cases: str) -> None:
    sandbox.replace(SUITE, f"cases: {PROMPT}.jsonl", f"cases: {json.dumps(cases)}")


def scan(sandbox: Sandbox) -> GoldenScan:
    return open_project(sandbox.root).load(PROMPT).scan


def write_parquet(path: Any, rows: list[dict[str, Any]], **options: Any) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)


def flat(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose inputs and expected values are columns of their own, as a data frame has them."""
    return [
        {key: value for key, value in row.items() if not isinstance(value, dict)}
        | {
            f"{table}.{key}": value
            for table in ("inputs", "expected", "tags")
            for key, value in row.get(table, {}).items()
        }
        for row in rows
    ]


@pytest.mark.parametrize("form", ["cases.csv", "nested.parquet", "flat.parquet", "parts/", "memory://golden/parts", "memory://golden/*.parquet"])  # fmt: skip
def test_the_same_rows_are_the_same_set_in_every_form(sandbox: Sandbox, call: Call, form: str):
    """Digest, subject, counts and verdicts of a CSV file, a Parquet file, a folder or a URL are those of the JSONL file, whatever the order."""
    rows = sandbox.rows()
    before, here = scan(sandbox), call("eval", "--json").json["runs"][0]
    sandbox.path(f"golden/{PROMPT}.jsonl").unlink()
    sandbox.path("golden/parts").mkdir()
    sandbox.write("golden/cases.csv", write_csv(to_table(rows)))
    write_parquet(sandbox.path("golden/nested.parquet"), rows[::-1], row_group_size=5)
    write_parquet(sandbox.path("golden/flat.parquet"), flat(rows))
    sandbox.write("golden/parts/b.jsonl", "".join(json.dumps(row) + "\r\n" for row in rows[:8]))
    sandbox.write("golden/parts/a.csv", write_csv(to_table(rows[8:15])))
    write_parquet(sandbox.path("golden/parts/c.parquet"), rows[15:])
    memory = fsspec.filesystem("memory")
    for name in ("parts/1.parquet", "all.parquet"):
        with memory.open(f"/golden/{name}", "wb") as file:
            write_parquet(file, rows)
    point_to(sandbox, form)

    after, there = scan(sandbox), call("eval", "--json").json["runs"][0]

    assert (before.digest, before.count, before.categories) == (after.digest, after.count, after.categories)
    assert (here["subject"], here["total"]["passed"]) == (there["subject"], there["total"]["passed"])


def test_what_is_wrong_is_named_with_its_file_and_row(sandbox: Sandbox, call: Call):
    """A bad row of one file of many, a duplicate in another, a cell too many: all with their place, exit 2."""
    rows = sandbox.rows()
    sandbox.path("golden/parts").mkdir()
    sandbox.write("golden/parts/a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_parquet(sandbox.path("golden/parts/b.parquet"), [rows[3], rows[4] | {"id": "new", "category": "unheard"}])
    point_to(sandbox, "parts/")
    found = call("lint")
    sandbox.write("golden/parts/a.jsonl", "{}\n")
    sandbox.write("golden/parts/c.csv", "id,category,inputs.feedback\na,b,c,d\n")
    width = call("lint")

    assert (2, 2) == (found.code, width.code)
    assert (
        f"golden/parts/b.parquet:1: duplicate id '{rows[3]['id']}', golden/parts/a.jsonl:4 has it too"
        in found.out + found.err
    )
    assert "golden/parts/c.csv:2: 4 cells where the header has 3" in width.out + width.err


def test_cases_that_are_made_elsewhere_are_not_written_to(sandbox: Sandbox, call: Call):
    """`golden import` refuses to write to a Parquet file, and says what to do."""
    write_parquet(sandbox.path("golden/cases.parquet"), sandbox.rows())
    point_to(sandbox, "cases.parquet")
    sandbox.write("more.jsonl", json.dumps(sandbox.rows()[0] | {"id": "another"}) + "\n")

    refused = call("golden", "import", PROMPT, "more.jsonl")
    exported = call("golden", "export", PROMPT, "--format", "jsonl")

    assert (2, 0, 22) == (refused.code, exported.code, len(exported.out.splitlines()))
    assert "the cases of this suite are read only" in refused.err


@pytest.mark.parametrize(("cases", "code"), [("file:///etc/passwd.csv", 4), ("s3://a-bucket/x.parquet", 4), ("../x.csv", 2), ("/etc/x.csv", 2)])  # fmt: skip
def test_a_suite_cannot_read_what_its_reader_did_not_allow(sandbox: Sandbox, call: Call, cases: str, code: int):
    """A change of a suite could otherwise send any file or bucket that the reader can open to a model."""
    point_to(sandbox, cases)

    assert code == call("eval").code


def test_records_are_sorted_on_disk_when_they_are_many(tmp_path):
    """Parts are written and merged: the order and the count are those of a sort in memory."""
    records = [f"{number * 7919 % 10_007:05}".encode() * (number % 3 + 1) for number in range(5_000)]
    sorter = SortedRecords(part=300)
    for record in records:
        sorter.add(record)

    assert (sorted(records), 5_000) == (list(sorter), sorter.count)
    sorter.close()


def test_a_large_set_is_digested_in_bounded_memory():
    """100,000 records of 60 bytes in parts of 10,000 hold a few megabytes at once."""
    sorter = SortedRecords(part=10_000)
    tracemalloc.start()
    for number in range(100_000):
        sorter.add(f"{number * 7919 % 100_003:060}".encode())
    previous, count = b"", 0
    for record in sorter:
        assert previous <= record
        previous, count = record, count + 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sorter.close()

    assert 100_000 == count
    assert peak < 4_000_000
