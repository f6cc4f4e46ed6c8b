"""Models that run here, without key and network: the simpler alternatives every prompt should be measured against."""

import time
from dataclasses import dataclass
from typing import ClassVar, Protocol

from promptops.core.jsontext import Json, canonical_json
from promptops.models.base import Answer, ModelRequest

LOCAL_MODELS = ("rules", "classifier", "boosted", "nearest", "constant", "extractive", "search", "echo")
LEARN_FROM_CASES = ("classifier", "boosted", "nearest", "constant")
"""Those that predict golden cases from other golden cases, out of fold."""


class LocalModel(Protocol):
    """A deterministic function of the request; `version` changes when its answers do."""

    version: ClassVar[int]

    def respond(self, request: ModelRequest) -> Json:
        """Text, or a JSON value for prompts that ask for JSON."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalClient:
    """A local model as a Client."""

    name: str
    model: LocalModel

    @property
    def paid(self) -> bool:
        return False

    async def answer(self, request: ModelRequest) -> Answer:
        started = time.perf_counter()
        value = self.model.respond(request)
        text = value if isinstance(value, str) else canonical_json(value).decode()
        return Answer(outcome="ok", text=text, model=f"local:{self.name}", latency_s=time.perf_counter() - started)

    async def close(self) -> None:
        return None


def input_text(request: ModelRequest, names: tuple[str, ...]) -> str:
    """The inputs a local model reads, as one text."""
    return "\n".join(str(request.inputs[name]) for name in names if request.inputs.get(name) is not None)
