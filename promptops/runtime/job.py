"""A request on its way: what it is, what it has used, and what it may ask of the shared state."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from promptops.runtime.base import Citation, Reply, Request, Source, Step
from promptops.runtime.flow import Effect, Work
from promptops.runtime.lane import Lane, Shared
from promptops.runtime.state import Entry, StateError

if TYPE_CHECKING:
    from promptops.core.knowledge import Passage
    from promptops.runtime.embedding import Vector

Flow = Generator[Effect, Any, Any]
_WHOLE = ("model", "cache", "semantic")
SPARE_S = 0.02
"""Kept free at the end of the deadline for the fallback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class No:
    """No answer, and why. `final`: another model would fare no better."""

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """A guarded answer of a model; `why` says why it is not from the model that should have answered."""

    text: str
    value: Any
    model: str
    passages: "tuple[Passage, ...]"
    citations: tuple[Citation, ...]
    why: str = ""


@dataclass(slots=True, kw_only=True)
class Job:
    """A request on its way, and what it has used."""

    request: Request
    lane: Lane
    shared: Shared
    started: float
    steps: list[Step] = field(default_factory=list)
    key: str = ""
    question: "tuple[str, str, Vector] | None" = None
    outside: "tuple[Passage, ...] | None" = None
    stale: Entry | None = None
    cost_nanousd: int = 0
    told_nanousd: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    state_down: bool = False
    earned: bool = False
    tried: set[str] = field(default_factory=set)

    def step(self, stage: str, decision: str, reason: str = "") -> None:
        spent, self.told_nanousd = self.cost_nanousd - self.told_nanousd, self.cost_nanousd
        self.steps.append(Step(stage, decision, reason, self.shared.clock() - self.started, spent))

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, less what the fallback needs."""
        return self.request.deadline_s - SPARE_S - (self.shared.clock() - self.started)

    def blocked(self) -> str:
        return self.shared.switch.blocked(prompt=self.request.prompt, tenant=self.request.tenant, feature=self.request.feature)  # fmt: skip


def ask_state(job: Job, call: Callable[[], Any]) -> Flow:
    """What the shared state says. Raises StateError; after the first in a request, it is not asked again."""
    shared = job.shared
    if job.state_down:
        raise StateError("the state did not answer before")
    try:
        if not shared.state.blocks:
            return call()
        return (yield Work(call, job.lane.release.settings.state_timeout_s))
    except (StateError, TimeoutError) as error:
        job.state_down = True
        job.step("state", "failed", str(error)[:200] or type(error).__name__)
        shared.notice("state_failed", str(error)[:200] or type(error).__name__)
        raise StateError(str(error)) from error


def make_reply(job: Job, source: Source, text: str, *, value: Any = None, model: str = "", citations: tuple[Citation, ...] = (),
           why: str = "", queued_id: str = "") -> Reply:  # fmt: skip
    if why and source not in _WHOLE:
        job.step("fallback", source, why)
    return Reply(
        text=text, value=value, source=source, citations=citations, degraded=why, prompt=job.request.prompt, version=job.lane.release.version,
        request_id=job.request.id, cost_nanousd=job.cost_nanousd, latency_s=job.shared.clock() - job.started, model=model, calls=job.calls,
        input_tokens=job.input_tokens, output_tokens=job.output_tokens, queued_id=queued_id, steps=tuple(job.steps),
    )  # fmt: skip
