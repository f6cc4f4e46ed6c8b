"""local:rules: per property the first rule that applies gives the value."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from promptops.models.base import ModelRequest
from promptops.models.local.rules import Rules


def answer(rules: Mapping[str, Sequence[Mapping[str, Any]]], text: str, *, output_format: str = "json") -> Any:
    request = ModelRequest(messages=(), inputs={"text": text}, output_format=output_format)  # type: ignore[arg-type]
    return Rules(rules, ("text",)).respond(request)


@pytest.mark.parametrize(
    ("spec", "text", "expected"),
    [
        # value, with its conditions
        ([{"value": 1}, {"value": 2}], "", {"p": 1}),
        ([{"value": "a", "when": "lamp"}, {"value": "b"}], "A LAMP", {"p": "a"}),
        ([{"value": "a", "when": "lamp"}, {"value": "b"}], "A chair", {"p": "b"}),
        ([{"value": "a", "unless": "lamp"}, {"value": "b"}], "A Lamp", {"p": "b"}),
        ([{"value": "a", "when": "lamp", "unless": "broken"}], "broken lamp", {}),
        ([{"value": "a", "when": "^second"}], "first\nsecond", {"p": "a"}),
        ([{"value": None}, {"value": 2}], "", {"p": None}),
        ([{"value": False}, {"value": True}], "", {"p": False}),
        # extract
        ([{"extract": r"no (\d+)"}, {"value": "none"}], "no 12, no 13", {"p": "12"}),
        ([{"extract": r"no (\d+)"}, {"value": "none"}], "NO 12", {"p": "none"}),
        ([{"extract": r"name: (.*)"}], "name:  Ada \t Lovelace", {"p": "Ada Lovelace"}),
        ([{"extract": r"(\w+)!", "as": "upper"}], "stop!", {"p": "STOP"}),
        ([{"extract": r"EUR ([\d.,]+)", "as": "number"}], "EUR 1.200,50", {"p": 1200.5}),
        ([{"extract": r"(\S+) items", "as": "integer"}], "1,200 items", {"p": 1200}),
        ([{"extract": r"from (.*)", "as": "date"}], "from 1 May 2024", {"p": "2024-05-01"}),
        ([{"extract": r"for (.*)", "as": "months"}], "for two years", {"p": 24}),
        ([{"extract": r"within (.*)", "as": "days"}], "within 2 weeks", {"p": 14}),
        ([{"extract": r"from (\S+)", "as": "date"}, {"value": None}], "from now", {"p": None}),
        ([{"extract": r"on (\S+)", "as": "date"}], "on time, on 2024-05-01", {"p": "2024-05-01"}),
        # an optional group that matched nothing is no match
        ([{"extract": r"x(\d)?"}, {"value": "none"}], "x", {"p": "none"}),
        # map
        ([{"extract": r"(\w+) law", "map": {"ENGLISH": "England"}}], "english law", {"p": "England"}),
        ([{"extract": r"(\w+) law", "map": {"english": None}}], "English law", {"p": None}),
        ([{"extract": r"(\w+) law", "map": {"english": "England"}}], "Scots law", {"p": "Scots"}),
        # extract_all
        ([{"extract_all": r"#(\d+)"}], "#2 #1 #2 #3", {"p": ["2", "1", "3"]}),
        ([{"extract_all": r"#(\d+)", "limit": 2}], "#2 #1 #3", {"p": ["2", "1"]}),
        ([{"extract_all": r"#(\d+)", "as": "integer"}], "#2 #10", {"p": [2, 10]}),
        ([{"extract_all": r"#(\d+)"}, {"value": []}], "none", {"p": []}),
        # detect
        ([{"detect": "language"}], "Où est mon colis ? Je l'attends depuis lundi.", {"p": "fr"}),
        ([{"detect": "language"}, {"value": "en"}], "...", {"p": "en"}),
    ],
)  # fmt: skip
def test_first_rule_that_applies_gives_the_value(spec: list[dict[str, Any]], text: str, expected: dict[str, Any]):
    """Order decides; conditions ignore case, extraction does not; what cannot be read so is no match."""
    assert expected == answer({"p": spec}, text)


def test_if_looks_at_properties_that_come_before():
    """`if` asks for one of the listed values of every property it names."""
    rules = {
        "kind": [{"value": "bill", "when": "invoice"}, {"value": "other"}],
        "urgent": [{"value": True, "when": "now"}, {"value": False}],
        "amount": [
            {"extract": r"(\d+)", "as": "integer", "if": {"kind": ["bill", "refund"], "urgent": [True]}},
            {"value": None, "if": {"kind": ["bill"]}},
        ],
    }

    found = [answer(rules, text) for text in ("invoice 7 now", "invoice 7", "parcel 7 now")]

    assert [
        {"kind": "bill", "urgent": True, "amount": 7},
        {"kind": "bill", "urgent": False, "amount": None},
        {"kind": "other", "urgent": True},
    ] == found


def test_known_values_are_taken_as_they_are_and_steer_the_rest():
    """What another model decided is not decided again, but `if` sees it."""
    rules = Rules({"kind": [{"value": "other"}], "note": [{"value": "!", "if": {"kind": ["bill"]}}]}, ("text",))
    request = ModelRequest(messages=(), inputs={"text": "x"}, output_format="json")

    assert {"kind": "bill", "note": "!"} == rules.values(request, {"kind": "bill"})


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        ({"text": [{"value": "Thanks."}]}, "", "Thanks."),
        ({"text": [{"extract": r"(\d+)", "as": "integer"}]}, "42", "42"),
        ({"other": [{"value": "x"}]}, "", ""),
    ],
)
def test_text_prompt_is_answered_with_the_property_text(rules: dict[str, Any], text: str, expected: str):
    """A text answer is text, and empty when no rule gives one."""
    assert expected == answer(rules, text, output_format="text")


def test_only_the_named_inputs_are_read_in_their_order():
    """Inputs that are not named, absent or null do not reach the rules."""
    rules = Rules({"all": [{"extract": r"(?s)(.+)"}]}, ("body", "title", "note", "gone"))
    request = ModelRequest(
        messages=(), inputs={"title": "T", "body": "B", "secret": "S", "note": None}, output_format="json"
    )

    assert {"all": "B T"} == rules.respond(request)
