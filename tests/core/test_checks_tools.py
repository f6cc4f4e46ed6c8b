"""The check of tool calls: names, arguments, and what a case states about them."""

from typing import Any

import pytest

from promptops.core.checks import CaseFacts, Completion, Score, ToolCalls
from promptops.core.jsontext import canonical_json

REFUND = {"name": "refund", "arguments": {"order": "A1", "amount": 5}}
LOOKUP = {"name": "lookup", "arguments": {"order": "A1"}}


def answer(*calls: Any) -> Completion:
    return Completion.of_calls(canonical_json(list(calls)).decode())


def passes(completion: Completion, wanted: Any, **options: Any) -> bool | None:
    facts = CaseFacts(category="a", inputs={}, expected={"tool_calls": wanted})
    found = ToolCalls(name="tools", **options).score(completion, facts)
    return found.passed if isinstance(found, Score) else None


@pytest.mark.parametrize(
    ("wanted", "options", "passed"),
    [
        (REFUND, {}, True), ([REFUND], {}, True), ("refund", {}, True), (["refund"], {}, True), ({"name": "refund"}, {}, True),
        ("lookup", {}, False), ([], {}, False), (["refund", "refund"], {}, False),
        ({"name": "refund", "arguments": {"order": "A1"}}, {}, False),
        ({"name": "refund", "arguments": {"order": "A1"}}, {"arguments": "include"}, True),
        ({"name": "refund", "arguments": {"order": "B2"}}, {"arguments": "include"}, False),
        ({"name": "refund", "arguments": {"order": "B2"}}, {"arguments": "ignore"}, True),
        ({"name": "refund", "arguments": {"order": "A1", "amount": 5.0}}, {}, True),
        ({"name": "refund", "arguments": {"order": "A1", "amount": "5"}}, {}, False),
        ({"name": "refund", "arguments": {"order": "A1", "amount": True}}, {}, False),
    ],
)  # fmt: skip
def test_one_call_is_compared_by_name_and_arguments(wanted: Any, options: dict[str, Any], passed: bool):
    """Equal unless the check says that they need only be included, or do not matter."""
    assert passed == passes(answer(REFUND), wanted, **options)


def test_calls_come_in_any_order_unless_ordered():
    """Several calls of one answer usually run side by side; two of one tool are paired by their arguments."""
    other = {"name": "refund", "arguments": {"order": "B2", "amount": 1}}
    calls = answer(REFUND, LOOKUP, other)

    assert (True, False, True) == (
        passes(calls, [other, LOOKUP, REFUND]),
        passes(calls, [LOOKUP, REFUND, other], ordered=True),
        passes(calls, [REFUND, LOOKUP, other], ordered=True),
    )


def test_text_calls_nothing():
    """Text that looks like a call is text: it fails where a call is expected, and passes where none is."""
    text = Completion.of(canonical_json([REFUND]).decode(), "text")

    assert (False, True) == (passes(text, REFUND), passes(text, []))


@pytest.mark.parametrize("wanted", [None, 5, [5], {"arguments": {}}, {"name": "refund", "arguments": []}])
def test_a_case_that_states_no_call_is_not_judged(wanted: Any):
    """The check does not apply, rather than guess."""
    assert passes(answer(REFUND), wanted) is None


def test_the_reason_names_both_sides():
    """What was called, and what should have been."""
    check, facts = ToolCalls(name="tools"), CaseFacts(category="a", inputs={}, expected={"tool_calls": [LOOKUP]})

    assert ["called refund, not lookup", 'lookup({"order":"B2"}), not lookup({"order":"A1"})', "lookup: the arguments are not a JSON object: oops"] == [
        check.score(answer(call), facts).reason  # type: ignore[union-attr]
        for call in (REFUND, {"name": "lookup", "arguments": {"order": "B2"}}, {"name": "lookup", "arguments": "oops"})
    ]  # fmt: skip
