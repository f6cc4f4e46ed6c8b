"""What the runtime answers, what may watch it, and the seams a service can fill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from promptops.core.jsontext import Json
    from promptops.core.knowledge import Passage

Source = Literal["model", "cache", "semantic", "stale", "search", "classifier", "rules", "queue", "text"]
"""Where an answer came from. `model`, `cache` and `semantic` are whole answers; the rest stand in for one (`degraded`)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One decision on the way to an answer: the stage, what it decided, why, seconds since the request came, and what was spent since the step before."""

    stage: str
    decision: str
    reason: str
    at_s: float
    cost_nanousd: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A passage the answer rests on."""

    id: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as the application made it; `deadline_s` is the time the caller gives it, in seconds."""

    id: str
    prompt: str
    inputs: "Mapping[str, Json]"
    tenant: str = "default"
    feature: str = ""
    category: str = ""
    deadline_s: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a request, always one: `degraded` says why it is not the whole answer ('' when it is).

    `value` is the parsed answer of a prompt that asks for JSON. `cost_nanousd` is what this request spent, `calls` the
    model calls it made; `queued_id` names the job that will answer later.
    """

    text: str
    source: Source
    prompt: str
    version: str
    request_id: str
    value: "Json" = None
    citations: tuple[Citation, ...] = ()
    degraded: str = ""
    cost_nanousd: int = 0
    latency_s: float = 0.0
    model: str = ""
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    queued_id: str = ""
    steps: tuple[Step, ...] = field(default=(), repr=False)


class Observer(Protocol):
    """Sees every reply, and what happens beside requests. Called from any thread; what it raises is dropped."""

    def replied(self, request: Request, reply: Reply) -> None:
        """After each request."""
        ...

    def noticed(self, event: str, reason: str) -> None:
        """Something an operator wants to know: `bundle_loaded`, `bundle_refused`, `breaker_open`, `state_failed`, ..."""
        ...


class Switch(Protocol):
    """The kill switch. Asked before each request and again before each model call."""

    def blocked(self, *, prompt: str, tenant: str, feature: str) -> str:
        """Why no model may be called for this request now; '' when it may. Never raises, never waits."""
        ...


class Queue(Protocol):
    """Keeps a request that nobody could answer now. `blocks`: a call waits for disk or network."""

    @property
    def blocks(self) -> bool: ...

    def put(self, key: str, payload: bytes) -> str:
        """Keep `payload` durably, once per idempotency `key`; its id. Raises StateError when it is not kept."""
        ...


class Retriever(Protocol):
    """Finds documents outside of the bundle. Called in a worker thread, within a deadline."""

    def search(self, query: str, *, top: int, tenant: str) -> "Sequence[Passage]":
        """The best passages first. What it raises means: no documents."""
        ...


class Open:
    """A switch that blocks nothing."""

    def blocked(self, *, prompt: str, tenant: str, feature: str) -> str:
        return ""
