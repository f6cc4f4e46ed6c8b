"""Checks on the form of an answer: length, formats, language."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from math import isfinite
from typing import Any, ClassVar, Literal

from promptops.core.checks.base import (
    CaseFacts,
    Check,
    Completion,
    NotStated,
    Score,
    Unscored,
    brief,
    expected_at,
    part_of,
    scoring,
    spelled,
    text_part,
)
from promptops.core.text import estimate_tokens, sentences, words

Unit = Literal["chars", "words", "sentences", "tokens"]
_COUNT: dict[str, Callable[[str], int]] = {
    "chars": len,
    "words": lambda text: len(words(text)),
    "sentences": lambda text: len(sentences(text)),
    "tokens": estimate_tokens,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Length(Check):
    """The answer has at least `min` and at most `max` of `unit`; in unspaced scripts a character is a word."""

    kind: ClassVar[str] = "length"
    version: ClassVar[int] = 1
    name: str
    unit: Unit = "chars"
    path: str = ""
    min: int = 0
    max: int | None = None

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        count = _COUNT[self.unit](text_part(completion, self.path))
        passed = count >= self.min and (self.max is None or count <= self.max)
        limit = f"{self.min}..{'' if self.max is None else self.max}"
        return Score(check=self.name, passed=passed, reason=f"{count} {self.unit} (allowed {limit})")


_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_AMOUNT = r"[-+]?\d{1,3}(?:[.,'  ]?\d{3})*(?:[.,]\d{1,3})?"
_SIGN = "[$€£¥₹₩₽₺₫฿]|R\\$|CHF|kr"
_ISO_4217 = (
    "AED|AFN|ALL|AMD|ANG|AOA|ARS|AUD|AWG|AZN|BAM|BBD|BDT|BGN|BHD|BIF|BMD|BND|BOB|BRL|BSD|BTN|BWP|BYN|BZD|CAD|CDF|"
    "CHF|CLF|CLP|CNY|COP|CRC|CUP|CVE|CZK|DJF|DKK|DOP|DZD|EGP|ERN|ETB|EUR|FJD|FKP|GBP|GEL|GHS|GIP|GMD|GNF|GTQ|GYD|"
    "HKD|HNL|HTG|HUF|IDR|ILS|INR|IQD|IRR|ISK|JMD|JOD|JPY|KES|KGS|KHR|KMF|KPW|KRW|KWD|KYD|KZT|LAK|LBP|LKR|LRD|LSL|"
    "LYD|MAD|MDL|MGA|MKD|MMK|MNT|MOP|MRU|MUR|MVR|MWK|MXN|MYR|MZN|NAD|NGN|NIO|NOK|NPR|NZD|OMR|PAB|PEN|PGK|PHP|PKR|"
    "PLN|PYG|QAR|RON|RSD|RUB|RWF|SAR|SBD|SCR|SDG|SEK|SGD|SHP|SLE|SOS|SRD|SSP|STN|SVC|SYP|SZL|THB|TJS|TMT|TND|TOP|"
    "TRY|TTD|TWD|TZS|UAH|UGX|USD|UYU|UZS|VED|VES|VND|VUV|WST|XAF|XCD|XOF|XPF|YER|ZAR|ZMW|ZWG"
)
_CURRENCY = re.compile(
    rf"(?:[-+]?(?:{_ISO_4217}|{_SIGN})[ \xa0\u202f]?{_AMOUNT}|{_AMOUNT}[ \xa0\u202f]?(?:{_ISO_4217}|{_SIGN}|円))",
    re.ASCII,
)
_MARKDOWN_LINE_END = re.compile(r"\r\n?|\n")
_SAFE_LINK = re.compile(r"(?:https?://|mailto:|#|/)", re.IGNORECASE)
_MARKUP = frozenset(("heading_open", "bullet_list_open", "ordered_list_open", "fence", "code_block", "blockquote_open",
                     "table_open", "hr", "strong_open", "em_open", "link_open", "image", "code_inline", "html_block",
                     "html_inline", "s_open"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(Check):
    """The answer, or its part at `path`, has a form.

    `date`: parses as `date_format` (strptime codes) and is written exactly so. `number`: a JSON number, or decimal text.
    `currency`: an amount with an ISO 4217 code or a sign. `markdown`: fences closed, no HTML, links to http(s) or mailto.
    `plain`: no markup at all.
    """

    kind: ClassVar[str] = "format"
    version: ClassVar[int] = 1
    name: str
    format: Literal["date", "number", "currency", "markdown", "plain"]
    path: str = ""
    date_format: str = "%Y-%m-%d"
    allow_null: bool = False

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        part = part_of(completion, self.path)
        if part is None and self.allow_null:
            return Score(check=self.name, passed=True, reason="null is allowed")
        if self.format == "number" and isinstance(part, int | float) and not isinstance(part, bool) and isfinite(part):
            return Score(check=self.name, passed=True, reason="a number")
        if not isinstance(part, str):
            return Score(check=self.name, passed=False, reason=f"{brief(part)} is not a {self.format}")
        fault = self._fault(part)
        return Score(check=self.name, passed=not fault, reason=fault or f"valid {self.format}")

    def _fault(self, text: str) -> str:
        match self.format:
            case "date":
                return date_fault(text, self.date_format)
            case "number":
                return "" if _NUMBER.fullmatch(text.strip()) else f"{brief(text)} is not a number"
            case "currency":
                return "" if _CURRENCY.fullmatch(text.strip()) else f"{brief(text)} is not an amount with a currency"
            case "markdown":
                return _markdown_fault(text)
            case "plain":
                return _plain_fault(text)


def date_fault(text: str, date_format: str) -> str:
    """Why `text` is not a date in exactly this format ('' when it is one); 2024-2-30 and 2024-2-3 are not."""
    try:
        moment = datetime.strptime(text, date_format)  # noqa: DTZ007 - a date, not a moment
    except ValueError:
        return f"{brief(text)} is not a date in the format {date_format}"
    written = moment.strftime(date_format)
    if "%Y" in date_format and moment.year < 1000:
        return f"{brief(text)} has a year before 1000"
    return "" if written.casefold() == text.casefold() else f"{brief(text)} should be written {written}"


def _flat(tokens: list[Any]) -> list[Any]:
    return [leaf for token in tokens for leaf in (token, *(_flat(token.children or [])))]


def _any_link(url: str) -> bool:  # noqa: ARG001 - the name is that of the method it stands in for
    return True


@lru_cache(maxsize=1)
def _markdown_parser() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    parser.validateLink = _any_link  # type: ignore[method-assign] # a link it refuses would pass here as plain text
    return parser


def _markdown_fault(text: str) -> str:
    lines = _MARKDOWN_LINE_END.split(text)
    for token in _flat(_markdown_parser().parse(text)):
        if token.type in ("html_block", "html_inline"):
            return f"HTML: {brief(token.content)}"
        target = (
            str(token.attrGet("href") or token.attrGet("src") or "") if token.type in ("link_open", "image") else ""
        )
        if target and not _SAFE_LINK.match(target):
            return f"link to {brief(target)}"
        if token.type == "fence" and not _is_closed(token, lines):
            return "a code fence is not closed"
    return ""


def _is_closed(fence: Any, lines: list[str]) -> bool:
    first, end = fence.map
    last = lines[end - 1].strip(" \t>")
    return end - first > 1 and last.startswith(fence.markup) and not last.strip(fence.markup[0])


def _plain_fault(text: str) -> str:
    found = next((token.type for token in _flat(_markdown_parser().parse(text)) if token.type in _MARKUP), "")
    return f"contains markup ({found.removesuffix('_open').replace('_', ' ')})" if found else ""


_CONFIDENT = 0.6
_KANA = re.compile(r"[\u3041-\u30ff]")
_HAN = re.compile(r"[\u3400-\u9fff]")
_NOT_PROSE = re.compile(r"https?://[!-~]+|[!-~]+@[!-~]+|[\w-]*\d[\w-]*|[A-Z]{2,}[-_]\w+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Language(Check):
    """The answer is in the stated language: `is` (ISO 639-1), the one at `expected`, or that of the input `same_as`.

    Text that is too short or too mixed to tell is Unscored, never failed.
    """

    kind: ClassVar[str] = "language"
    version: ClassVar[int] = 1
    name: str
    is_: str = ""
    expected: str = ""
    same_as: str = ""
    path: str = ""

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        text = text_part(completion, self.path)
        wanted = self._wanted(case)
        if not text.strip():
            return Score(check=self.name, passed=False, reason="the answer is empty")
        if not wanted:
            return Unscored(check=self.name, reason="cannot tell the language of the input")
        got, probability = guess_language(text)
        if got != wanted and probability < _CONFIDENT:
            return Unscored(
                check=self.name,
                reason=f"cannot tell the language of the answer ({got} with probability {probability:.2f})",
            )
        return Score(check=self.name, passed=got == wanted, reason=f"answer in {got}, wanted {wanted}")

    def _wanted(self, case: CaseFacts) -> str:
        if self.is_:
            return self.is_
        if self.expected:
            return spelled(expected_at(case, self.expected))
        if self.same_as not in case.inputs:
            raise NotStated
        return detect_language(str(case.inputs[self.same_as]))


def detect_language(text: str) -> str:
    """ISO 639-1 code of the main language, '' when it cannot be told with a probability of 0.6."""
    language, probability = guess_language(text)
    return language if probability >= _CONFIDENT else ""


def guess_language(text: str) -> tuple[str, float]:
    """The likeliest ISO 639-1 code and its probability (0..1); numbers, ids, addresses and links do not count.

    Kana decide for Japanese when at least 3 of 10 letters are Japanese or Chinese characters: only Japanese writes kana.
    """
    prose = _NOT_PROSE.sub(" ", text)
    kana, han, letters = len(_KANA.findall(prose)), len(_HAN.findall(prose)), sum(map(str.isalpha, prose))
    if kana and (kana + han) * 10 >= letters * 3:
        return "ja", 1.0
    language, probability = _language_model().classify(prose)
    return str(language), float(probability)


@lru_cache(maxsize=1)
def _language_model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
