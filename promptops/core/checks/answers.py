"""Checks on what the answer says: schema, values, words, patterns."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from json import JSONDecoder
from typing import ClassVar

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
from promptops.core.jsontext import Json, JsonError, parse_json
from promptops.core.schema import JsonSchema, pattern_schema
from promptops.core.text import fold, words

_MAX_SIMILARITY_CHARS = 20_000
_MAX_BRACKETS = 200
_BRACKET = re.compile(r"[{\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchemaCheck(Check):
    """The answer is JSON that fits the schema of the case's category, else the schema of the prompt."""

    kind: ClassVar[str] = "json_schema"
    version: ClassVar[int] = 1
    name: str = "json_schema"
    default: JsonSchema | None = None
    by_category: Mapping[str, JsonSchema] = field(default_factory=dict)

    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        schema = self.by_category.get(case.category, self.default)
        if schema is None:
            return Unscored(check=self.name, reason=f"no schema for category {case.category}")
        if completion.json_error:
            return Score(check=self.name, passed=False, reason=completion.json_error)
        if schema.accepts(completion.value):
            return Score(check=self.name, passed=True, reason="fits the schema")
        first = next(schema.violations(completion.value))
        return Score(check=self.name, passed=False, reason=f"{first.pointer or '/'}: {brief(first.message, 160)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Equals(Check):
    """The part of the answer at `path` equals the expected value at `expected` (default: the same path); `negate`: differs from it."""

    kind: ClassVar[str] = "equals"
    version: ClassVar[int] = 1
    name: str
    path: str = ""
    expected: str = ""
    ignore_case: bool = False
    unordered: bool = False
    tolerance: float = 0.0
    negate: bool = False

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        wanted = expected_at(case, self.expected or self.path)
        got = part_of(completion, self.path, whole_value=completion.format == "json")
        equal = self._same(got, wanted)
        return Score(
            check=self.name,
            passed=equal is not self.negate,
            reason="equal" if equal else f"{brief(got)} is not {brief(wanted)}",
        )

    def _same(self, got: Json, wanted: Json) -> bool:
        if isinstance(got, bool) or isinstance(wanted, bool):
            return got is wanted
        if isinstance(got, int | float) and isinstance(wanted, int | float):
            return abs(got - wanted) <= self.tolerance
        if isinstance(got, str) and isinstance(wanted, str):
            return fold(got) == fold(wanted) if self.ignore_case else got == wanted
        if isinstance(got, list) and isinstance(wanted, list):
            return self._same_items(got, wanted)
        if isinstance(got, dict) and isinstance(wanted, dict):
            return got.keys() == wanted.keys() and all(self._same(got[key], wanted[key]) for key in got)
        return got is None and wanted is None

    def _same_items(self, got: list[Json], wanted: list[Json]) -> bool:
        if len(got) != len(wanted):
            return False
        if not self.unordered:
            return all(self._same(*pair) for pair in zip(got, wanted, strict=True))
        return _pairs_up([[index for index, other in enumerate(wanted) if self._same(item, other)] for item in got])


def _pairs_up(options: Sequence[Sequence[int]]) -> bool:
    """Whether each row can have a column of its own from its options (augmenting paths, Kuhn 1955)."""
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column in options[row]:
            if column not in tried:
                tried.add(column)
                if column not in owner or place(owner[column], tried):
                    owner[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(options)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contains(Check):
    """Every one of `values` (or of the expected list) occurs in the answer, to the letter; `any`: at least one does; `negate`: not so."""

    kind: ClassVar[str] = "contains"
    version: ClassVar[int] = 1
    name: str
    path: str = ""
    values: Sequence[str] = ()
    expected: str = ""
    any: bool = False
    ignore_case: bool = False
    negate: bool = False

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        wanted = _strings(self.values, case, self.expected)
        text = text_part(completion, self.path)
        held = text.casefold() if self.ignore_case else text
        absent = [value for value in wanted if (value.casefold() if self.ignore_case else value) not in held]
        held_enough = len(absent) < len(wanted) if self.any else not absent
        reason = ("one is found" if absent else "all found") if held_enough else f"missing: {brief(', '.join(absent))}"
        return Score(check=self.name, passed=held_enough is not self.negate, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotContains(Check):
    """None of `values` (or of the expected list) occurs in the answer; case, width and blanks do not matter."""

    kind: ClassVar[str] = "not_contains"
    version: ClassVar[int] = 1
    name: str
    path: str = ""
    values: Sequence[str] = ()
    expected: str = ""

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        unwanted = _strings(self.values, case, self.expected)
        text = fold(text_part(completion, self.path))
        present = [value for value in unwanted if fold(value) in text]
        reason = f"found: {brief(', '.join(present))}" if present else "none found"
        return Score(check=self.name, passed=not present, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keywords(Check):
    """At least `min_share` of the facts occur; a fact is one spelling or a list of accepted spellings."""

    kind: ClassVar[str] = "keywords"
    version: ClassVar[int] = 1
    name: str
    path: str = ""
    values: Sequence[str | Sequence[str]] = ()
    expected: str = ""
    min_share: float = 1.0

    @scoring(missing=0.0)
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        facts = _facts(expected_at(case, self.expected) if self.expected else self.values)
        text = fold(text_part(completion, self.path))
        if not facts:
            return None
        absent = [accepted[0] for accepted in facts if not any(fold(word) in text for word in accepted)]
        share = (len(facts) - len(absent)) / len(facts)
        reason = f"missing: {brief(', '.join(absent))}" if absent else "all facts found"
        return Score(check=self.name, passed=share >= self.min_share, reason=reason, value=share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex(Check):
    """`pattern` is found in the answer (`negate`: is not). Linear-time engine: no look-around, no back-references."""

    kind: ClassVar[str] = "regex"
    version: ClassVar[int] = 1
    name: str
    pattern: str
    path: str = ""
    negate: bool = False

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        text = text_part(completion, self.path)
        found = pattern_schema(self.pattern).accepts(text)
        reason = f"{brief(self.pattern)} {'found' if found else 'not found'}"
        return Score(check=self.name, passed=found is not self.negate, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartsWith(Check):
    """The answer begins with one of `values` (or of the expected list), to the letter; `negate`: with none of them."""

    kind: ClassVar[str] = "starts_with"
    version: ClassVar[int] = 1
    name: str
    path: str = ""
    values: Sequence[str] = ()
    expected: str = ""
    ignore_case: bool = False
    negate: bool = False

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        wanted = _strings(self.values, case, self.expected)
        text = text_part(completion, self.path)
        if self.ignore_case:
            text, wanted = text.casefold(), [value.casefold() for value in wanted]
        found = text.startswith(tuple(wanted))
        reason = f"begins with {brief(text, 30)}" + ("" if found else f", not {brief(' or '.join(wanted))}")
        return Score(check=self.name, passed=found is not self.negate, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsJson(Check):
    """The answer is JSON, and fits `schema` where one is written; `within`: an object or list in its text is; `negate`: none is."""

    kind: ClassVar[str] = "is_json"
    version: ClassVar[int] = 1
    name: str
    schema: JsonSchema | None = None
    within: bool = False
    negate: bool = False

    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        found = list(_json_within(completion.text)) if self.within else _whole_json(completion.text)
        fitting = [value for value in found if self.schema is None or self.schema.accepts(value)]
        if found and not fitting and self.schema is not None:
            first = next(self.schema.violations(found[0]))
            reason = f"{first.pointer or '/'}: {brief(first.message, 160)}"
        else:
            reason = "JSON is there" if fitting else "no JSON is there" if self.within else "the answer is not JSON"
        return Score(check=self.name, passed=bool(fitting) is not self.negate, reason=reason)


def _whole_json(text: str) -> list[Json]:
    try:
        return [parse_json(text)]
    except JsonError:
        return []


def _json_within(text: str) -> Iterator[Json]:
    """Objects and lists that begin at one of the first brackets of a text, none inside another."""
    decoder, position = JSONDecoder(), 0
    for _ in range(_MAX_BRACKETS):
        start = _BRACKET.search(text, position)
        if start is None:
            return
        try:
            _, position = decoder.raw_decode(text, start.start())
            yield parse_json(text[start.start() : position])
        except (ValueError, RecursionError):  # JsonError is a ValueError
            position = max(position, start.end())


@dataclass(frozen=True, slots=True, kw_only=True)
class EditDistance(Check):
    """At most `max` characters have to be added, removed or replaced to get the expected text (Levenshtein), to the letter."""

    kind: ClassVar[str] = "edit_distance"
    version: ClassVar[int] = 1
    name: str
    expected: str
    max: int
    path: str = ""
    negate: bool = False

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        from rapidfuzz.distance import Levenshtein

        wanted = spelled(expected_at(case, self.expected))
        text = text_part(completion, self.path)
        distance = Levenshtein.distance(text, wanted, score_cutoff=self.max)
        near = distance <= self.max
        reason = f"{distance} edits away (allowed {self.max})" if near else f"more than {self.max} edits away"
        return Score(check=self.name, passed=near is not self.negate, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity(Check):
    """The answer is at least `min` (0..1) similar to the expected text.

    `rouge_l`: F1 of the longest common subsequence of words (Lin 2004, ROUGE-L with beta = 1); each character of an
    unspaced script is a word. `rouge_1`: F1 of the words both have (ROUGE-1). `levenshtein`: 1 - edit distance / length of the
    longer text.
    """

    kind: ClassVar[str] = "similarity"
    version: ClassVar[int] = 1
    name: str
    expected: str
    min: float
    metric: str = "rouge_l"
    path: str = ""

    @scoring(missing=0.0)
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        wanted = spelled(expected_at(case, self.expected))
        text = text_part(completion, self.path)
        if max(len(text), len(wanted)) > _MAX_SIMILARITY_CHARS:
            return Unscored(check=self.name, reason=f"text longer than {_MAX_SIMILARITY_CHARS} characters")
        value = similarity(fold(text), fold(wanted), metric=self.metric)
        return Score(
            check=self.name, passed=value >= self.min, reason=f"{value:.2f} (needs {self.min:.2f})", value=value
        )


def similarity(text: str, other: str, *, metric: str) -> float:
    """Similarity of two texts in 0..1; two empty texts are equal."""
    from rapidfuzz.distance import LCSseq, Levenshtein

    if metric == "levenshtein":
        return float(Levenshtein.normalized_similarity(text, other))
    left, right = words(text), words(other)
    if not left or not right:
        return float(left == right)
    if metric == "rouge_1":
        return 2 * (Counter(left) & Counter(right)).total() / (len(left) + len(right))
    return 2 * LCSseq.similarity(left, right) / (len(left) + len(right))


def _strings(values: Sequence[str], case: CaseFacts, pointer: str) -> list[str]:
    """Literal values, or the expected list. Raises NotStated when the case states none."""
    found = expected_at(case, pointer) if pointer else values
    strings = [spelled(item) for item in (found if isinstance(found, list | tuple) else [found]) if not _blank(item)]
    if not strings:
        raise NotStated
    return strings


def _facts(found: Json) -> list[list[str]]:
    """The accepted spellings of each fact; blank ones, which occur in every text, are left out."""
    facts = found if isinstance(found, list | tuple) else [found]
    spellings = [fact if isinstance(fact, list | tuple) else [fact] for fact in facts]
    stated = [[spelled(word) for word in accepted if not _blank(word)] for accepted in spellings]
    return [accepted for accepted in stated if accepted]


def _blank(value: Json) -> bool:
    return value is None or (isinstance(value, str) and not fold(value))
