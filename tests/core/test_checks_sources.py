"""Checks against something outside the answer: passages, limits, a user's function."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from promptops.core.checks import CaseFacts, Citations, Completion, Cost, Latency, Python, Score, Unscored
from promptops.core.jsontext import canonical_json
from promptops.core.knowledge import Passage

PASSAGES = (
    Passage(id="de.returns", title="Rückgabe", text="Sie können die Ware binnen 14 Tagen\nzurückgeben."),
    Passage(id="w-2", title="Warranty", text="The warranty lasts 24 months from the date of purchase."),
)


def _cite(citations: Any, *, wanted: Any = None, path: str = "/citations", **options: Any) -> Score:
    text = canonical_json({"citations": citations}).decode() if path else citations
    case = CaseFacts(category="c", inputs={}, expected={} if wanted is None else {"cites": wanted}, passages=PASSAGES)
    check = Citations(name="c", path=path, expected="/cites", **options)
    score = check.score(Completion.of(text, "json" if path else "text"), case)
    assert isinstance(score, Score)
    return score


@pytest.mark.parametrize(
    ("citations", "fault"),
    [
        ([], ""),
        (["w-2"], ""),
        ([{"id": "w-2"}], ""),
        ([{"id": "w-2", "quote": "lasts 24 months"}, {"id": "de.returns", "quote": "binnen 14 Tagen zurückgeben"}], ""),
        ([{"id": "w-2", "quote": "THE  WARRANTY LASTS ２４ months"}], ""),
        (["w-3"], "w-3 is not among the passages shown"),
        (["W-2"], "W-2 is not among the passages shown"),
        (["w-2 "], "w-2  is not among the passages shown"),
        (["w-2", "forged"], "forged is not among the passages shown"),
        ([{"quote": "lasts 24 months"}], " is not among the passages shown"),
        ([5], "5 is not among the passages shown"),
        ([None], "None is not among the passages shown"),
        ([{"id": "w-2", "quote": "lasts 36 months"}], "the quote is not in w-2: lasts 36 months"),
        ([{"id": "w-2", "quote": "The warranty lasts 24 months."}], "the quote is not in w-2: The warranty lasts 24 months."),
        ([{"id": "w-2", "quote": "warranty ... purchase"}], "the quote is not in w-2: warranty ... purchase"),
        ([{"id": "w-2", "quote": "binnen 14 Tagen"}], "the quote is not in w-2: binnen 14 Tagen"),
        ([{"id": "w-2", "quote": "The warranty"}, {"id": "w-2", "quote": "is void"}], "the quote is not in w-2: is void"),
        ([{"id": "w-2", "quote": None}], "a quote is not text"),
        ([{"id": "w-2", "quote": ["The warranty"]}], "a quote is not text"),
        ("w-2", "/citations is not a list"),
        (None, "/citations is not a list"),
    ],
)  # fmt: skip
def test_a_forged_id_or_quote_fails(citations: Any, fault: str):
    """Ids are compared to the letter, quotes word for word; width, case and blanks of a quote do not matter."""
    score = _cite(citations)

    assert (not fault, fault or f"{len(citations)} citations hold") == (score.passed, score.reason)


@pytest.mark.parametrize(
    ("text", "passed"),
    [("Two years [w-2].", True), ("Yes [de.returns][w-2]", True), ("No source.", True), ("Two years [w-3].", False), ("[W-2]", False),
     ("see [w-2] and [1]", False), ("(w-2)", True)],
)  # fmt: skip
def test_marks_in_a_text_are_citations(text: str, *, passed: bool):
    """Without a path, `[id]` cites."""
    assert passed is _cite(text, path="").passed


@pytest.mark.parametrize(
    ("citations", "wanted", "required", "reason"),
    [
        ([], None, True, "nothing is cited"),
        ([], [], False, "0 citations hold"),
        (["w-2"], ["w-2"], True, "1 citations hold"),
        (["w-2"], "w-2", False, "1 citations hold"),
        (["w-2"], ["w-2", "de.returns"], False, "not cited: de.returns"),
        ([], "de.returns", False, "not cited: de.returns"),
        (["w-2", "de.returns"], ["w-2"], False, "2 citations hold"),
    ],
)
def test_every_expected_passage_is_cited(citations: list[str], wanted: Any, *, required: bool, reason: str):
    """More may be cited than expected; one expected id needs no list."""
    assert reason == _cite(citations, wanted=wanted, required=required).reason


def test_an_expected_null_asks_for_no_citation():
    """Null states nothing, as everywhere."""
    case = CaseFacts(category="c", inputs={}, expected={"cites": None}, passages=PASSAGES)

    assert Score(check="c", passed=True, reason="0 citations hold") == Citations(name="c", expected="/cites").score(
        Completion.of("text", "text"), case
    )


@pytest.mark.parametrize(
    ("check", "completion", "passed", "reason"),
    [
        (Latency(name="x", max_s=1.5), Completion(text="", latency_s=1.5), True, "1.50 s (allowed 1.5 s)"),
        (Latency(name="x", max_s=1.5), Completion(text="", latency_s=1.51), False, "1.51 s (allowed 1.5 s)"),
        (Cost(name="x", max_nanousd=4_200_000), Completion(text="", cost_nanousd=4_200_000), True, "$0.0042 (allowed $0.0042)"),
        (Cost(name="x", max_nanousd=0), Completion(text="", cost_nanousd=1), False, "$0.0000000010 (allowed $0)"),
    ],
)  # fmt: skip
def test_limits_include_their_value(check: Any, completion: Completion, *, passed: bool, reason: str):
    """At most means at most."""
    assert Score(check="x", passed=passed, reason=reason) == check.score(completion, CaseFacts(category="c", inputs={}))


def test_C5_a_latency_that_is_no_number_fails():
    """NaN is below no limit."""
    score = Latency(name="x", max_s=math.inf).score(Completion(text="", latency_s=math.nan), CaseFacts(category="c", inputs={}))  # fmt: skip

    assert isinstance(score, Score)
    assert not score.passed


def _call(function: Callable[..., object], **options: Any) -> Score | Unscored | None:
    check = Python(name="mine", entry_point="tone", function=function, options=options)
    return check.score(Completion.of("Hello", "text"), CaseFacts(category="c", inputs={}))


def _says(answer: object) -> Callable[..., object]:
    def function(completion: Completion, case: CaseFacts) -> object:
        return answer

    return function


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (True, Score(check="mine", passed=True, reason="tone says True")),
        (False, Score(check="mine", passed=False, reason="tone says False")),
        (0.5, Score(check="mine", passed=True, reason="0.50", value=0.5)),
        (0.49, Score(check="mine", passed=False, reason="0.49", value=0.49)),
        (0, Score(check="mine", passed=False, reason="0.00", value=0.0)),
        (1, Score(check="mine", passed=True, reason="1.00", value=1.0)),
        (None, None),
        (Score(check="other", passed=True, reason="fine", value=0.9), Score(check="mine", passed=True, reason="fine", value=0.9)),
        (Unscored(check="other", reason="no dictionary"), Unscored(check="mine", reason="no dictionary")),
    ],
)  # fmt: skip
def test_a_users_function_answers_in_four_ways(answer: object, score: Score | Unscored | None):
    """A bool, a value, a Score or Unscored; the row is named after the check, not after what the function says."""
    assert score == _call(_says(answer))


@pytest.mark.parametrize(
    "answer",
    [math.nan, math.inf, -math.inf, 2.0, -0.1, 2, "pass", [], {}, object(), Score(check="x", passed=True, reason="r", value=math.nan),
     Score(check="x", passed=True, reason="r", value=2.0), Score(check="x", passed="yes", reason="r"), Score(check="x", passed=True, reason="r", value="1"),
     Score(check="x", passed=math.nan, reason="r"), Score(check="x", passed=True, reason=None)],
)  # fmt: skip
def test_C5_an_answer_outside_its_promise_is_unscored(answer: object):
    """NaN, 2.0 and foreign types are neither a pass nor a fail."""
    assert isinstance(_call(_says(answer)), Unscored)


@pytest.mark.parametrize("error", [ValueError("secret text of a customer"), KeyError("x"), AssertionError(), RecursionError(), MemoryError(), StopIteration()])  # fmt: skip
def test_a_users_function_that_raises_leaves_the_case_unscored(error: Exception):
    """The reason names the kind of error and repeats none of its text."""

    def function(completion: Completion, case: CaseFacts) -> bool:
        raise error

    assert Unscored(check="mine", reason=f"tone raised {type(error).__name__}") == _call(function)


def test_a_users_function_gets_the_answer_the_case_and_its_options():
    """As the entry point is documented: `f(completion, case, **options)`."""
    got: list[object] = []

    def function(completion: Completion, case: CaseFacts, *, words: list[str]) -> bool:
        got.extend([completion.text, case.category, words])
        return True

    _call(function, words=["hi"])

    assert ["Hello", "c", ["hi"]] == got
    assert Unscored(check="mine", reason="tone raised TypeError") == _call(function)
