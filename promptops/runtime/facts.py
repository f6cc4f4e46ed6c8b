"""What two questions must share to have one answer: numbers, dates, units, ids, negation, opposites, names and roles."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from promptops.runtime.language import guess_language
from promptops.runtime.lexicon import (
    ALONE,
    DATE_WORDS,
    NEGATIONS,
    NEGATIONS_JA,
    NUMBER_WORDS,
    OPPOSITES,
    ROLE_MARKS,
    ROLE_MARKS_JA,
    STOP_WORDS,
    SYNONYMS,
    UNIT_WORDS,
)

MAX_CHARS: Final = 2_000
"""Longer texts are compared by their first 2,000 characters only where they are equal in length; else they never match."""

_ISO_DATE = re.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b")
_MONTH_JA = re.compile(r"(\d{1,2})月")
_TIME = re.compile(r"\b(\d{1,2})\s?([ap])\.?m\b\.?")
_ID = re.compile(r"[a-z0-9._%+-]+@[a-z0-9.-]+|(?:https?://|www\.)\S+|#?[a-z0-9]+(?:[-_/][a-z0-9]+)*")
# Patterns that begin with the letters they look for are searched for several times faster; what is before is checked afterwards.
_UPPER = re.compile(r"[A-ZÀ-Þ](?:(?<!×)(?<!\w[A-ZÀ-Þ])|(?<=\w×))[^\W\d_]+")
_DIGIT = re.compile(r"\d")
_MAY_HOLD_ID = re.compile(r"[\d@]|www\.|http")
_TOKEN = re.compile(
    r"[\u30a0-\u30ff]+|[\u3400-\u4dbf\u4e00-\u9fff々]+|[\u3040-\u309f]+|r\$|[$€£¥%]|°[cf]|\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’-][^\W\d_]+)*"
)
_TOKEN_ASCII = re.compile(r"r\$|[$%]|[0-9]+(?:[.,][0-9]+)*|[a-z]+(?:['-][a-z]+)*")
_CAPITAL = re.compile(
    r"[A-ZÀ-ÖØ-Þ](?<![.!?:。\n\"“¿¡(«\w][A-ZÀ-Þ])(?<![.!?:]\s[A-ZÀ-Þ])(?<!^[A-ZÀ-Þ])[^\W\d_]*(?:[-'’][^\W\d_]+)*"
)
_WITH_ID = re.compile(r"(?<!\S)(?:[^\s\d]*\d\S*|\S+@\S+)")
_CONTRACTED = re.compile(r"n['’]t\b")
_NOT_WORKING = re.compile(
    r"\b(?:is|are|does|do|did|was|will|wo|has|have|ca|can)?(?:n['’]t| not|not)\s+(?:be\s+)?(?:working|work|function|functioning)\b"
)
_NEGATIVE_JA = re.compile(NEGATIONS_JA)
_ASKING_JA = re.compile(
    r"(?:ませんか|ないですか|ないでしょうか|かもしれない|なければ(?:なりません|ならない|いけ\w*)|なくては(?:なりません|ならない|いけ\w*))"
)
_ROLE_JA = re.compile(r"([\u30a0-\u30ff\u3400-\u4dbf\u4e00-\u9fffA-Za-z0-9々]+)(から|より|まで|へ|に|が|を)")
_KANA = re.compile(r"[\u3040-\u309f]+")
_JA = re.compile(r"[\u3040-\u30ff]")


def _strip(word: str) -> str:
    if max(word, default="") > "\u02ff":  # marks of Latin letters are an accent, those of kana another sound
        return word
    return "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A crude common form: no accents, no usual ending, at most seven letters."""
    base = _strip(word.replace("’", "'"))
    if not base.isascii():
        return base
    base = base.removesuffix("'s")
    for ending in (
        "ations",
        "ation",
        "ings",
        "ing",
        "ement",
        "ments",
        "ment",
        "ungen",
        "ung",
        "ies",
        "ied",
        "ed",
        "es",
        "en",
        "er",
        "s",
        "e",
        "n",
        "y",
    ):
        if base.endswith(ending) and len(base) - len(ending) >= 4:
            base = base[: -len(ending)]
            break
    return base[:7]


_STOP: Final = frozenset(STOP_WORDS).union(*ROLE_MARKS.values())
_NO_CONTENT: Final = _STOP | NEGATIONS
_AMBIGUOUS_DATES: Final = frozenset(
    [
        "may",
        "march",
        "fall",
        "mar",
        "second",
        "morgen",
        "tarde",
        "noite",
        "manhã",
        "mañana",
        "ete",
        "été",
        "spring",
        "hier",
        "mars",
        "natal",
        "segunda",
        "terça",
        "quarta",
        "quinta",
        "sexta",
    ]
)
_MAYBE_DATES: Final = _AMBIGUOUS_DATES | DATE_WORDS.keys()
_NUMBERS: Final = NUMBER_WORDS
_CONCEPTS: Final[dict[str, list[int]]] = {}
_SIDES: Final[dict[str, tuple[tuple[int, int], ...]]] = {}


def _fill() -> None:
    for place, group in enumerate(SYNONYMS):
        for word in group:
            _CONCEPTS.setdefault(stem(word), []).append(place)
    for place, (left, right) in enumerate(OPPOSITES):
        for side, words in ((0, left), (1, right)):
            for key in {word if len(word) < 5 else stem(word) for word in words}:
                _SIDES[key] = (*_SIDES.get(key, ()), (place, side))


_fill()


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one text. `content` are its content words as stems, in order."""

    length: int
    content: tuple[str, ...]
    tokens: frozenset[str]
    numbers: tuple[tuple[str, int], ...]
    units: frozenset[str]
    dates: frozenset[str]
    ids: frozenset[str]
    negated: bool
    sides: frozenset[tuple[int, int]]
    names: frozenset[str]
    capitals: frozenset[str]
    german: bool
    roles: frozenset[tuple[str, str]]
    digest: int


@lru_cache(maxsize=16_384)
def facts_of(text: str) -> Facts:
    """Read a text once; comparing two is then a few set operations."""
    shown = unicodedata.normalize("NFKC", text[:MAX_CHARS])
    folded = shown.casefold().replace("’", "'")
    language = guess_language(folded)
    dates: set[str] = set()
    folded = _dates(folded, dates)
    ids = {match for match in _ID.findall(folded) if _is_id(match)} if _MAY_HOLD_ID.search(folded) else set()
    without = folded
    for found in sorted(ids, key=len, reverse=True):
        without = without.replace(found, " ")
    raw = _tokens(without)
    numbers: Counter[str] = Counter()
    units: set[str] = set()
    words: list[str] = []
    for place, word in enumerate(raw):
        if word[0].isdigit():
            numbers[_plain_number(word)] += 1
            continue
        if word in _NUMBERS and not (word == "mil" and language == "de"):
            numbers[_NUMBERS[word]] += 1
            continue
        if word in _MAYBE_DATES or word.endswith("'s"):
            named = _date_word(word, language, raw, place)
            if named:
                dates.add(named)
        unit = UNIT_WORDS.get(word)
        if unit and (_after_number(raw, place) or (unit in ALONE and len(word) > 2) or word in "$€£¥%"):
            units.add(unit)
        words.append(word)
    japanese = not shown.isascii() and _JA.search(shown) is not None
    stems = [stem(word) for word in words]
    content = tuple(base for word, base in zip(words, stems, strict=True) if _is_content(word, japanese=japanese))
    return Facts(
        length=len(text), content=content, tokens=frozenset(stems), numbers=tuple(sorted(numbers.items())), units=frozenset(units),
        dates=frozenset(dates), ids=frozenset(ids), negated=_negated(folded, language, japanese=japanese, tokens=() if ids else raw),
        sides=frozenset([side for word, base in zip(words, stems, strict=True) for side in _SIDES.get(word if len(word) < 5 else base, ())]),
        names=_names(_without_ids(shown), language), capitals=_capitals(shown), german=language == "de",
        roles=_roles(words, stems, shown, language, japanese=japanese), digest=hash(text),
    )  # fmt: skip


def _tokens(folded: str) -> list[str]:
    return (_TOKEN_ASCII if folded.isascii() else _TOKEN).findall(folded)


def _without_ids(shown: str) -> str:
    """Without the words that hold a digit or an address."""
    return _WITH_ID.sub(" ", shown) if "@" in shown or _DIGIT.search(shown) else shown


def _dates(folded: str, dates: set[str]) -> str:
    def iso(match: re.Match[str]) -> str:
        dates.add(f"m{int(match[2])}")
        return f" {match[1]} {int(match[3])} "

    def month(match: re.Match[str]) -> str:
        dates.add(f"m{int(match[1])}")
        return " "

    def clock(match: re.Match[str]) -> str:
        return f" {int(match[1]) % 12 + (12 if match[2] == 'p' else 0)} uhr "

    if not _DIGIT.search(folded):
        return folded
    if "-" in folded:
        folded = _ISO_DATE.sub(iso, folded)
    if "月" in folded:
        folded = _MONTH_JA.sub(month, folded)
    if any(mark in folded for mark in ("am", "pm", "a.m", "p.m")):
        folded = _TIME.sub(clock, folded)
    return folded


def _is_id(word: str) -> bool:
    """Letters and digits in one word, an address, or a long number: an order, a model, a mail address."""
    if word.startswith(("http", "www.")) or "@" in word:
        return True
    if word.isalpha():
        return False
    digits = sum(map(str.isdigit, word))
    if digits and any(map(str.isalpha, word)):
        return not re.fullmatch(
            r"\d+(?:st|nd|rd|th|h|hrs?|am|pm|kg|g|km|cm|mm|m|gb|mb|tb|ml|l|w|v|mah|x|er|e|a|o|°c|min|s|lbs?|oz|mi|ft|euros?|eur|usd)",
            word,
        )
    return digits >= 5 or (word.startswith("#") and digits > 0) or ("-" in word and digits >= 4)


def _plain_number(word: str) -> str:
    """`1,000` and `1.000` are a thousand, `1,5` and `1.5` one and a half."""
    groups = re.split(r"[.,]", word)
    if len(groups) > 1 and all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3 and groups[0] != "0":
        return "".join(groups).lstrip("0") or "0"
    whole = ".".join(groups)
    return whole.rstrip("0").rstrip(".") if "." in whole else whole.lstrip("0") or "0"


def _date_word(word: str, language: str, raw: list[str], place: int) -> str:
    word = word.removesuffix("'s")
    if word in ("may", "march", "fall", "mar", "second"):
        return (
            {"may": "m5", "march": "m3"}.get(word, "")
            if _near_number(raw, place) or (place and raw[place - 1] in ("in", "by", "since", "until", "of", "for"))
            else ""
        )
    if word == "morgen":
        return (
            "tomorrow" if language == "de" and not (place and raw[place - 1] in ("am", "guten", "jeden")) else "morning"
        )
    if (
        word in ("tarde", "noite")
        and language == "es"
        and word == "tarde"
        and place
        and raw[place - 1] in ("más", "mas")
    ):
        return ""
    if word == "manhã" or (word == "mañana" and place and raw[place - 1] == "la"):
        return "morning"
    if word in ("ete", "été", "spring", "hier", "mars", "natal", "segunda", "terça", "quarta", "quinta", "sexta"):
        wanted = {
            "été": "fr",
            "hier": "fr",
            "mars": "fr",
            "segunda": "pt",
            "terça": "pt",
            "quarta": "pt",
            "quinta": "pt",
            "sexta": "pt",
            "spring": "en",
            "natal": "pt",
        }
        if wanted.get(word, language) != language or (
            word == "été" and not (place and raw[place - 1] in ("en", "l'", "cet", "l"))
        ):
            return ""
    return DATE_WORDS.get(word, "")


def _near_number(raw: list[str], place: int) -> bool:
    return any(0 <= near < len(raw) and raw[near][0].isdigit() for near in (place - 1, place + 1, place - 2))


def _after_number(raw: list[str], place: int) -> bool:
    before, after = raw[place - 1] if place else "", raw[place + 1] if place + 1 < len(raw) else ""
    return (bool(before) and (before[0].isdigit() or before in _NUMBERS)) or (
        bool(after) and after[0].isdigit() and len(raw[place]) <= 3
    )


def _is_content(word: str, *, japanese: bool) -> bool:
    if word in _NO_CONTENT or (len(word) == 1 and word.isascii()):
        return False
    return not (japanese and _KANA.fullmatch(word))


def _negated(folded: str, language: str, *, japanese: bool, tokens: Sequence[str]) -> bool:
    """Whether the text says no; `tokens` are those of `folded`, if they are known. Polite Japanese negatives ask, and deny nothing."""
    if japanese:
        return _NEGATIVE_JA.search(_ASKING_JA.sub(" ", folded)) is not None
    if "not" in folded or "n't" in folded:
        plain = _NOT_WORKING.sub(" broken ", folded)
        if _CONTRACTED.search(plain):
            return True
        tokens = _tokens(plain)
    return any(word in NEGATIONS and not (word == "no" and language == "pt") for word in tokens or _tokens(folded))


def _names(shown: str, language: str) -> frozenset[str]:
    """Capitalised words inside sentences; German writes all nouns so, and is compared by its words alone."""
    if language == "de":
        return frozenset()
    found = {match for match in _CAPITAL.findall(shown) if len(match) > 1}
    if not found:
        return frozenset()
    words = shown.split()
    if sum(word[:1].isupper() for word in words) > 0.6 * len(words):  # a headline
        return frozenset()
    return frozenset(stem(word.casefold()) for word in found if word.casefold() not in _STOP)


def _capitals(shown: str) -> frozenset[str]:
    """Words with a capital letter, at the beginning of a sentence too."""
    return frozenset(stem(word.casefold()) for word in _UPPER.findall(shown))


def _roles(
    words: list[str], stems: list[str], shown: str, language: str, *, japanese: bool
) -> frozenset[tuple[str, str]]:
    if japanese:
        return frozenset((ROLE_MARKS_JA[mark], noun.casefold()) for noun, mark in _ROLE_JA.findall(shown))
    found: set[tuple[str, str]] = set()
    marks = ROLE_MARKS.get(language, ROLE_MARKS["en"])
    mark, bound = "", 0
    for word, base in zip(words, stems, strict=True):
        if word in marks:
            mark, bound = marks[word], 0
        elif mark and _is_content(word, japanese=False):
            found.add((mark, base))
            bound += 1
            mark = mark if bound < 2 else ""
    return frozenset(found)


def vetoes(one: Facts, other: Facts) -> tuple[str, ...]:
    """Why two texts cannot have the same answer, in words of this module; empty when nothing says so."""
    found: list[str] = []
    if max(one.length, other.length) > MAX_CHARS and one.digest != other.digest:
        found.append("too long to compare")
    if one.numbers != other.numbers:
        found.append("number")
    if one.units != other.units and ((one.units and other.units) or one.numbers or other.numbers):
        found.append("unit")
    if one.dates != other.dates:
        found.append("date")
    if one.ids != other.ids:
        found.append("id")
    if one.negated != other.negated:
        found.append("negation")
    if _opposite(one, other):
        found.append("antonym")
    if (one.names - other.tokens) or (other.names - one.tokens):
        found.append("entity")
    if _swapped(one, other):
        found.append("role")
    return tuple(found)


def _opposite(one: Facts, other: Facts) -> bool:
    """One side of a pair of opposites only here, the other only there."""
    only_one, only_other = one.sides - other.sides, other.sides - one.sides
    return any(
        (place, 1 - side) in only_other and (place, side) not in other.sides and (place, 1 - side) not in one.sides
        for place, side in only_one
    )


def _swapped(one: Facts, other: Facts) -> bool:
    """The same word after `from` here and after `to` there, or two words that changed places around a third."""
    if one.roles and other.roles and _roles_swapped(one, other):
        return True
    if (
        one.content != other.content
        and len(one.content) == len(other.content)
        and sorted(one.content) == sorted(other.content)
    ):
        moved = [
            place for place, (left, right) in enumerate(zip(one.content, other.content, strict=True)) if left != right
        ]
        return len(moved) == 2 and _traded(one, other, moved[0], moved[1])
    return False


def _roles_swapped(one: Facts, other: Facts) -> bool:
    marks = {word: mark for mark, word in one.roles}
    for mark, word in other.roles:
        there = marks.get(word)
        if (
            there is not None
            and there != mark
            and (there, word) not in other.roles
            and (mark, word) not in one.roles
            and _opposed(there, mark)
        ):
            return True
    subjects = {kind: {word for mark, word in one.roles if mark == kind} for kind in ("subject", "object")}
    if (
        subjects["subject"]
        and subjects["object"]
        and {("object", word) for word in subjects["subject"]} | {("subject", word) for word in subjects["object"]}
        <= other.roles
    ):
        return True
    ones = {mark: {word for there, word in one.roles if there == mark} for mark, _ in one.roles}
    for mark, words in ones.items():
        if mark not in _DIRECTED:
            continue
        others = {word for there, word in other.roles if there == mark}
        if others and not words & others and words <= other.tokens and others <= one.tokens:
            return True
    return False


def _traded(one: Facts, other: Facts, first: int, second: int) -> bool:
    """Whether two words that changed places changed roles with them: not where both kept the same mark (`to B from A`).

    Neighbours trade roles only when both are names; German puts verbs at either end, so there both must be nouns.
    """
    pair = {one.content[first], one.content[second]}
    marked = {(mark, word) for mark, word in one.roles if word in pair}
    if {word for _, word in marked} == pair and marked == {(mark, word) for mark, word in other.roles if word in pair}:
        return False
    both_capital = pair <= one.capitals and pair <= other.capitals
    return both_capital or (second - first >= 2 and not one.german)


_DIRECTED: Final = frozenset({"from", "to", "than", "before", "after", "by", "against", "over"})
_OPPOSED: Final = {frozenset(pair) for pair in (("from", "to"), ("before", "after"), ("subject", "than"), ("from", "for"), ("by", "to"), ("with", "for"))}  # fmt: skip


def _opposed(one: str, other: str) -> bool:
    return frozenset((one, other)) in _OPPOSED


def unmatched(one: Facts, other: Facts) -> tuple[list[str], list[str], int]:
    """Content words of each side without a counterpart of the same stem or meaning, and how many matched."""
    left, right = list(dict.fromkeys(one.content)), list(dict.fromkeys(other.content))
    common = set(left) & set(right)
    left, right = [word for word in left if word not in common], [word for word in right if word not in common]
    matched = len(common)
    for word in list(left):
        partner = next((there for there in right if _same_meaning(word, there)), None)
        if partner is not None:
            left.remove(word)
            right.remove(partner)
            matched += 1
    return left, right, matched


@lru_cache(maxsize=65_536)
def _same_meaning(one: str, other: str) -> bool:
    if one[:5] == other[:5] and min(len(one), len(other)) >= 5:
        return True
    if one in other or other in one:
        return min(len(one), len(other)) >= 4 or (not one.isascii() and min(len(one), len(other)) >= 2)
    if bool(set(_CONCEPTS.get(one, ())) & set(_CONCEPTS.get(other, ()))):
        return True
    return _typo(one, other)


def _typo(one: str, other: str) -> bool:
    """One letter changed, left out, added, or two neighbours swapped, in words of five letters or more."""
    if abs(len(one) - len(other)) > 1 or min(len(one), len(other)) < 5 or one[0] != other[0]:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[2:] == b[2:] and a[:2] == b[:2][::-1])


def pair_features(one: Facts, other: Facts) -> tuple[float, float, float, float, float]:
    """(share of matched content words, unmatched on the smaller side, on the larger side, one swapped word, difference in length), each in 0..1."""
    left, right, matched = unmatched(one, other)
    total = matched + (len(left) + len(right)) / 2
    few, many = sorted((len(left), len(right)))
    swap = 1.0 if len(left) == len(right) == 1 and matched else 0.0
    lengths = abs(one.length - other.length) / max(one.length, other.length, 1)
    return (matched / total if total else 1.0, min(few, 4) / 4, min(many, 6) / 6, swap, lengths)
