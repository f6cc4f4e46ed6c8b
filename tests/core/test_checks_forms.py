"""Checks on the form of an answer: length, formats, language."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.checks import CHECKS, CaseFacts, Completion, Format, Language, Length, Score, Unscored
from promptops.core.checks.forms import date_fault, detect_language

CASE = CaseFacts(category="c", inputs={})


def _passed(check: Any, text: str, case: CaseFacts = CASE) -> bool:
    score = check.score(Completion.of(text, "text"), case)
    assert isinstance(score, Score)
    return score.passed


@pytest.mark.parametrize(
    ("unit", "text", "count"),
    [
        ("chars", "Grüße 🙂", 7), ("chars", "", 0), ("words", "Don't stop: 3.5 km", 4), ("words", "返品は14日", 5), ("words", " \n", 0),
        ("sentences", "Am 17. Oktober, z. B. um 12 Uhr. Danke!", 2), ("sentences", "- one\n- two\n1. three", 3), ("sentences", "はい。いいえ。", 2),
        ("tokens", "abcdefgh", 2), ("tokens", "返品abc", 3),
    ],
)  # fmt: skip
def test_length_is_counted_in_its_unit_and_both_ends_are_allowed(unit: Any, text: str, count: int):
    """min..max includes both; without max there is no upper end."""
    completion = Completion.of(text, "text")
    exact = Length(name="l", unit=unit, min=count, max=count).score(completion, CASE)
    outside = [Length(name="l", unit=unit, min=count + 1), Length(name="l", unit=unit, max=count - 1)]

    assert Score(check="l", passed=True, reason=f"{count} {unit} (allowed {count}..{count})") == exact
    assert [False, False] == [_passed(check, text) for check in outside]
    assert _passed(Length(name="l", unit=unit, min=0), text)


@pytest.mark.parametrize(
    ("date_format", "good", "bad"),
    [
        (
            "%Y-%m-%d",
            ["2024-02-29", "1999-12-31", "2000-01-01"],
            ["2024-2-30", "2024-2-3", "2023-02-29", "2024-02-30", "2024-00-10", "2024-13-01", "2024-04-31", "24-02-03", "2024/02/03", "2024-02-03 ",
             " 2024-02-03", "2024-02-03T00:00", "03-02-2024", "0999-01-01", "12024-01-01", "２０２４-０２-０３", "٢٠٢٤-٠٢-٠٣", "2024-02", "today", "",
             "2024-02-03\n", "2024‑02‑03", "-024-01-01"],
        ),
        ("%d.%m.%Y", ["03.02.2024"], ["3.2.2024", "02/03/2024", "31.04.2024", "03.02.24", "2024-02-03"]),
        ("%d %B %Y", ["03 February 2024", "03 february 2024"], ["3 February 2024", "03 Februar 2024", "03 Feb 2024", "30 February 2024"]),
        ("%Y年%m月%d日", ["2024年02月03日"], ["2024年2月3日", "2024-02-03"]),
        ("%H:%M", ["00:00", "23:59"], ["24:00", "9:05", "12:60", "12:00 pm"]),
    ],
)  # fmt: skip
def test_a_date_exists_and_is_written_exactly_in_its_format(date_format: str, good: list[str], bad: list[str]):
    """A calendar date, two digits where the format has two, nothing before or after."""
    check = Format(name="d", format="date", date_format=date_format)

    assert [True] * len(good) + [False] * len(bad) == [_passed(check, text) for text in good + bad]


@given(st.dates(min_value=date(1000, 1, 1)))
def test_every_real_date_passes_and_its_neighbours_in_form_do_not(day):
    """ISO 8601 as `date.isoformat` writes it."""
    text = day.isoformat()

    assert ("", True, True) == (
        date_fault(text, "%Y-%m-%d"),
        bool(date_fault(text + "Z", "%Y-%m-%d")),
        bool(date_fault(text[1:], "%Y-%m-%d")),
    )


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            "number",
            ["0", "-1", "+5", "3.14", "1,234", "1,234,567.89", "1e5", "2.5E-3", " 42 ", "1234567"],
            ["", "one", "1,23", "12,34,567", "1.234,56", ".5", "5.", "1_000", "0x10", "NaN", "Infinity", "inf", "1e", "--1", "1 2", "5%", "$5", "１２", "٣", "½", "²"],
        ),
        (
            "currency",
            ["$5", "-$5.00", "$ 1,234.56", "12,50 €", "12.50€", "EUR 1.234,56", "1 234,56 EUR", "CHF 1'000.00", "USD 100", "100 JPY", "¥1000", "1,000円", "R$ 12,50",
             "100 kr", "+5 EUR", "₹500"],
            ["", "5", "5.00", "$", "EUR", "12 PCS", "MAY 12", "12 KGM", "ABC 5", "eur 5", "5 dollars", "$1.2.3", "$12,3456", "$ five", "5 $ or less", "$5 $6", "US 5",
             "EUR5EUR", "$٥"],
        ),
        (
            "markdown",
            ["", "plain", "# Title\n\n- a\n- **b**\n\n| a | b |\n|---|---|\n| 1 | 2 |", "```\ncode\n```", "~~~py\ncode\n~~~", "````\n```\n````", "> ```\n> x\n> ```",
             "- ```\n  x\n  ```", "[a](https://example.com) [b](mailto:a@example.com) [c](#top) [d](/path)", "<https://example.com>", "a < b && c > d",
             "`<b>`", "```\n<script>\n```", "one\u2028two\n```\nx\n```", "```\r\nx\r\n```\r\n", "![i](https://example.com/i.png)"],
            ["```\ncode", "text\n```", "```", "~~~\ncode\n```", "```\ncode\n~~~", "````\ncode\n```", "```\na\u2028b", "<b>bold</b>", "a <br> b", "<script>alert(1)</script>",
             "<!-- hidden -->", "[x](javascript:alert(1))", "[x](JavaScript:alert(1))", "[x](data:text/html,x)", "![x](data:image/png;base64,AAAA)", "[x](file:///etc/passwd)",
             "[x](vbscript:x)", "[x](other.md)", "[x]: javascript:alert(1)\n\n[x]", "<javascript:alert(1)>"],
        ),
        (
            "plain",
            ["", "Just text.", "5 * 3 * 2", "snake_case_name", "a < b", "Line one\nline two", "50% off!", "C# and #1", "https://example.com", "-5 degrees"],
            ["# Title", "- item", "1. item", "**bold**", "*em*", "`code`", "```\ncode\n```", "> quote", "[a](https://example.com)", "![a](https://example.com)", "a\n---",
             "| a |\n|---|\n| b |", "<b>x</b>", "~~gone~~", "    code"],
        ),
    ],
)  # fmt: skip
def test_a_format_accepts_its_forms_and_refuses_what_looks_similar(kind: Any, good: list[str], bad: list[str]):
    """Tables of near-misses."""
    check = Format(name="f", format=kind)

    assert [(text, True) for text in good] == [(text, _passed(check, text)) for text in good]
    assert [(text, False) for text in bad] == [(text, _passed(check, text)) for text in bad]


@pytest.mark.parametrize(
    ("value", "passed"), [(1, True), (-2.5, True), ("3", True), (True, False), (None, False), ([1], False), ({}, False), ("x", False)]
)  # fmt: skip
def test_a_number_in_json_is_a_number_or_its_text(value: Any, *, passed: bool):
    """A boolean is none, and null is allowed only when the check says so."""
    completion = Completion(text="x", format="json", value={"v": value})
    score = Format(name="f", format="number", path="/v").score(completion, CASE)
    nullable = Format(name="f", format="number", path="/v", allow_null=True).score(completion, CASE)

    assert isinstance(score, Score)
    assert isinstance(nullable, Score)
    assert (passed, passed or value is None) == (score.passed, nullable.passed)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "NaN", "nan", "Infinity"])
def test_C5_nan_and_infinity_are_no_numbers(value: Any):
    """Strict JSON has none, so an answer that carries one is broken."""
    score = Format(name="f", format="number", path="/v").score(Completion(text="x", format="json", value={"v": value}), CASE)  # fmt: skip

    assert isinstance(score, Score)
    assert not score.passed


SENTENCES = {
    "en": "Thank you for your order, it will be delivered on Monday.",
    "de": "Vielen Dank für Ihre Bestellung, sie wird am Montag geliefert.",
    "fr": "Merci pour votre commande, elle sera livrée lundi prochain.",
    "es": "Gracias por su pedido, se lo entregaremos el lunes que viene.",
    "ja": "ご注文ありがとうございます。月曜日にお届けします。",
    "zh": "感谢您的订购，我们将在星期一为您送货上门。",
}


@pytest.mark.parametrize("wanted", SENTENCES)
@pytest.mark.parametrize("written", SENTENCES)
def test_language_of_a_sentence_is_told(written: str, wanted: str):
    """A whole sentence in each language, against each wanted one."""
    case = CaseFacts(category="c", inputs={"question": SENTENCES[wanted]}, expected={"lang": wanted})
    checks = (
        Language(name="l", is_=wanted),
        Language(name="l", expected="/lang"),
        Language(name="l", same_as="question"),
    )

    assert [written == wanted] * 3 == [_passed(check, SENTENCES[written], case) for check in checks]


@pytest.mark.parametrize(
    "text", ["OK", "12345", "INV-2024-001", "https://example.com/de/haus", "a@example.com", "!?", "🙂", "Danke for the quick reply, the Lieferung kam heute."]
)  # fmt: skip
def test_a_text_too_short_or_too_mixed_is_unscored(text: str):
    """Numbers, ids and links have no language; a doubt is neither a pass nor a fail."""
    score = Language(name="l", is_="fr").score(Completion.of(text, "text"), CASE)

    assert isinstance(score, Unscored)
    assert score.reason.startswith("cannot tell the language of the answer")


@pytest.mark.parametrize(
    ("text", "language"),
    [("Ihre Bestellung INV-2024-001 vom 3.5.2024 ist unterwegs: https://example.com/track/your/order", "de"), ("iPhone 15 Proの保証期間は1年です", "ja"),
     ("保証期間は2年です", "ja"), ("詳細はhttps://example.com/aをご覧ください", "ja"), ("これ", "ja"), ("Please read the manual of the ラジオ before you ask us again.", "en"), ("", ""), ("123", "")],
)  # fmt: skip
def test_names_numbers_and_links_do_not_decide_the_language(text: str, language: str):
    """Kana decide for Japanese when they are a good part of the text."""
    assert language == detect_language(text)


def test_language_needs_something_to_compare_and_something_written():
    """No expected language: not scored. An unclear input: unscored. An empty answer: failed."""
    completion = Completion.of(SENTENCES["en"], "text")
    unclear = CaseFacts(category="c", inputs={"q": "12345"}, expected={"lang": None})

    assert [None, None, None, Unscored(check="l", reason="cannot tell the language of the input")] == [
        Language(name="l", expected="/lang").score(completion, CASE),
        Language(name="l", expected="/lang").score(completion, unclear),
        Language(name="l", same_as="q").score(completion, CASE),
        Language(name="l", same_as="q").score(completion, unclear),
    ]
    assert Score(check="l", passed=False, reason="the answer is empty") == Language(name="l", is_="en").score(
        Completion.of(" \n", "text"), CASE
    )


def test_every_check_is_registered_under_its_kind_with_a_version():
    """The subject digest holds kind and version, so both must be there."""
    kinds = ["citations", "contains", "cost", "edit_distance", "equals", "format", "is_json", "json_schema", "keywords", "language",
             "latency", "length", "not_contains", "pydantic", "python", "regex", "similarity", "sql", "starts_with", "tool_call"]  # fmt: skip

    assert kinds == sorted(CHECKS)
    assert all(check.kind == kind and check.version >= 1 for kind, check in CHECKS.items())
