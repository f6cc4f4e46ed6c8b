"""What an answer must pass before a user sees it; whatever cannot be decided in time is a rejection."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptops.core.checks import (
    CaseFacts,
    Check,
    Citations,
    Completion,
    Language,
    Pydantic,
    Python,
    Score,
    Sql,
    Unscored,
)
from promptops.core.errors import PromptopsError
from promptops.core.jsontext import Json, JsonError, canonical_json
from promptops.runtime.base import Citation, Request
from promptops.runtime.bundle import Release
from promptops.runtime.flow import Effect, Work
from promptops.runtime.grounding import citations_in, forged
from promptops.runtime.markup import MarkupError, clean_text, clean_value

if TYPE_CHECKING:
    from promptops.core.knowledge import Passage

_IN_A_THREAD = (Python, Pydantic, Sql)
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An answer as it may be shown, or why it may not be (`fault`); `mendable`: asking again for the right form may help."""

    text: str
    value: Json = None
    citations: tuple[Citation, ...] = ()
    fault: str = ""
    mendable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checks:
    """The checks of one category, told apart once: those that run in a thread, and where a check expects citations ('' nowhere)."""

    quick: tuple[Check, ...]
    foreign: tuple[Check, ...]
    citations_at: str

    @classmethod
    def of(cls, checks: Sequence[Check]) -> "_Checks":
        foreign = tuple(check for check in checks if isinstance(check, _IN_A_THREAD))
        return cls(quick=tuple(check for check in checks if check not in foreign), foreign=foreign,
                   citations_at=next((check.path for check in checks if isinstance(check, Citations)), ""))  # fmt: skip


class Guard:
    """The guardrails of one release. Stateless."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._settings = release.settings.guardrails
        self._checks = _Checks.of(release.checks)
        self._by_category = {category: _Checks.of(checks) for category, checks in release.checks_by_category.items()}

    def warm(self) -> None:
        """Load what the checks need, so that the first request does not wait for it."""
        every = [check for checks in (self._checks, *self._by_category.values()) for check in checks.quick]
        if any(isinstance(check, Language) for check in every):
            from promptops.core.checks.forms import detect_language

            detect_language("warm")
        foreign = [check for checks in (self._checks, *self._by_category.values()) for check in checks.foreign]
        if any(isinstance(check, Sql) for check in foreign):
            import sqlglot  # noqa: F401
        for check in foreign:
            if isinstance(check, Pydantic):
                check.score(Completion(text="null", format="json"), CaseFacts(category="", inputs={}))

    def judge(self, text: str, request: Request, passages: "Sequence[Passage]", *, latency_s: float, cost_nanousd: int, left_s: float) -> Generator[Effect, Any, Verdict]:  # fmt: skip
        """The verdict on an answer; a check that raises or hangs rejects it."""
        prompt, settings = self._release.prompt, self._settings
        if len(text) > settings.max_chars:
            return Verdict(text="", fault=f"the answer has more than {settings.max_chars} characters")
        completion = Completion.of(text, prompt.output_format, latency_s=latency_s, cost_nanousd=cost_nanousd)
        if completion.json_error:
            return Verdict(text="", fault=completion.json_error[:_LONGEST_REASON], mendable=True)
        try:
            completion = self._clean(completion)
        except (MarkupError, JsonError) as error:
            return Verdict(text="", fault=str(error)[:_LONGEST_REASON])
        fault = self._schema_fault(completion)
        if fault:
            return Verdict(text="", fault=fault, mendable=True)
        checks = self._by_category.get(request.category, self._checks)
        facts = CaseFacts(category=request.category, inputs=request.inputs, passages=passages)
        fault = yield from self._failed(checks, completion, facts, min(settings.deadline_s, left_s))
        if not fault and settings.grounded:
            fault = "no document was found" if not passages else forged(completion.text, completion.value, checks.citations_at, passages)  # fmt: skip
        if fault:
            return Verdict(text="", fault=fault[:_LONGEST_REASON])
        return Verdict(text=completion.text, value=completion.value, citations=citations_in(completion.text, completion.value, checks.citations_at, passages))  # fmt: skip

    def _clean(self, completion: Completion) -> Completion:
        hosts = self._settings.links
        if completion.format != "json":
            text = clean_text(completion.text, hosts)
            if text == completion.text:
                return completion
            return Completion(text=text, format=completion.format, latency_s=completion.latency_s, cost_nanousd=completion.cost_nanousd)  # fmt: skip
        value = clean_value(completion.value, hosts)
        if value == completion.value:
            return completion
        return Completion(text=canonical_json(value).decode(), format="json", value=value, latency_s=completion.latency_s,
                          cost_nanousd=completion.cost_nanousd)  # fmt: skip

    def _schema_fault(self, completion: Completion) -> str:
        schema = self._release.prompt.output_schema
        if schema is None or schema.accepts(completion.value):
            return ""
        first = next(schema.violations(completion.value))
        return f"the answer breaks its schema at {first.pointer or '/'}: {first.message}"[:_LONGEST_REASON]

    def _failed(self, checks: "_Checks", completion: Completion, facts: CaseFacts, deadline_s: float) -> Generator[Effect, Any, str]:  # fmt: skip
        """Why a check rejects the answer; '' when none does."""
        for check in checks.quick:
            fault = _fault_of(check, completion, facts)
            if fault:
                return fault
        if not checks.foreign:
            return ""

        def together() -> str:
            return next((fault for check in checks.foreign if (fault := _fault_of(check, completion, facts))), "")

        try:
            found: str = yield Work(together, max(0.0, deadline_s))
        except TimeoutError:
            return "the checks took too long"
        return found


def _fault_of(check: Check, completion: Completion, facts: CaseFacts) -> str:
    try:
        score = check.score(completion, facts)
    except PromptopsError as error:
        return f"{check.name} could not run: {error}"
    except Exception as error:  # noqa: BLE001 - a check that breaks has not said yes
        return f"{check.name} raised {type(error).__name__}"
    if isinstance(score, Unscored) and not isinstance(check, Language):
        return f"{check.name} could not decide: {score.reason}"
    return f"{check.name}: {score.reason}" if isinstance(score, Score) and not score.passed else ""
