"""Coverage says what users ask that no case is like, suggestions close the gap, and personal data stays out of the files."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml

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


def test_figures_are_kept_for_exactly_these_cases_and_without_texts(call: Call, sandbox: Sandbox):
    """One line for each golden set; a radius of one's own measures nothing that is kept."""
    golden(sandbox, "parcel", "lamp")
    log(sandbox, {"parcel": 5}, json.dumps({"feedback": PERSONAL}) + "\nnot a row\n")
    path = f"golden/{PROMPT}.coverage.jsonl"

    run(call, "coverage", "--radius", "0.9")
    before = sandbox.path(path).exists()
    found = [run(call, "coverage"), run(call, "coverage")][-1]
    golden(sandbox, "parcel")
    run(call, "coverage")
    rows = [json.loads(line) for line in sandbox.read(path).splitlines()]

    assert (False, 2, 2) == (before, len(rows), len({row["golden_digest"] for row in rows}))
    assert {found["covered"]} <= {row["covered"] for row in rows}
    assert [(found["rows"], 1)] * 2 == [(row["requests"], row["left_out"]) for row in rows]
    assert "ann@example.com" not in sandbox.read(path)


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


def weights(call: Call, *arguments: str) -> dict[str, float]:
    """The snippet as YAML reads it."""
    text = call("golden", "coverage", PROMPT, "--traffic", "log.jsonl", "--weights", *arguments).out
    found = yaml.safe_load(text[text.index("categories:") :].partition("\nnext:")[0])
    return {name: entry["weight"] for name, entry in found["categories"].items()}


def test_weights_come_from_the_nearest_case(call: Call, sandbox: Sandbox):
    """Three quarters of the requests that are like a case are about parcels; those like none are left out, and said."""
    sandbox.write_rows([{"id": f"{topic}-{number}", "category": category, "inputs": {"feedback": TOPICS[topic].format(100 + number)}, "expected": {"sentiment": "negative"}}
                        for topic, category in (("parcel", "delivery"), ("lamp", "product")) for number in range(2)])  # fmt: skip
    log(sandbox, {"parcel": 30, "lamp": 10, "refund": 10})

    assert {"delivery": 75, "product": 25} == weights(call, "--radius", "0.5")
    assert (0.0, pytest.approx(0.8)) == (run(call, "coverage", "--radius", "0.5")["categories"]["stated"], run(call, "coverage", "--radius", "0.5")["categories"]["near"])  # fmt: skip


def test_weights_come_from_the_log_where_it_states_a_category(call: Call, sandbox: Sandbox):
    """What the log says goes before what is nearest; a category that the set does not have is not one."""
    golden(sandbox, "parcel")
    rows = [{"feedback": "it hums", "category": "product", "count": 3}, {"feedback": "late", "category": "delivery"}, {"feedback": "what", "category": "other"}]  # fmt: skip
    sandbox.write("log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    assert {"product": 75, "delivery": 25} == weights(call)
    assert 0.8 == pytest.approx(run(call, "coverage")["categories"]["stated"])


def test_weights_can_be_pasted_into_the_suite(call: Call, sandbox: Sandbox):
    """They are what `categories` takes, and a run shows the total by traffic."""
    golden(sandbox, "parcel")
    sandbox.write("log.jsonl", '{"feedback": "a", "category": "product"}\n{"feedback": "b", "category": "product"}\n{"feedback": "c", "category": "delivery"}\n')  # fmt: skip
    found = weights(call)
    sandbox.replace(f"golden/{PROMPT}.yaml", "  delivery:\n  product:\n", "".join(f"  {name}: {{weight: {share}}}\n" for name, share in found.items()))  # fmt: skip

    assert "by traffic: product 67%, delivery 33%" in call("eval").out


def test_without_a_known_category_there_are_no_weights(call: Call, sandbox: Sandbox):
    golden(sandbox, "parcel")
    log(sandbox, {"refund": 10})

    assert "no weights: the log states no category" in call("golden", "coverage", PROMPT, "--traffic", "log.jsonl", "--radius", "0.2", "--weights").out  # fmt: skip


def test_picture_has_dots_of_each_kind(call: Call, sandbox: Sandbox):
    """A PNG of fixed size with the three colours of its legend, and many more dots of what is not covered."""
    from PIL import Image

    golden(sandbox, "parcel", "lamp")
    log(sandbox, {"parcel": 10, "refund": 40, "app": 40})

    assert 0 == call("golden", "coverage", PROMPT, "--traffic", "log.jsonl", "--radius", "0.5", "-o", "p.png").code

    with Image.open(sandbox.path("p.png")) as image:
        counts = {colour: number for number, colour in image.convert("RGB").getcolors(1 << 24) or ()}
    uncovered, covered, ours = (counts.get(colour, 0) for colour in ((192, 57, 43), (138, 148, 166), (31, 95, 191)))
    assert (True, True, (1240, 920)) == (uncovered > covered > 0, ours > 0, image.size)


def test_picture_without_pillow_says_what_to_install(call: Call, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    golden(sandbox, "parcel")
    log(sandbox, {"parcel": 4})
    monkeypatch.setitem(sys.modules, "PIL", None)

    found = call("golden", "coverage", PROMPT, "--traffic", "log.jsonl", "-o", "p.png")

    assert (2, True, False) == (found.code, "pip install 'promptops[picture]'" in found.err, sandbox.path("p.png").exists())  # fmt: skip
