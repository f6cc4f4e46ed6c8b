"""Whether something simpler does as well: advice, rows, and what may be learnt from."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from conftest import PROMPT, Outcome, Sandbox
from promptops.evaluation.alternatives import cases_needed
from promptops.gate import CaseDraws, decide
from promptops.report.alternatives import _label

Call = Callable[..., Outcome]
TOPICS = {"delivery": "the parcel came {} days late", "product": "this lamp broke after {} days"}


def case(name: str, category: str, text: str, label: str) -> dict[str, Any]:
    return {"id": f"c{name}", "category": category, "inputs": {"feedback": text}, "expected": {"sentiment": label}}


def many_cases(sandbox: Sandbox, each: int = 60) -> None:
    """Two categories that the rules tell apart: delivery is always answered right by them, product never."""
    rows = [
        {"id": f"{category}-{number:02}", "category": category, "inputs": {"feedback": text.format(number)},
         "expected": {"sentiment": "negative" if category == "delivery" else "neutral"}, "tags": {"length": "short"}}
        for category, text in TOPICS.items() for number in range(each)
    ]  # fmt: skip
    sandbox.write_rows(rows)


def a_model(sandbox: Sandbox, answer: str) -> None:
    """A candidate for a model: other rules under another name, through the extractive slot of the configuration."""
    sandbox.write(
        f"prompts/{PROMPT}/rules.yaml",
        sandbox.read(f"prompts/{PROMPT}/rules.yaml") + f"search: {{found: {answer}, missing: {answer}}}\n",
    )


def measured(call: Call, *arguments: str) -> dict[str, Any]:
    outcome = call("alternatives", PROMPT, "--json", *arguments)
    assert 0 == outcome.code, outcome.out
    return dict(outcome.json)


def test_simple_answers_are_measured_and_what_does_not_apply_says_why(call: Call):
    found = measured(call)

    rates = {item["name"]: item["rate"] for item in found["measured"] if item["rate"] is not None}
    skipped = {item["name"]: item["why_not"] for item in found["measured"] if item["why_not"]}
    assert ("no model measured", {"local:rules", "local:nearest", "local:constant", "local:extractive"}) == (
        found["advice"],
        set(rates),
    )
    assert max(rates.values()) == rates["local:rules"]
    assert f"prompt {PROMPT} does not configure local:search" == skipped["local:search"]


def test_a_model_that_is_worse_everywhere_is_not_used(call: Call):
    found = measured(call, "--models", "local:echo")

    (rivalry,) = found["rivalries"]
    assert ("use the simpler one", "local:rules", "local:echo") == (
        found["advice"],
        rivalry["simple"],
        rivalry["model"],
    )
    assert {"simple"} == {row["choice"] for row in rivalry["rows"]}


def test_each_category_goes_to_what_is_better_with_it(sandbox: Sandbox, call: Call):
    """The rules are right on delivery, the model on product: both are used, and the mix beats the model."""
    many_cases(sandbox)
    a_model(sandbox, "{sentiment: neutral}")
    found = measured(call, "--models", "local:search", "--requests-per-day", "10")

    # nearest and constant see that all cases of a category expect the same, so they win by far; only rules are looked at here
    (rivalry,) = found["rivalries"]
    rows = {row["name"]: row["choice"] for row in rivalry["rows"]}
    assert "simple" == rows["delivery"]
    assert rivalry["model"] == "local:search"
    assert found["advice"] in ("use both", "use the simpler one")


def test_runs_that_are_there_are_used_again(call: Call):
    """A second look at the same content makes no new run."""
    measured(call)
    before = [item["run"] for item in call("runs", "list", "--json").json["runs"]]
    measured(call)

    assert before == [item["run"] for item in call("runs", "list", "--json").json["runs"]]


def test_rows_to_learn_from_are_never_golden_cases(sandbox: Sandbox, call: Call):
    """A golden case in disguise would be an answer known beforehand; it is left out and counted."""
    golden = sandbox.rows()[0]
    rows = [{**golden, "id": "x1", "inputs": {"feedback": golden["inputs"]["feedback"].upper()}},
            {**golden, "id": "x2", "inputs": {"feedback": "The courier was late once more."}}]  # fmt: skip
    sandbox.write("more.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    outcome = call("alternatives", PROMPT, "--train", "more.jsonl", "--json")

    assert ("1 of 2 rows of more.jsonl are golden cases" in outcome.err, 1) == (True, outcome.json["trained_on"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}\n", "more.jsonl:1"), ("not json\n", "more.jsonl:1: not a valid row"), ("", "more.jsonl: no rows"),
        ('{"id": "a", "category": "x", "inputs": {"text": "y"}}\n', "more.jsonl:1: input 'text' is not declared"),
    ],
)  # fmt: skip
def test_bad_rows_are_named_before_anything_is_asked(text: str, said: str, sandbox: Sandbox, call: Call):
    sandbox.write("more.jsonl", text)
    outcome = call("alternatives", PROMPT, "--train", "more.jsonl")

    assert (2, True, []) == (outcome.code, said in outcome.err, call("runs", "list", "--json").json["runs"])


def test_what_is_written_is_markdown_page_and_json(sandbox: Sandbox, call: Call):
    call("alternatives", PROMPT, "--models", "local:echo", "-o", "a.md", "-o", "a.html", "-o", "a.json")

    page = sandbox.read("a.html")
    assert sandbox.read("a.md").startswith("**use the simpler one** ")
    assert (True, 0, 6) == (
        "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page,
        page.count("<script"),
        page.count('class="question"'),
    )
    assert "use the simpler one" == json.loads(sandbox.read("a.json"))["advice"]
    assert 2 == call("alternatives", PROMPT, "-o", "a.pdf").code


def test_more_cases_are_needed_the_wider_the_interval_is():
    """Four times the half width needs sixteen times the cases, and never fewer than one more."""
    few = [CaseDraws(case_id=str(number), category="c", draws=(float(number % 2),)) for number in range(8)]
    verdict = decide(
        few, [CaseDraws(case_id=item.case_id, category="c", draws=(1 - item.draws[0],)) for item in few]
    ).total

    assert cases_needed(verdict) > verdict.n


def test_the_decision_is_a_tree_of_measured_facts(sandbox: Sandbox, call: Call):
    """One answer, labels, free text, good enough, tolerance: each with its fact, the way taken and the way not taken, down to the advice."""
    found = measured(call, "--models", "local:echo", "-o", "a.md")

    last = found["nodes"][-1]
    assert (5, True, True) == (len(found["nodes"]), last["answer"], "a loss of 10 points is tolerated; local:rules differs by +72.7 points" in last["fact"])  # fmt: skip
    assert all(node["then"] and node["otherwise"] and node["then"] != node["otherwise"] for node in found["nodes"])
    tree = sandbox.read("a.md").partition("```mermaid\n")[2].partition("```")[0].splitlines()
    assert ("flowchart TD", '  advice(["use the simpler one"])', 5, 5) == (
        tree[0], tree[-1], sum("==>" in line for line in tree), sum("-.->" in line for line in tree),
    )  # fmt: skip


def test_without_a_model_the_tolerance_is_not_answered(call: Call):
    """Nothing is known of a loss against a model that was not measured."""
    last = measured(call)["nodes"][-1]

    assert (False, "measure a model: nothing is known of the loss") == (last["answer"], last["then"])


def test_labels_of_the_tree_cannot_leave_their_box():
    """Whatever a model is called, quotes, brackets and line ends do not reach the drawing."""
    found = _label('a"] [x];{b}<script> | ==> q0 `-- #quot; \n "]')

    assert not set(found) & set('"[]{};<>|`#\n')
    assert "a ) (x), b" in found


@pytest.mark.parametrize(
    "rows",
    [
        [case("a", "product", "x y", "negative")], [case(str(number), "product", f"text {number}", "negative") for number in range(6)],
        [{**case(str(number), "product", f"text {number}", ""), "expected": {}} for number in range(6)],
    ],
    ids=["one case", "one category", "no labels"],
)  # fmt: skip
def test_odd_sets_give_numbers_or_reasons(sandbox: Sandbox, call: Call, rows: list[dict[str, Any]]):
    """No traceback: what cannot be tried says why, what can is measured."""
    sandbox.replace(f"golden/{PROMPT}.yaml", "categories:\n  delivery:\n  product:\n", "")
    sandbox.replace(f"golden/{PROMPT}.yaml", "  - {check: equals, path: /sentiment}\n", "")
    sandbox.write_rows(rows)

    outcome = call("alternatives", PROMPT, "--models", "local:echo", "--json")

    assert 0 == outcome.code, outcome.err
    assert all(item["why_not"] or item["n"] == len(rows) for item in outcome.json["measured"])


def test_each_row_has_both_sides_with_interval_cost_and_latency(sandbox: Sandbox, call: Call):
    """A category is decided by more than a rate: in the table, in Markdown and in JSON."""
    found = measured(call, "--models", "local:echo", "-o", "a.md")

    (rivalry,) = found["rivalries"]
    sides = [side for row in rivalry["rows"] for side in row["sides"].values()]
    assert all(
        side["interval"][0] <= side["interval"][1] and side["thousand_nanousd"] == 0 and side["p99_s"] >= 0
        for side in sides
    )
    assert (
        "| n | model | model 95% | model 1,000 | model p99 | simple | simple 95% | simple p99 | points |"
        in sandbox.read("a.md")
    )
