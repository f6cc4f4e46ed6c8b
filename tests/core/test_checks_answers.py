"""Checks on what an answer says: values, words, patterns, similarity."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.checks import (
    CaseFacts,
    Completion,
    Contains,
    Equals,
    JsonSchemaCheck,
    Keywords,
    NotContains,
    Regex,
    Score,
    Similarity,
    Unscored,
)
from promptops.core.jsontext import canonical_json
from promptops.core.schema import compile_schema


def _case(**expected: Any) -> CaseFacts:
    return CaseFacts(category="billing", inputs={}, expected=expected)


def _json(value: Any) -> Completion:
    return Completion.of(canonical_json(value).decode(), "json")


LABEL = compile_schema({"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"], "additionalProperties": False})  # fmt: skip


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ('{"label": "a"}', True), (' {"label":"b"}\n', True), ('{"label": "c"}', False), ('{"Label": "a"}', False), ("{}", False),
        ('{"label": "a", "x": 1}', False), ('["a"]', False), ('"a"', False), ("null", False), ('```json\n{"label": "a"}\n```', False),
        ('{"label": "a",}', False), ("{'label': 'a'}", False), ('{label: "a"}', False), ('{"label": "a"} thanks', False),
        ('Here: {"label": "a"}', False), ('{"label": "a"}{"label": "a"}', False), ('{"label": "b", "label": "a"}', False),
        ('{"label": NaN}', False), ("", False), ('{"label": "a"', False), ('\ufeff{"label": "a"}', False), ("{“label”: “a”}", False),
    ],
)  # fmt: skip
def test_json_schema_passes_only_strict_json_that_fits(text: str, *, passed: bool):
    """What a tolerant parser would repair, a strict one downstream will refuse."""
    score = JsonSchemaCheck(default=LABEL).score(Completion.of(text, "json"), _case())

    assert isinstance(score, Score)
    assert (passed, "json_schema") == (score.passed, score.check)
    assert passed or "fits" not in score.reason


def test_json_schema_takes_the_schema_of_the_category_first():
    """Without any schema the case is unscored, not passed."""
    check = JsonSchemaCheck(by_category={"billing": compile_schema({"type": "object", "required": ["amount"]})})
    other = CaseFacts(category="delivery", inputs={})

    assert Score(check="json_schema", passed=True, reason="fits the schema") == check.score(
        _json({"amount": 1}), _case()
    )
    assert Unscored(check="json_schema", reason="no schema for category delivery") == check.score(_json({}), other)


@pytest.mark.parametrize(
    ("got", "wanted", "options", "passed"),
    [
        (1, 1.0, {}, True), (1, True, {}, False), (True, 1, {}, False), (True, True, {}, True), (0, False, {}, False), (0, None, {}, False),
        ("1", 1, {}, False), ("", None, {}, False), (None, None, {}, True), ([], {}, {}, False), ([], None, {}, False), ("a", ["a"], {}, False),
        (1.05, 1.0, {"tolerance": 0.1}, True), (1.2, 1.0, {"tolerance": 0.1}, False), (True, 1.0, {"tolerance": 1.0}, False), (2**53, 2**53 + 1, {}, False),
        ("Billing", "billing", {}, False), ("Ｂilling  x", "billing x", {"ignore_case": True}, True), ("bills", "billing", {"ignore_case": True}, False),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, {}, True), ({"a": 1}, {"a": 1, "b": None}, {}, False), ({"a": 1, "b": None}, {"a": 1}, {}, False),
        ({"a": {"b": True}}, {"a": {"b": 1}}, {}, False), ([1, 2], [2, 1], {}, False), ([1, 2], [2, 1], {"unordered": True}, True),
        ([1, 1, 2], [1, 2, 2], {"unordered": True}, False), ([1], [1, 1], {"unordered": True}, False), ([], [], {"unordered": True}, True),
        ([True, 1], [1, True], {"unordered": True}, True), (["x", "y"], [None, "y"], {"unordered": True}, False),
        ([None, "y"], ["y", None], {"unordered": True}, True), ([[2, 1]], [[1, 2]], {"unordered": True}, True),
        (["A", "b"], ["B", "a"], {"unordered": True, "ignore_case": True}, True), ([{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1}], {"unordered": True}, True),
        ([1.0, 0.75], [0.875, 1.125], {"unordered": True, "tolerance": 0.125}, True), ([1.0, 0.5], [0.875, 1.125], {"unordered": True, "tolerance": 0.125}, False),
    ],
)  # fmt: skip
def test_equals_compares_json_values(got: Any, wanted: Any, options: dict[str, Any], *, passed: bool):
    """Types differ, except integers and equal floats; a true is no 1; order counts unless stated."""
    score = Equals(name="e", path="/v", **options).score(_json({"v": got}), _case(v=wanted))

    assert isinstance(score, Score)
    assert passed is score.passed, score.reason


@given(st.lists(st.integers(0, 3) | st.booleans() | st.none(), max_size=6), st.randoms(use_true_random=False))
def test_unordered_lists_are_equal_to_their_shuffles_only(items: list[Any], random: Any):
    """Multisets: each item is used once."""
    shuffled = list(items)
    random.shuffle(shuffled)
    check = Equals(name="e", path="/v", unordered=True)

    same = check.score(_json({"v": items}), _case(v=shuffled))
    longer = check.score(_json({"v": items}), _case(v=[*shuffled, None]))

    assert (True, False) == (isinstance(same, Score) and same.passed, isinstance(longer, Score) and longer.passed)


@pytest.mark.parametrize(
    ("completion", "check", "expected", "outcome"),
    [
        (Completion.of("yes", "text"), Equals(name="e", expected="/a"), {"a": "yes"}, (True, "equal")),
        (Completion.of("yes ", "text"), Equals(name="e", expected="/a"), {"a": "yes"}, (False, "yes  is not yes")),
        (Completion.of('{"a": 1}', "json"), Equals(name="e"), {"a": 1}, (True, "equal")),
        (Completion.of("[1]", "json"), Equals(name="e", expected="/list"), {"list": [1]}, (True, "equal")),
        (Completion.of("{}", "json"), Equals(name="e", path="/a"), {"a": None}, (False, "the answer has no /a")),
        (Completion.of('"x"', "json"), Equals(name="e", path="/a"), {"a": "x"}, (False, "the answer has no /a")),
        (Completion.of("{}", "json"), Equals(name="e", path="/a"), {"b": 1}, None),
    ],
)
def test_equals_looks_at_a_part_or_the_whole(
    completion: Completion, check: Equals, expected: dict[str, Any], outcome: tuple[bool, str] | None
):
    """A missing part fails with its pointer; a case that states nothing is not scored by this check."""
    wanted = outcome and Score(check="e", passed=outcome[0], reason=outcome[1])

    assert wanted == check.score(completion, _case(**expected))


@pytest.mark.parametrize("text", ["NaN", "nonsense", "", "null,", '{"a":1,"a":1}'])
def test_C5_an_answer_that_is_no_json_never_equals_null(text: str):
    """The value of a broken answer is unknown, it is not null."""
    score = Equals(name="e", expected="/a").score(Completion.of(text, "json"), _case(a=None))

    assert isinstance(score, Score)
    assert (False, True) == (score.passed, score.reason.startswith("the answer is not JSON"))


@pytest.mark.parametrize("wanted", [1.0, 0, None, True, float("nan"), "NaN"])
@pytest.mark.parametrize("tolerance", [0.0, 1e9, float("inf")])
def test_C5_nan_equals_nothing(wanted: Any, tolerance: float):
    """Not even itself, and no tolerance covers it."""
    completion = Completion(text="x", format="json", value={"v": float("nan")})
    score = Equals(name="e", path="/v", tolerance=tolerance).score(completion, _case(v=wanted))

    assert isinstance(score, Score)
    assert not score.passed


TEXT = "Your refund of  12,50 € comes in 14 days. 返品は１４日以内です。"


@pytest.mark.parametrize(
    ("check", "expected", "passed", "reason"),
    [
        (Contains(name="c", values=["refund", "14 days"]), {}, True, "all found"),
        (Contains(name="c", values=["refund", "Refund", "15 days"]), {}, False, "missing: Refund, 15 days"),
        (Contains(name="c", expected="/facts"), {"facts": ["€", 14]}, True, "all found"),
        (Contains(name="c", expected="/facts"), {"facts": "14 days"}, True, "all found"),
        (Contains(name="c", expected="/facts"), {"facts": 15}, False, "missing: 15"),
        (Contains(name="c", expected="/facts"), {"facts": [True]}, False, "missing: true"),
        (NotContains(name="c", values=["gratis", "free"]), {}, True, "none found"),
        (NotContains(name="c", values=["REFUND", "of 12,50", "14日"]), {}, False, "found: REFUND, of 12,50, 14日"),
        (NotContains(name="c", expected="/bad"), {"bad": ["x-ray"]}, True, "none found"),
        (NotContains(name="c", expected="/bad"), {"bad": 14}, False, "found: 14"),
    ],
)  # fmt: skip
def test_contains_is_exact_and_not_contains_is_wide(check: Any, expected: dict[str, Any], *, passed: bool, reason: str):
    """What must be there counts to the letter; what must not be there is found in any case, width and spacing."""
    assert Score(check="c", passed=passed, reason=reason) == check.score(Completion.of(TEXT, "text"), _case(**expected))


@pytest.mark.parametrize("make", [Contains, NotContains, Keywords])
@pytest.mark.parametrize("expected", [{}, {"facts": None}, {"facts": []}, {"facts": [""]}, {"facts": " "}, {"facts": [None, "\n"]}])  # fmt: skip
def test_a_case_that_states_no_words_is_not_scored(make: Any, expected: dict[str, Any]):
    """A blank occurs in every text: it would always pass, or always fail."""
    assert make(name="c", expected="/facts").score(Completion.of(TEXT, "text"), _case(**expected)) is None


@pytest.mark.parametrize(
    ("values", "min_share", "passed", "value"),
    [
        (["REFUND", "14  days"], 1.0, True, 1.0),
        (["返品", "14日"], 1.0, True, 1.0),
        ([["two weeks", "14 days"], ["money back", "refund"]], 1.0, True, 1.0),
        ([["two weeks", "15 days"], "refund"], 1.0, False, 0.5),
        ([["two weeks", "15 days"], "refund"], 0.5, True, 0.5),
        (["refund", "a1", "a2", "a3", "a4"], 0.2, True, 0.2),
        (["refund", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"], 0.1, True, 0.1),
        (["refund", "a1", "a2"], 0.34, False, 1 / 3),
        (["a1"], 0.01, False, 0.0),
    ],
)  # fmt: skip
def test_keywords_count_facts_with_their_accepted_spellings(
    values: list[Any], min_share: float, *, passed: bool, value: float
):
    """The share of facts found, in any case, width and spacing; exactly the share is enough."""
    score = Keywords(name="k", values=values, min_share=min_share).score(Completion.of(TEXT, "text"), _case())

    assert isinstance(score, Score)
    assert (passed, value) == (score.passed, score.value)


@pytest.mark.parametrize(("facts", "passed"), [("refund", True), (["refund", 14], True), ([["x", "refund"]], True), ("gratis", False), (15, False), ([["x"], []], False)])  # fmt: skip
def test_keywords_read_the_facts_of_the_case(facts: Any, *, passed: bool):
    """One fact needs no list, and a number is written as in JSON."""
    score = Keywords(name="k", expected="/facts").score(Completion.of(TEXT, "text"), _case(facts=facts))

    assert isinstance(score, Score)
    assert passed is score.passed


@pytest.mark.parametrize("check", [Contains(name="c", path="/a", values=["x"]), NotContains(name="c", path="/a", values=["x"]),
                                   Keywords(name="c", path="/a", values=["x"]), Regex(name="c", path="/a", pattern="x", negate=True)])  # fmt: skip
@pytest.mark.parametrize(
    ("text", "reason"),
    [("{}", "the answer has no /a"), ('{"a": 5}', "/a is not text"), ('{"a": null}', "/a is not text"), ("x", "the answer is not JSON")],
)  # fmt: skip
def test_a_check_of_a_missing_part_fails(check: Any, text: str, reason: str):
    """An absent answer contains nothing forbidden either, and is still no good answer."""
    score = check.score(Completion.of(text, "json"), _case())

    assert (False, True) == (score.passed, score.reason.startswith(reason))


@pytest.mark.parametrize(
    ("pattern", "negate", "passed"),
    [("[0-9]+ days", False, True), ("^Your", False, True), ("^refund", False, False), ("(?i)REFUND", False, True), ("days$", True, True),
     ("refund", True, False)],
)  # fmt: skip
def test_regex_searches_the_answer(pattern: str, *, negate: bool, passed: bool):
    """Found anywhere unless anchored; `negate` turns the verdict."""
    score = Regex(name="r", pattern=pattern, negate=negate).score(Completion.of(TEXT, "text"), _case())

    assert isinstance(score, Score)
    assert passed is score.passed


@pytest.mark.parametrize(
    ("metric", "text", "wanted", "value"),
    [
        ("rouge_l", "the cat sat", "The cat sat", 1.0),
        ("rouge_l", "the cat sat on the mat", "the cat lay on a mat", 2 * 4 / 12),  # the cat on mat
        ("rouge_l", "a b c", "c b a", 2 * 1 / 6),
        ("rouge_l", "x", "y", 0.0),
        ("rouge_l", "返品期間", "返品期限", 2 * 3 / 8),
        ("rouge_l", "", "x", 0.0),
        ("rouge_l", "!", "?", 1.0),
        ("levenshtein", "kitten", "sitting", 1 - 3 / 7),
        ("levenshtein", "ABC", "abc", 1.0),
    ],
)
def test_similarity_is_the_published_measure(metric: str, text: str, wanted: str, value: float):
    """ROUGE-L by hand (Lin 2004: 2 LCS / (m + n)); kitten to sitting takes 3 edits."""
    check = Similarity(name="s", expected="/a", min=0.5, metric=metric)
    score = check.score(Completion.of(text, "text"), _case(a=wanted))

    assert isinstance(score, Score)
    assert (pytest.approx(value), value >= 0.5) == (score.value, score.passed)


def test_similarity_without_an_expected_text_or_with_a_huge_one_gives_no_verdict():
    """Null states nothing; beyond 20,000 characters the check does not run."""
    check = Similarity(name="s", expected="/a", min=0.5)

    assert check.score(Completion.of("None", "text"), _case(a=None)) is None
    assert check.score(Completion.of("x", "text"), _case()) is None
    assert Unscored(check="s", reason="text longer than 20000 characters") == check.score(
        Completion.of("x" * 20_001, "text"), _case(a="x")
    )
