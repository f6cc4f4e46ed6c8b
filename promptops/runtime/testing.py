"""For the tests of applications: a runtime over a bundle with models that answer by script, a clock moved by hand, and ears."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptops.core.outcome import Outcome
    from promptops.models.base import Answer, ModelRequest
    from promptops.runtime.base import Reply, Request
    from promptops.runtime.runtime import Runtime


class FakeClock:
    """Seconds, monotonic unless a test turns it back."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class ScriptedModel:
    """A model that says its lines in turn, and the last one again and again; every request it got is in `requests`.

    A line is a text, a mapping (said as JSON), an `Answer`, or a function of the request that gives one of these. Each
    answer is stated to be of `input_tokens` and `output_tokens`, to cost `cost_nanousd`, and to have taken no time.
    """

    paid = True

    def __init__(
        self, *lines: Any, input_tokens: int = 100, output_tokens: int = 20, cost_nanousd: int = 1_000
    ) -> None:
        """Raises ValueError without a line."""
        if not lines:
            raise ValueError("a scripted model needs at least one line")
        self._lines = list(lines)
        self._input_tokens, self._output_tokens, self._cost_nanousd = input_tokens, output_tokens, cost_nanousd
        self._failures: list[Outcome] = []
        self._lock = threading.Lock()
        self.requests: list[ModelRequest] = []

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return len(self.requests)

    def fail_next(self, times: int = 1, outcome: "Outcome" = "server_error") -> None:
        """Let the next calls end without an answer: `timeout`, `rate_limited`, `refused`, ..."""
        self._failures += [outcome] * times

    async def answer(self, request: "ModelRequest") -> "Answer":
        from promptops.models.base import Answer

        with self._lock:
            self.requests.append(request)
            if self._failures:
                return Answer(outcome=self._failures.pop(0), detail="scripted")
            line = self._lines.pop(0) if len(self._lines) > 1 else self._lines[0]
        said = line(request) if callable(line) else line
        if isinstance(said, Answer):
            return said
        if not isinstance(said, str):
            from promptops.core.jsontext import canonical_json

            said = canonical_json(said).decode()
        return Answer(outcome="ok", text=said, model="scripted", input_tokens=self._input_tokens,
                      output_tokens=self._output_tokens, cost_nanousd=self._cost_nanousd)  # fmt: skip

    async def close(self) -> None:
        return None


@dataclass(slots=True)
class Heard:
    """An observer that keeps what it hears."""

    replies: "list[tuple[Request, Reply]]" = field(default_factory=list)
    notices: list[tuple[str, str]] = field(default_factory=list)

    def replied(self, request: "Request", reply: "Reply") -> None:
        self.replies.append((request, reply))

    def noticed(self, event: str, reason: str) -> None:
        self.notices.append((event, reason))


@dataclass(slots=True)
class HandSwitch:
    """A kill switch a test throws: `off` holds prompts, and `everything` is all of them."""

    off: set[str] = field(default_factory=set)
    everything: bool = False

    def blocked(self, *, prompt: str, tenant: str, feature: str) -> str:
        return "switched off by the test" if self.everything or prompt in self.off else ""


def open_runtime(
    bundle: str | os.PathLike[str],
    *models: ScriptedModel,
    by_alias: Mapping[str, ScriptedModel] | None = None,
    **options: Any,
) -> "Runtime":
    """A runtime over a bundle, signed or not, in which no model but scripted ones is asked; no key, no network.

    One of `models` answers for every alias of the bundle, or `by_alias` names one for each. Other options are those of
    `Runtime.load`: `clock=FakeClock()`, `observers=[Heard()]`, `switch=HandSwitch()`, `state=...`. Raises as it does, and
    ValueError when a model is missing.
    """
    from promptops.runtime.bundle import Trust, load_bundle
    from promptops.runtime.runtime import Runtime

    aliases = set(load_bundle(Path(bundle), Trust(unsigned=True)).models)
    clients: dict[str, Any] = dict(by_alias or {})
    if models:
        clients |= dict.fromkeys(aliases - clients.keys(), models[0])
    if len(models) > 1 or aliases - clients.keys():
        raise ValueError(f"give one scripted model for all, or one by alias for each of: {', '.join(sorted(aliases))}")
    options.setdefault("allow_unsigned", True)
    options.setdefault("switch", HandSwitch())
    return Runtime.load(bundle, clients=clients, **options)
