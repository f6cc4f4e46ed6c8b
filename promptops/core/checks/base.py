"""What a check sees and what it answers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar, Literal, Protocol

from promptops.core.jsontext import Json, JsonError, at_pointer, canonical_json, parse_json
from promptops.core.knowledge import Passage

OutputFormat = Literal["text", "json", "markdown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A check's verdict; `value` in 0..1 when the check grades, `reason` quotes no secret and fits a line."""

    check: str
    passed: bool
    reason: str
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscored:
    """The check could not run: neither a pass nor a fail."""

    check: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer: its text, and its value when the prompt asks for JSON (`json_error` when it is none).

    For an answer that calls tools, the text is the canonical JSON of `tool_calls`, each `{"arguments": ..., "name": ...}`.
    """

    text: str
    format: OutputFormat = "text"
    value: Json = None
    json_error: str = ""
    latency_s: float = 0.0
    cost_nanousd: int = 0
    tool_calls: Sequence[Mapping[str, Json]] = ()

    @classmethod
    def of(
        cls, text: str, output_format: OutputFormat, *, latency_s: float = 0.0, cost_nanousd: int = 0
    ) -> "Completion":
        value: Json = None
        json_error = ""
        if output_format == "json":
            try:
                value = parse_json(text)
            except JsonError as error:
                json_error = f"the answer is not JSON: {error}"
        return cls(text=text, format=output_format, value=value, json_error=json_error,
                   latency_s=latency_s, cost_nanousd=cost_nanousd)  # fmt: skip

    @classmethod
    def of_calls(cls, text: str, *, latency_s: float = 0.0, cost_nanousd: int = 0) -> "Completion":
        """An answer that calls tools, from the canonical JSON of the calls."""
        calls = parse_json(text)
        return cls(
            text=text, format="json", value=calls, tool_calls=calls, latency_s=latency_s, cost_nanousd=cost_nanousd
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """What the answer is compared with: the case's category, inputs and expected values, and the passages shown."""

    category: str
    inputs: Mapping[str, Json]
    expected: Mapping[str, Json] = field(default_factory=dict)
    passages: Sequence[Passage] = ()


class Check(Protocol):
    """A pure, versioned rule.

    `score` answers None when the check does not apply to the case (the expected value it needs is not given).
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    name: str

    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Only(Check):
    """Another check, for the cases that state an expected value at `expected`; others are no matter of it."""

    kind: ClassVar[str] = "only"
    version: ClassVar[int] = 1
    name: str
    check: Check
    expected: str

    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        try:
            expected_at(case, self.expected)
        except NotStated:
            return None
        return self.check.score(completion, case)


class NoPart(Exception):  # noqa: N818 - control flow inside this package, never seen by a user
    """The part of the answer a check looks at is not there: the check fails, for the reason that is its text."""


class NotStated(Exception):  # noqa: N818 - control flow inside this package, never seen by a user
    """The case does not state what the check compares with: the check does not apply."""


_Rule = Callable[[Any, Completion, CaseFacts], Score | Unscored | None]


def scoring(*, missing: float | None = None) -> Callable[[_Rule], _Rule]:
    """Makes `score` of a method that may raise NoPart and NotStated; `missing` is the grade of a part that is not there."""

    def of(rule: _Rule) -> _Rule:
        @wraps(rule)
        def score(self: Check, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
            try:
                return rule(self, completion, case)
            except NotStated:
                return None
            except NoPart as reason:
                return Score(check=self.name, passed=False, reason=str(reason), value=missing)

        return score

    return of


_BLANKS = re.compile(r"\s+")


def part_of(completion: Completion, path: str, *, whole_value: bool = False) -> Json:
    """The part of the JSON answer at `path`; for path '' the whole text, or its value. Raises NoPart with the reason."""
    if not path and not whole_value:
        return completion.text
    if completion.json_error:
        raise NoPart(completion.json_error)
    try:
        return at_pointer(completion.value, path)
    except KeyError:
        raise NoPart(f"the answer has no {path}") from None


def text_part(completion: Completion, path: str) -> str:
    """Like `part_of`, for checks that read text. Raises NoPart when the part is not text."""
    part = part_of(completion, path)
    if not isinstance(part, str):
        raise NoPart(f"{path} is not text")
    return part


def expected_at(case: CaseFacts, pointer: str) -> Json:
    """The expected value at a JSON pointer. Raises NotStated when there is none."""
    try:
        return at_pointer(case.expected, pointer)
    except KeyError:
        raise NotStated from None


def spelled(value: Json) -> str:
    """An expected value as text: strings as they are, the rest as JSON. Raises NotStated for null, which states nothing."""
    if value is None:
        raise NotStated
    return value if isinstance(value, str) else canonical_json(value).decode()


def brief(value: Json, limit: int = 60) -> str:
    """A value in a reason: one line, cut."""
    text = _BLANKS.sub(" ", value if isinstance(value, str) else repr(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"
