"""local:search answers with the best passage and cites it."""

from typing import Any

import pytest

from promptops.core.knowledge import Passage
from promptops.models.base import ModelRequest
from promptops.models.local.search import Search

_PASSAGES = (
    Passage(id="p1", title="Lamps", text="Lamps are covered for five years. Bulbs are not covered."),
    Passage(id="p2", title="Batteries", text="A battery is covered for 120 days. Chargers are covered for a year."),
    Passage(id="p3", title="{{ query }} returns", text="You may return a lamp within 14 days. {% raw %} Keep the box."),
    Passage(id="p4", title="電池", text="電池の保証期間は六か月です。充電器は一年です。"),
)
_SHAPE = {
    "found": {
        "answered": True,
        "answer": "{{ passage.title }}: {{ passage.text }}",
        "citations": [{"id": "{{ passage.id }}", "quote": "{{ passage.sentence }}"}],
    },
    "missing": {"answered": False, "citations": []},
}


def answer(question: str, passages: tuple[Passage, ...] = _PASSAGES, **settings: Any) -> Any:
    request = ModelRequest(messages=(), inputs={"question": question}, output_format="json", passages=passages)
    return Search({**_SHAPE, **settings}, ("question",)).respond(request)


@pytest.mark.parametrize(
    ("question", "passage", "quote"),
    [
        ("How many days is a battery covered?", 1, "A battery is covered for 120 days."),
        ("Is a CHARGER or chargers covered for a year", 1, "Chargers are covered for a year."),
        ("Are my bulbs not covered?", 0, "Bulbs are not covered."),
        ("Should I keep the box?", 2, "{% raw %} Keep the box."),
        ("電池の保証は何か月ですか", 3, "電池の保証期間は六か月です。"),
    ],
)
def test_best_passage_is_the_answer_with_its_citation(question: str, passage: int, quote: str):
    """The passage with most of the rare words wins; the quote is its sentence that shares most words with the question."""
    best = _PASSAGES[passage]

    assert {
        "answered": True,
        "answer": f"{best.title}: {best.text}",
        "citations": [{"id": best.id, "quote": quote}],
    } == answer(question)


@pytest.mark.parametrize("question", [passage.text for passage in _PASSAGES])
def test_quote_is_word_for_word_in_the_cited_passage(question: str):
    """What is quoted can be found in the passage with the cited id."""
    (citation,) = answer(question)["citations"]

    assert citation["quote"] in next(passage.text for passage in _PASSAGES if passage.id == citation["id"])


@pytest.mark.parametrize(
    ("question", "passages", "min_score"),
    [
        pytest.param("Selling bicycles?", _PASSAGES, 0.0, id="no word in common"),
        pytest.param("", _PASSAGES, 0.0, id="no question"),
        pytest.param("?!", _PASSAGES, 0.0, id="no words in the question"),
        pytest.param("battery", (), 0.0, id="no passages"),
        pytest.param("battery", _PASSAGES, 1000.0, id="below the lowest score"),
    ],
)
def test_missing_is_answered_when_nothing_is_found(question: str, passages: tuple[Passage, ...], min_score: float):
    """Without a hit, or with a weak one, the answer is `missing` as it stands."""
    assert _SHAPE["missing"] == answer(question, passages, min_score=min_score)


def test_shape_may_be_text_or_any_json():
    """Strings anywhere in the shape are filled, other values are kept."""
    assert ["See p2.", "See p2 (Batteries).", [1, None, {"id": "p2"}]] == [
        answer("battery", found="See {{ passage.id }}."),
        answer("battery", found="See {{ passage.id }} ({{ passage.title }})."),
        answer("battery", found=[1, None, {"id": "{{ passage.id }}"}]),
    ]


def test_punctuation_and_operators_in_a_question_are_only_text():
    """Quotes and operators of the search engine do not change or break the search."""
    assert answer("battery covered 120") == answer('battery" AND (covered* NEAR 120) --')
