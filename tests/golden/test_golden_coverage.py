"""Coverage says what users ask that no case is like, suggestions close the gap, and personal data stays out of the files."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]
TOPICS = {
    "parcel": "the parcel was delivered {} days too late by the courier",
    "lamp": "my new lamp flickers after {} hours in the kitchen",
    "refund": "please refund invoice number {} to my account today",
    "app": "the mobile app crashes when screen {} is opened twice",
}


def log(sandbox: Sandbox, counts: dict[str, int], extra: str = "") -> None:
    rows = [
        {"inputs": {"feedback": TOPICS[topic].format(number)}}
        for topic, many in counts.items()
        for number in range(many)
    ]
    sandbox.write("log.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + extra)


def golden(sandbox: Sandbox, *topics: str) -> None:
    sandbox.write_rows([
        {"id": f"{topic}-{number}", "category": category, "inputs": {"feedback": TOPICS[topic].format(100 + number)}, "expected": {"sentiment": "negative"}}
        for topic in topics for number, category in enumerate(("delivery", "product"))
    ])  # fmt: skip


def run(call: Call, command: str, *arguments: str) -> dict[str, Any]:
    found = call("golden", command, PROMPT, "--traffic", "log.jsonl", "--json", *arguments)
    assert 0 == found.code, found.out
    return dict(found.json)


def test_traffic_without_a_case_is_a_cluster_with_its_weight(call: Call, sandbox: Sandbox):
    """Half of the traffic is about something no case is about: that half is uncovered, and named."""
    golden(sandbox, "parcel", "lamp")
    log(sandbox, {"parcel": 30, "lamp": 30, "refund": 40, "app": 20})

    found = run(call, "coverage", "--radius", "0.5")

    assert (120, 120, 0) == (found["rows"], found["inputs"], found["idle"])
    assert 0.5 == pytest.approx(found["covered"])
    assert [(pytest.approx(40 / 120), "refund"), (pytest.approx(20 / 120), "app")] == [
        (cluster["share"], next(topic for topic in TOPICS if topic in cluster["example"]))
        for cluster in found["clusters"]
    ]


def test_suggestions_cover_more_with_each_case_and_take_the_heaviest_first(call: Call, sandbox: Sandbox):
    golden(sandbox, "parcel")
    log(sandbox, {"parcel": 10, "refund": 40, "lamp": 20, "app": 30})

    found = run(call, "suggest", "-k", "6", "--radius", "0.5")["suggestions"]

    assert ["refund", "app", "lamp"] == [next(topic for topic in TOPICS if topic in item["text"]) for item in found[:3]]
    covered = [item["covered"] for item in found]
    assert (sorted(covered), pytest.approx(1.0)) == (covered, covered[2])


def test_counts_weigh_and_a_repeated_input_is_one(call: Call, sandbox: Sandbox):
    golden(sandbox, "parcel", "lamp")
    rows = [
        {"feedback": TOPICS["refund"].format(1), "count": 7},
        {"feedback": TOPICS["refund"].format(1)},
        {"feedback": TOPICS["parcel"].format(1), "count": 2},
    ]
    sandbox.write("log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    found = run(call, "coverage")

    assert (10, 2, pytest.approx(0.2)) == (found["rows"], found["inputs"], found["covered"])


PERSONAL = (
    "mail ann@example.com or call +44 20 7946 0958 about card 4111 1111 1111 1111, account GB82 WEST 1234 5698 7654 32"
)


def test_added_cases_are_masked_and_wait_for_a_label(call: Call, sandbox: Sandbox):
    """Nothing is written twice, nothing gets into the set without a category, and a labelled row does."""
    golden(sandbox, "parcel", "lamp")
    log(sandbox, {"parcel": 5}, json.dumps({"feedback": PERSONAL}) + "\n")

    added = run(call, "add", "-k", "1")
    again = run(call, "add", "-k", "1")

    path = f"golden/{PROMPT}.todo.jsonl"
    row = json.loads(sandbox.read(path).splitlines()[0])
    assert "mail <email> or call <phone> about card <card>, account <iban>" == row["inputs"]["feedback"]
    assert ({"email": 1, "phone": 1, "card": 1, "iban": 1}, 1) == (added["masked"], added["added"])
    assert again["waiting"] <= 2
    refused = call("golden", "import", PROMPT, path)
    assert (2, True) == (refused.code, f"{path}:1: `category` ''" in refused.err)
    sandbox.write(path, json.dumps({**row, "category": "product", "expected": {"sentiment": "neutral"}}) + "\n")
    assert 0 == call("golden", "import", PROMPT, path).code
    assert row["id"] in {item["id"] for item in sandbox.rows()}


def test_personal_data_is_kept_only_on_demand_and_shown_never(call: Call, sandbox: Sandbox):
    """The page and the suggestions are for passing round; the file is the user's decision."""
    golden(sandbox, "parcel", "lamp")
    log(sandbox, {"parcel": 5}, json.dumps({"feedback": PERSONAL}) + "\n")

    shown = call("golden", "coverage", PROMPT, "--traffic", "log.jsonl", "-o", "page.html").out + sandbox.read(
        "page.html"
    )
    shown += json.dumps(run(call, "suggest", "-k", "3")) + json.dumps(run(call, "coverage"))
    run(call, "add", "-k", "3", "--keep-pii")

    assert "ann@example.com" not in shown
    assert "ann@example.com" in sandbox.read(f"golden/{PROMPT}.todo.jsonl")


def test_page_has_a_dot_for_each_input_and_no_text_as_markup(call: Call, sandbox: Sandbox):
    golden(sandbox, "parcel", "lamp")
    log(sandbox, {"parcel": 4, "refund": 3}, json.dumps({"feedback": "<script>alert(1)</script> & co"}) + "\n")

    call("golden", "coverage", PROMPT, "--traffic", "log.jsonl", "-o", "page.html")

    page = sandbox.read("page.html")
    assert (12, 4, 0) == (page.count("<circle"), page.count('class="golden"'), page.count("<script"))


BAD = {
    "empty": ("", "log.jsonl: no traffic, the file is empty"),
    "other fields": ('{"question": "x"}\n', "log.jsonl:1: no row is a request to this prompt, its inputs are not those of the prompt"),
    "no JSON": ("hello\n", "log.jsonl:1: no row is a request to this prompt, not a JSON line"),
    "wrong encoding": ('{"feedback": "caf\xe9"}\n'.encode("latin-1"), "not a JSON line"),
    "1 MB row": (json.dumps({"feedback": "x" * 1_100_000}) + "\n", "more than max_case_bytes"),
    "no words": ('{"feedback": "."}\n{"feedback": "!"}\n', "the texts have no word in common"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_useless_logs_are_refused(call: Call, sandbox: Sandbox, name: str):
    """Exit 2 with the reason; what is left out beside usable rows is counted in the result."""
    content, message = BAD[name]
    if name == "no words":
        sandbox.write_rows(
            [{**row, "inputs": {"feedback": "?" * number}} for number, row in enumerate(sandbox.rows(), 1)]
        )
    sandbox.write("log.jsonl", content)

    found = call("golden", "coverage", PROMPT, "--traffic", "log.jsonl")

    assert (2, True) == (found.code, message in found.err), found.err


def test_rows_that_are_left_out_are_counted(call: Call, sandbox: Sandbox):
    log(sandbox, {"parcel": 4}, 'garbage\n{"x": 1}\n{"feedback": "x", "count": 0}\n')

    assert {
        "not a JSON line": 1,
        "its inputs are not those of the prompt": 1,
        "`count` is no number of requests": 1,
    } == run(call, "coverage")["skipped"]


def test_a_row_may_stand_for_a_million_requests(call: Call, sandbox: Sandbox):
    """The limit is on rows of the log: an aggregated one weighs what it says."""
    rows = [{"feedback": "the parcel is late", "count": 10**6}, {"feedback": "the lamp is broken"}]
    sandbox.write("log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    assert 10**6 + 1 == run(call, "coverage")["rows"]
