"""What every model client takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from promptops.core.checks import OutputFormat
from promptops.core.jsontext import Json
from promptops.core.knowledge import Passage
from promptops.core.outcome import Outcome
from promptops.core.prompt import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One request. Remote models read `messages`, local models `inputs` and `passages`; `draw` tells repeats apart."""

    messages: tuple[Message, ...]
    params: Mapping[str, Json] = field(default_factory=dict)
    output_format: OutputFormat = "text"
    output_schema: Mapping[str, Json] | None = None
    tools: tuple[Mapping[str, Json], ...] = ()
    inputs: Mapping[str, Json] = field(default_factory=dict)
    passages: tuple[Passage, ...] = ()
    draw: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a call ended. `detail` explains an outcome, or says how probable an answer was; `model` is what the provider says it ran.

    The text of the outcome `tool_call` is the canonical JSON of the calls, a list of `{"arguments": ..., "name": ...}`.

    `input_tokens` include the `cached_input_tokens`. `retry_after_s` is what the provider asked for;
    `sent` is False when the request cannot have reached it.
    """

    outcome: Outcome
    text: str = ""
    detail: str = ""
    model: str = ""
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: int = 0
    usage_trusted: bool = True
    latency_s: float = 0.0
    retry_after_s: float | None = None
    sent: bool = True

    def after(self, latency_s: float) -> "Answer":
        """The same answer with its latency; `dataclasses.replace` would cost more than parsing it."""
        return Answer(
            outcome=self.outcome, text=self.text, detail=self.detail, model=self.model, input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens, output_tokens=self.output_tokens, cost_nanousd=self.cost_nanousd,
            usage_trusted=self.usage_trusted, latency_s=latency_s, retry_after_s=self.retry_after_s, sent=self.sent,
        )  # fmt: skip


def is_answer(request: ModelRequest, answer: Answer) -> bool:
    """Whether it is worth keeping for who asks the same: text, or calls of the tools that were offered."""
    return answer.outcome == "ok" or (answer.outcome == "tool_call" and bool(request.tools and answer.text))


class Client(Protocol):
    """A model that can be asked. Usable from one event loop; `close` when done."""

    @property
    def paid(self) -> bool:
        """Whether a call leaves this machine or costs money, so that an intent is recorded before it."""
        ...

    async def answer(self, request: ModelRequest) -> Answer:
        """Never raises for what a provider does; every failure is an outcome."""
        ...

    async def close(self) -> None: ...
