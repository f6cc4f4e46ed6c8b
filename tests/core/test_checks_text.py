"""Checks that other tools have as well: beginnings, JSON, edits, alternatives, negations, and checks for some cases only."""

import pytest

from promptops.core.checks import (
    CaseFacts,
    Completion,
    Contains,
    EditDistance,
    Equals,
    IsJson,
    Latency,
    NotContains,
    Only,
    Score,
    Similarity,
    StartsWith,
)
from promptops.core.schema import compile_schema

NUMBER = compile_schema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
CASE = CaseFacts(category="a", inputs={}, expected={"text": "Paris", "some": ["x", "y"], "flag": True})


@pytest.mark.parametrize(
    ("check", "text", "passed"),
    [
        (Contains(name="c", values=["Lyon", "Paris"], any=True), "In Paris.", True),
        (Contains(name="c", values=["Lyon", "Paris"], any=True), "In Rome.", False),
        (Contains(name="c", values=["PARIS"], ignore_case=True), "in paris", True),
        (Contains(name="c", values=["PARIS"]), "in paris", False),
        (Contains(name="c", expected="/some", any=True), "has y", True),
        (NotContains(name="c", values=["Paris"]), "in paris", False),
        (Contains(name="c", values=["Paris"], negate=True), "in paris", True),
        (Contains(name="c", values=["x", "y"], negate=True), "x here", True),
        (Contains(name="c", values=["x", "y"], any=True, negate=True), "x only", False),
        (Equals(name="c", expected="/text", negate=True), "Rome", True),
        (Equals(name="c", expected="/text", negate=True), "Paris", False),
        (StartsWith(name="c", values=["Yes", "No"]), "No, never", True),
        (StartsWith(name="c", values=["yes"]), "Yes", False),
        (StartsWith(name="c", values=["yes"], ignore_case=True), "Yes", True),
        (StartsWith(name="c", expected="/text", negate=True), "Paris it is", False),
        (IsJson(name="c"), '{"a": 1}', True),
        (IsJson(name="c"), "Here: {}", False),
        (IsJson(name="c", within=True), "Here: {} and more", True),
        (IsJson(name="c", within=True), "{{{{ not [ closed", False),
        (IsJson(name="c", within=True, schema=NUMBER), 'first {"m": 1}, then {"n": 2}', True),
        (IsJson(name="c", within=True, schema=NUMBER), 'only {"n": "2"}', False),
        (IsJson(name="c", schema=NUMBER), '{"n": 1}', True),
        (IsJson(name="c", negate=True), "no json", True),
        (IsJson(name="c", negate=True, within=True), "a [1] b", False),
        (EditDistance(name="c", expected="/text", max=1), "Pari", True),
        (EditDistance(name="c", expected="/text", max=1), "Par", False),
        (EditDistance(name="c", expected="/text", max=1), "paris", True),
        (EditDistance(name="c", expected="/text", max=1, negate=True), "Rome", True),
        (Similarity(name="c", expected="/text", metric="rouge_1", min=0.5), "paris now", True),
        (Similarity(name="c", expected="/text", metric="rouge_1", min=0.7), "paris now", False),
    ],
)  # fmt: skip
def test_check_of_text(check, text, passed):
    """Each check says yes and no to the letter of what it promises."""
    found = check.score(Completion(text=text), CASE)

    assert isinstance(found, Score)
    assert passed is found.passed, found.reason


def test_many_brackets_cost_little():
    """A text of nothing but brackets is given up after a bounded number of tries."""
    found = IsJson(name="c", within=True).score(Completion(text="[" * 200_000), CASE)

    assert isinstance(found, Score)
    assert not found.passed


def test_only_is_a_check_for_the_cases_that_state_a_value():
    """Where the pointer leads to nothing the check is no matter of the case."""
    slow = Completion(text="", latency_s=3.0)
    check = Only(name="c", check=Latency(name="c", max_s=1), expected="/flag")

    assert check.score(slow, CaseFacts(category="a", inputs={})) is None
    assert Score(check="c", passed=False, reason="3.00 s (allowed 1 s)") == check.score(slow, CASE)


def test_only_works_in_a_suite(sandbox, call):
    """The suite reads `only` on any check; a case that does not state the value is not touched."""
    sandbox.replace("golden/feedback-sentiment.yaml", "checks:", 'checks:\n  - {check: starts_with, values: ["never"], only: /strict}\n'
                    "  - {check: is_json, schema: {type: object, required: [sentiment], properties: {sentiment: true}}}")  # fmt: skip
    rows = sandbox.rows()
    rows[0].setdefault("expected", {})["strict"] = True
    sandbox.write_rows(rows)

    assert 0 == call("lint").code
    call("eval", "feedback-sentiment")
    found = call("runs", "show", "latest", "--json").json
    counts = {row["name"]: (row["passed"], row["failed"]) for row in found["checks"]}

    assert ((0, 1), (22, 0)) == (counts["starts_with"], counts["is_json"])
