"""Checks against something outside the answer: cited passages, a SQL engine, limits, a user's function."""

import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar

from promptops.core.checks.base import (
    CaseFacts,
    Check,
    Completion,
    NoPart,
    NotStated,
    Score,
    Unscored,
    brief,
    expected_at,
    part_of,
    scoring,
    text_part,
)
from promptops.core.jsontext import Json, canonical_json
from promptops.core.money import format_usd
from promptops.core.text import fold

_MARKER = re.compile(r"\[([A-Za-z0-9._-]+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Citations(Check):
    """Every cited id is one of the passages shown, every quote is in its passage, every expected id is cited.

    With `path` the citations are a list of ids or of {id, quote}; without, they are `[id]` marks in the text.
    """

    kind: ClassVar[str] = "citations"
    version: ClassVar[int] = 1
    name: str
    path: str = ""
    expected: str = ""
    required: bool = False

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        cited = self._cited(completion)
        try:
            wanted = expected_at(case, self.expected) if self.expected else []
        except NotStated:
            wanted = []
        wanted = wanted if isinstance(wanted, list) else [] if wanted is None else [wanted]
        fault = self._fault(
            cited, [str(item) for item in wanted], {passage.id: passage.text for passage in case.passages}
        )
        return Score(check=self.name, passed=not fault, reason=fault or f"{len(cited)} citations hold")

    def _cited(self, completion: Completion) -> list[tuple[str, str]]:
        if not self.path:
            return [(mark, "") for mark in _MARKER.findall(completion.text)]
        part = part_of(completion, self.path)
        if not isinstance(part, list):
            raise NoPart(f"{self.path} is not a list")
        return [_citation(item) for item in part]

    def _fault(self, cited: list[tuple[str, str]], wanted: list[str], texts: Mapping[str, str]) -> str:
        if self.required and not cited:
            return "nothing is cited"
        for passage_id, quote in cited:
            if passage_id not in texts:
                return f"{brief(passage_id)} is not among the passages shown"
            if quote and fold(quote) not in fold(texts[passage_id]):
                return f"the quote is not in {passage_id}: {brief(quote)}"
        absent = [item for item in wanted if item not in {passage_id for passage_id, _ in cited}]
        return f"not cited: {', '.join(absent)}" if absent else ""


def _citation(item: Json) -> tuple[str, str]:
    if isinstance(item, dict):
        if not isinstance(item.get("quote", ""), str):
            raise NoPart("a quote is not text")
        return str(item.get("id", "")), item.get("quote", "")
    return str(item), ""


class NotRun(Exception):  # noqa: N818 - control flow between a check and its database
    """The database could not be asked: nothing is known about the statement."""


SqlRunner = Callable[[str, float, int], str]
"""(statement, timeout in seconds, most rows) -> why it does not run, '' when it does. Raises NotRun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sql(Check):
    """The answer is exactly one read-only statement in `dialect`; with `ddl`, it also prepares on those tables (SQLite).

    With `database`, it is also run there, to read only: whoever scores connects the name with a database (`run`).
    """

    kind: ClassVar[str] = "sql"
    version: ClassVar[int] = 1
    name: str
    dialect: str = "sqlite"
    path: str = ""
    ddl: str = ""
    database: str = ""
    timeout_s: float = 1.0
    max_rows: int = 10_000
    run: SqlRunner | None = field(default=None, repr=False, compare=False)

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        from promptops.core.sql import explain_fault, read_only_fault

        statement = text_part(completion, self.path)
        fault = read_only_fault(statement, self.dialect)
        if not fault and self.ddl:
            try:
                fault = explain_fault(statement, self.ddl)
            except sqlite3.Error as error:
                return Unscored(check=self.name, reason=f"the ddl of the check does not run: {error}")
        if not fault and self.database:
            if self.run is None:
                return Unscored(check=self.name, reason=f"database {self.database!r} is not connected")
            try:
                fault = self.run(statement, self.timeout_s, self.max_rows)
            except NotRun as error:
                return Unscored(check=self.name, reason=str(error))
        held = "one read-only statement" + (", and it runs" if self.database else "")
        return Score(check=self.name, passed=not fault, reason=fault or held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pydantic(Check):
    """The part of the JSON answer at `path` fits a pydantic model from the entry-point group `promptops.guards`.

    A model is whatever pydantic can validate: a BaseModel, a dataclass, an annotated type. `strict`: nothing is converted.
    A validator that raises anything but a ValueError or AssertionError leaves the answer without a score.
    """

    kind: ClassVar[str] = "pydantic"
    version: ClassVar[int] = 1
    group: ClassVar[str] = "promptops.guards"
    name: str
    entry_point: str
    model: Any = field(repr=False, compare=False)
    path: str = ""
    strict: bool = False
    distribution: str = ""

    @scoring()
    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        from pydantic import ValidationError

        part = part_of(completion, self.path, whole_value=completion.format == "json")
        try:
            _adapter(self.model).validate_json(canonical_json(part), strict=self.strict or None)
        except ValidationError as error:
            # What was asked of a value, and never the value: it may be a customer's.
            found = error.errors(include_url=False, include_context=False, include_input=False)
            first = "/" + "/".join(str(step) for step in found[0]["loc"])
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            return Score(
                check=self.name, passed=False, reason=f"{self.path}{first}: {brief(found[0]['msg'], 160)}{more}"
            )
        except Exception as error:  # noqa: BLE001 - a user's validator may raise anything; nothing is then known
            return Unscored(check=self.name, reason=f"{self.entry_point} raised {type(error).__name__}")
        return Score(check=self.name, passed=True, reason=f"fits {self.entry_point}")


@lru_cache(maxsize=256)
def _adapter(model: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Check):
    """The answer took at most `max_s` seconds."""

    kind: ClassVar[str] = "latency"
    version: ClassVar[int] = 1
    name: str
    max_s: float

    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        passed = completion.latency_s <= self.max_s
        return Score(check=self.name, passed=passed, reason=f"{completion.latency_s:.2f} s (allowed {self.max_s:g} s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost(Check):
    """The answer cost at most `max_nanousd`."""

    kind: ClassVar[str] = "cost"
    version: ClassVar[int] = 1
    name: str
    max_nanousd: int

    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        passed = completion.cost_nanousd <= self.max_nanousd
        reason = f"{format_usd(completion.cost_nanousd)} (allowed {format_usd(self.max_nanousd)})"
        return Score(check=self.name, passed=passed, reason=reason)


def _holds(answer: Any) -> bool:
    """Whether a user's Score keeps the promises of its type."""
    graded = isinstance(answer.value, int | float) and 0 <= answer.value <= 1
    return isinstance(answer.passed, bool) and isinstance(answer.reason, str) and (answer.value is None or graded)


PythonCheck = Callable[..., object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Python(Check):
    """A function from the entry-point group `promptops.checks`, called as `f(completion, case, **options)`.

    It answers a bool, a value in 0..1 (passed at 0.5), a Score or Unscored. An exception is Unscored.
    """

    kind: ClassVar[str] = "python"
    version: ClassVar[int] = 1
    group: ClassVar[str] = "promptops.checks"
    name: str
    entry_point: str
    function: PythonCheck = field(repr=False, compare=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    distribution: str = ""

    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        try:
            answer = self.function(completion, case, **self.options)
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything; the case is then unscored
            return Unscored(check=self.name, reason=f"{self.entry_point} raised {type(error).__name__}")
        if isinstance(answer, bool):
            return Score(check=self.name, passed=answer, reason=f"{self.entry_point} says {answer}")
        if isinstance(answer, int | float):
            if not 0 <= answer <= 1:
                return Unscored(check=self.name, reason=f"{self.entry_point} answered {answer!r}, not a value in 0..1")
            return Score(check=self.name, passed=answer >= 0.5, reason=f"{answer:.2f}", value=float(answer))
        if answer is None:
            return None
        if isinstance(answer, Unscored) or (isinstance(answer, Score) and _holds(answer)):
            return replace(answer, check=self.name)
        return Unscored(check=self.name, reason=f"{self.entry_point} answered {type(answer).__name__}")
