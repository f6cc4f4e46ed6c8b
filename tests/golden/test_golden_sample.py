"""`golden sample`: stratified, reproducible whatever the order and the files, masked, and ready to be labelled."""

import json
from collections.abc import Callable
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from conftest import PROMPT, Outcome, Sandbox
from promptops.project.golden_table import Table, write_csv

Call = Callable[..., Outcome]
TODO = f"golden/{PROMPT}.todo.jsonl"


def log(many: int = 600) -> list[dict[str, Any]]:
    """Rows of two channels, one far larger, with some inputs that come again and again."""
    return [
        {"inputs": {"feedback": f"Request {number % 400} about parcel {number % 400 * 7}."}, "channel": "mail" if number % 20 else "phone", "user": number}
        for number in range(many)
    ]  # fmt: skip


def waiting(sandbox: Sandbox) -> list[str]:
    rows = [json.loads(line) for line in sandbox.read(TODO).splitlines()]
    sandbox.path(TODO).unlink()
    return [row["inputs"]["feedback"] for row in rows]


def test_the_sample_depends_on_rows_and_seed_alone(sandbox: Sandbox, call: Call):
    """JSONL, CSV and Parquet, one file or many, in any order, here or at a URL: the same inputs are drawn; another seed draws others."""
    rows = log()
    flat = [
        {"inputs.feedback": row["inputs"]["feedback"], "channel": row["channel"], "user": row["user"]} for row in rows
    ]
    sandbox.write("one.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    sandbox.path("parts").mkdir()
    sandbox.write("parts/a.jsonl", "".join(json.dumps(row) + "\n" for row in rows[:150:-1]))
    cells = tuple((row["inputs.feedback"], row["channel"], str(row["user"])) for row in flat[:100])
    sandbox.write("parts/b.csv", write_csv(Table(columns=("inputs.feedback", "channel", "user"), rows=cells)))
    pq.write_table(pa.Table.from_pylist(flat[100:151]), sandbox.path("parts/c.parquet"))
    with fsspec.filesystem("memory").open("/logs/day.parquet", "wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), file)

    drawn = {}
    for place in ("one.jsonl", "parts", "parts/*", "memory://logs/*.parquet"):
        done = call("golden", "sample", PROMPT, "--from", place, "--by", "channel", "--per-stratum", "9", "--json")
        drawn[place] = (done.json["strata"], done.json["rows"], waiting(sandbox))
    call("golden", "sample", PROMPT, "--from", "one.jsonl", "--by", "channel", "--per-stratum", "9", "--seed", "1")
    other = waiting(sandbox)

    strata, total, inputs = drawn["one.jsonl"]
    assert ({"mail": {"rows": 570, "drawn": 9}, "phone": {"rows": 30, "drawn": 9}}, 600, 18) == (
        strata,
        total,
        len(set(inputs)),
    )
    assert all(drawn["one.jsonl"] == found for found in drawn.values())
    assert set(inputs) != set(other)


def test_each_input_is_equally_likely_however_often_it_was_sent(sandbox: Sandbox, call: Call):
    """Over 60 seeds, an input that makes up half of the log is drawn about as often as one that came once."""
    rows = [{"inputs": {"feedback": "again"}}] * 40 + [
        {"inputs": {"feedback": f"once {number}"}} for number in range(39)
    ]
    sandbox.write("log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    often = 0
    for seed in range(60):
        call("golden", "sample", PROMPT, "--from", "log.jsonl", "--per-stratum", "10", "--seed", str(seed))
        often += "again" in waiting(sandbox)

    assert 3 <= often <= 30  # 15 expected of 60 at 10 of 40; both ends are beyond 1 in 10,000


def test_personal_data_is_masked_and_what_is_no_request_is_counted(sandbox: Sandbox, call: Call):
    """As `golden add` does; rows that are no requests are left out and said, and without any there is an error with the first."""
    sandbox.write(
        "log.jsonl", '{"inputs": {"feedback": "write to ann@example.com"}}\n{"inputs": {"other": 1}}\nnot json\n'
    )
    done = call("golden", "sample", PROMPT, "--from", "log.jsonl", "--json")
    found = waiting(sandbox)
    sandbox.write("none.jsonl", '{"a": 1}\n')
    none = call("golden", "sample", PROMPT, "--from", "none.jsonl")

    assert (1, 2, False) == (done.json["added"], sum(done.json["skipped"].values()), "ann@example.com" in found[0])
    assert 2 == none.code
    assert "none.jsonl:1" in none.err


def test_a_column_of_too_many_values_is_no_stratum(sandbox: Sandbox, call: Call):
    """1,001 values are refused with what to do, instead of a sample of everything."""
    sandbox.write("log.jsonl", "".join(json.dumps({"inputs": {"feedback": f"x {number}"}, "user": number}) + "\n" for number in range(1_001)))  # fmt: skip
    refused = call("golden", "sample", PROMPT, "--from", "log.jsonl", "--by", "user")

    assert 2 == refused.code
    assert "more than 1000 different values of 'user'" in refused.err


def test_sample_and_coverage_say_the_same_on_ray(sandbox: Sandbox, call: Call, ray_address: str):
    """Other processes read the files and count the features; what is drawn and measured is that of one process."""
    sandbox.path("parts").mkdir()
    rows = log()
    for part in range(4):
        sandbox.write(f"parts/{part}.jsonl", "".join(json.dumps(row) + "\n" for row in rows[part::4]))
    sandbox.write("all.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    said = []
    for engine in ((), ("--engine", "ray", "--workers", "2")):
        done = call(
            "golden", "sample", PROMPT, "--from", str(sandbox.path("parts")), "--by", "channel", "--json", *engine
        )
        said.append((done.json, waiting(sandbox), call("golden", "coverage", PROMPT, "--traffic", "all.jsonl", "--json", *engine).json))  # fmt: skip

    assert said[0] == said[1]
