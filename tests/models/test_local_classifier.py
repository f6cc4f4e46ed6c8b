"""local:classifier scores golden cases as if it had never seen them."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from promptops.core.errors import DataError
from promptops.core.suite import Case
from promptops.models.base import ModelRequest
from promptops.models.local.classifier import Classifier
from promptops.models.local.rules import Rules

_WORDS = ("lamp", "kettle", "parcel", "blue", "late", "broken", "thanks", "invoice", "green", "cable", "box", "battery")


def a_case(name: str, text: str, label: Any, group: str = "") -> Case:
    return Case(id=name, category="any", inputs={"text": text}, expected={"label": label}, group=group)


def predictions(
    cases: Sequence[Case], *, rules: dict[str, Any] | None = None, fields: Sequence[str] = ("label",), **settings: Any
) -> list[Any]:
    classifier = Classifier({"fields": fields, **settings}, ("text",), Rules(rules or {}, ("text",)), iter(cases))
    requests = [ModelRequest(messages=(), inputs=case.inputs, output_format="json") for case in cases]
    return [classifier.respond(request) for request in requests]


def scrambled(count: int, *, seed: int) -> list[Case]:
    """Texts of random words with labels thrown by a coin: nothing can be learnt from them."""
    source = random.Random(seed)
    return [
        a_case(f"c{number}", " ".join(source.choices(_WORDS, k=12)), source.choice(["a", "b"]))
        for number in range(count)
    ]


def test_what_can_be_learnt_is_learnt():
    """The label follows from one word, so every unseen text is labelled right."""
    cases = [
        a_case(f"{word}{number}", f"{word} order {number} of {_WORDS[number]}", label)
        for word, label in (("refund", "billing"), ("courier", "delivery"), ("password", "account"))
        for number in range(12)
    ]

    assert [case.expected for case in cases] == predictions(cases)


def test_random_labels_give_chance_accuracy():
    """Coin-toss labels are guessed no better than by a coin: 300 tosses stay within 3 standard errors (0.087) of half."""
    cases = scrambled(300, seed=5)

    found = predictions(cases)

    hits = sum(case.expected == value for case, value in zip(cases, found, strict=True))
    assert abs(hits / len(cases) - 0.5) < 0.087


def test_copied_texts_with_random_labels_give_chance_accuracy():
    """Each text occurs four times with one coin-toss label: a split between copies would score near 1."""
    cases = [
        replace(case, id=f"{case.id}-{copy}", group=group)
        for case in scrambled(60, seed=8)
        for copy, group in enumerate((f"g-{case.id}", f"h-{case.id}", "", ""))
    ]

    found = predictions(cases)

    hits = sum(case.expected == value for case, value in zip(cases, found, strict=True))
    assert hits / len(cases) < 0.70


@pytest.mark.parametrize("index", [0, 7, 39])
def test_own_label_never_leaks(index: int):
    """Changing the label of a case leaves its own prediction as it was."""
    cases = scrambled(40, seed=1)
    other = {"a": "b", "b": "a"}[str(cases[index].expected["label"])]
    changed = [*cases[:index], replace(cases[index], expected={"label": other}), *cases[index + 1 :]]

    assert predictions(cases)[index] == predictions(changed)[index]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("one text", "g"), ("another text", "g"), id="same group"),
        pytest.param(("one text", ""), ("one text", ""), id="same text"),
        pytest.param(("one text", "g"), ("one text", ""), id="same text, one in a group"),
        pytest.param(("one text", "g"), ("one text", "h"), id="same text in two groups"),
    ],
)
def test_same_group_and_same_text_are_never_split(first: tuple[str, str], second: tuple[str, str]):
    """A label that occurs in one bound set of cases only is never predicted for a member of the set."""
    bound = [a_case("x", first[0], "rare", first[1]), a_case("y", second[0], "rare", second[1])]

    found = predictions([*bound, *scrambled(30, seed=2)], folds=30)

    assert [] == [value for value in found[:2] if value == {"label": "rare"}]


def test_groups_bind_through_a_chain_of_texts_and_groups():
    """x shares a group with y, y a text with z: all three stay together."""
    chain = [
        a_case("x", "left end", "rare", "g"),
        a_case("y", "middle", "rare", "g"),
        a_case("z", "middle", "rare", "h"),
    ]

    found = predictions([*chain, *scrambled(30, seed=3)], folds=30)

    assert [] == [value for value in found[:3] if value == {"label": "rare"}]


def test_same_cases_give_the_same_answers():
    """Two classifiers of the same cases agree; the seed decides the folds."""
    cases = scrambled(60, seed=4)

    assert predictions(cases, seed=9) == predictions(cases, seed=9)


def test_row_order_does_not_matter():
    """The golden digest ignores row order, so the answers do as well."""
    cases = scrambled(60, seed=6)

    forward, backward = predictions(cases), predictions(cases[::-1])[::-1]

    assert forward == backward


def test_values_of_any_json_type_come_back_as_they_are():
    """Labels are JSON values: booleans, numbers and null are not turned into text."""
    cases = [
        a_case(f"{word}{number}", f"{word} {number} {_WORDS[number]}", label)
        for word, label in (("yes", True), ("count", 3), ("nothing", None))
        for number in range(8)
    ]

    assert [case.expected for case in cases] == predictions(cases)


def test_rules_give_what_is_not_predicted():
    """Fields come from the training, other properties from the rules, which see the prediction."""
    rules = {
        "label": [{"value": "never used"}],
        "amount": [{"extract": r"(\d+)", "as": "integer", "if": {"label": ["billing"]}}],
    }
    cases = [a_case("r", "refund 12", "billing"), a_case("s", "refund 15", "billing"), a_case("t", "refund", "billing")]

    assert [
        {"label": "billing", "amount": 12},
        {"label": "billing", "amount": 15},
        {"label": "billing"},
    ] == predictions(cases, rules=rules)


def test_text_prompt_gets_text():
    """For a text prompt the answer is the property `text`, not an object."""
    cases = [
        Case(id=name, category="any", inputs={"text": text}, expected={"text": "Thanks."})
        for name, text in (("a", "good"), ("b", "great"))
    ]
    classifier = Classifier({"fields": ["text"]}, ("text",), Rules({}, ("text",)), cases)

    assert "Thanks." == classifier.respond(ModelRequest(messages=(), inputs={"text": "good"}, output_format="text"))


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(("hello world", "goodbye moon"), id="two cases"),
        pytest.param(("hello", "moon", "sun"), id="no word in common"),
        pytest.param(("!!", "??", ".."), id="no words at all"),
        pytest.param(("日本", "東京", "日"), id="unspaced script"),
    ],
)
def test_few_and_odd_texts_are_predicted_without_an_error(texts: tuple[str, ...]):
    """Where nothing can be learnt from the words, some known label is still the answer."""
    cases = [a_case(text, text, "a" if number else "b") for number, text in enumerate(texts)]

    found = predictions(cases)

    assert set() == {value["label"] for value in found} - {"a", "b"}


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param([], id="no case"),
        pytest.param([a_case("a", "x", 1)], id="one case"),
        pytest.param([a_case("a", "x", 1, "g"), a_case("b", "y", 2, "g")], id="one group"),
        pytest.param([a_case("a", "x", 1), a_case("b", "x", 2)], id="one text"),
    ],
)
def test_fewer_than_two_independent_cases_are_refused(cases: list[Case]):
    """Out-of-fold prediction needs something to learn from that is not the case itself."""
    with pytest.raises(DataError, match="local:classifier needs at least two different cases; add golden cases"):
        predictions(cases)


def test_unknown_text_is_refused():
    """There is no out-of-fold prediction for a text that is no golden case."""
    classifier = Classifier({"fields": ["label"]}, ("text",), Rules({}, ("text",)), scrambled(4, seed=7))

    with pytest.raises(DataError, match="local:classifier knows only the golden cases"):
        classifier.respond(ModelRequest(messages=(), inputs={"text": "never seen"}, output_format="json"))
