"""What waits to be told: a request hands its reply over and goes on, a thread of its own encodes and sends it, and what is too much is counted."""

import json
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from promptops.runtime.language import guess_language
from promptops.runtime.state.base import StateError
from promptops.runtime.telemetry.record import masked, tenant_hash, told_reason, why_degraded

if TYPE_CHECKING:
    from promptops.core.jsontext import Json
    from promptops.runtime.base import Reply, Request, Step

MAX_LINE_BYTES = 8192
DAY_S = 86_400.0
_MAX_WAITING = 10_000
_BATCH_S = 0.1
_BATCH_BYTES = 2**16
_PRICE = re.compile(r"\d+ nano-dollars")


class Outbox:
    """An Observer. Subclasses say where lines go: `_send` is called with one batch at a time, again with the same one after OSError or StateError.

    Events wait in memory, at most 10,000: beyond that they are dropped, and their number is told as soon as lines go again.
    """

    def __init__(self, *, salt: str, content: bool, mask: bool, clock: Callable[[], float]) -> None:
        self._salt, self._content, self._mask, self._clock = salt, content, mask, clock
        self._waiting: deque[tuple[float, Any, Any]] = deque()
        self._dropped = 0
        self._reset()

    def replied(self, request: "Request", reply: "Reply") -> None:
        self._hand_over(request, reply)

    def noticed(self, event: str, reason: str) -> None:
        self._hand_over(event, reason)

    def tell(self, event: "Mapping[str, Json]") -> None:
        """Another kind of event, as it is; it gets its time."""
        self._hand_over(dict(event), None)

    def flush(self) -> None:
        """Send what waits, now and in this thread. Raises OSError or StateError."""
        with self._writing:
            self._write()

    def close(self) -> None:
        """Send what waits and stop. The last events may be lost when the place they go to does not answer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        with suppress(OSError, StateError):
            self.flush()
        self._end()

    def _send(self, lines: list[bytes]) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        """Let go of what lines go through."""

    def _look_after(self) -> None:
        """Called now and then from the thread, beside sending."""

    def _hand_over(self, first: Any, second: Any) -> None:
        if self._pid != os.getpid():
            self._waiting.clear()  # they are the parent's, and it sends them
            self._dropped = 0
            self._reset()
        if len(self._waiting) >= _MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append((self._clock(), first, second))
        if self._thread is None:
            self._start()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._writing, self._starting, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._batch: tuple[list[bytes], int, int] | None = None

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="promptops-events", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(_BATCH_S):
            try:
                self.flush()
                self._look_after()
            except (
                OSError,
                StateError,
            ):  # a full disk, a server that is away: what waits is kept up to its bound, and counted beyond it
                continue

    def _write(self) -> None:
        while self._waiting or self._dropped:
            if self._batch is None:
                self._batch = self._next_batch()
            lines, taken, dropped = self._batch
            self._send(lines)
            self._batch = None
            self._dropped -= dropped
            for _ in range(taken):
                self._waiting.popleft()

    def _next_batch(self) -> tuple[list[bytes], int, int]:
        lines, size, taken, dropped = [], 0, 0, self._dropped
        if dropped:
            lines.append(json_line({"at": iso(self._clock()), "kind": "dropped", "count": dropped}))
        while taken < len(self._waiting) and size < _BATCH_BYTES:
            line = self._encoded(self._waiting[taken])
            lines.append(line)
            size += len(line)
            taken += 1
        return lines, taken, dropped

    def _encoded(self, item: tuple[float, Any, Any]) -> bytes:
        at, first, second = item
        if isinstance(first, str):
            return json_line(
                {"at": iso(at), "kind": "notice", "event": first[:100], "reason": self._told(first, second)}
            )
        if isinstance(first, dict):
            return json_line({"at": iso(at)} | first)
        line = json_line(reply_event(first, second, at=at, salt=self._salt, content=self._content, mask=self._mask))
        for most_steps in (10, 0):
            if len(line) <= MAX_LINE_BYTES:
                break
            event = reply_event(first, second, at=at, salt=self._salt, content=False, most_steps=most_steps)
            line = json_line(event | {"cut": True})
        return line

    def _told(self, event: str, reason: str) -> str:
        """What a shadow model said is content, what it cost is not; the other notices are of the service itself."""
        if self._content or event != "shadow":
            return (masked(reason) if self._mask and event == "shadow" else reason)[:500]
        price = reason.rpartition(", ")[2]
        return price if _PRICE.fullmatch(price) else ""


def reply_event(
    request: "Request",
    reply: "Reply",
    *,
    at: float,
    salt: str = "",
    content: bool = False,
    mask: bool = True,
    most_steps: int = 60,
) -> "dict[str, Json]":
    """A reply as an event; without `content` no text of inputs, answers, or reasons that may quote them."""
    asked = "\n".join(value for value in request.inputs.values() if isinstance(value, str))
    event: dict[str, Json] = {
        "at": iso(at), "kind": "reply", "id": reply.request_id[:100], "prompt": reply.prompt[:100], "version": reply.version[:40],
        "tenant": tenant_hash(request.tenant, salt), "feature": request.feature[:100], "category": request.category[:100],
        "source": reply.source, "degraded": why_degraded(reply), "model": reply.model[:100], "calls": reply.calls,
        "cost_nanousd": reply.cost_nanousd, "latency_ms": round(reply.latency_s * 1000, 3), "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens, "citations": len(reply.citations), "queued_id": reply.queued_id[:100],
        "language": guess_language(asked), "input_chars": len(asked), "output_chars": len(reply.text),
        "steps": [_step(step, content=content, mask=mask) for step in reply.steps[:most_steps]],
    }  # fmt: skip
    if content:
        texts: dict[str, Json] = {"inputs": dict(request.inputs), "text": reply.text, "why": reply.degraded}
        event |= masked(texts) if mask else texts
    return event


def _step(step: "Step", *, content: bool, mask: bool) -> "dict[str, Json]":
    reason = told_reason(step, content=content)
    told: dict[str, Json] = {
        "stage": step.stage[:40],
        "decision": step.decision[:100],
        "reason": masked(reason) if content and mask else reason,
        "at_ms": round(step.at_s * 1000, 3),
    }
    return told | {"cost_nanousd": step.cost_nanousd} if step.cost_nanousd else told


def json_line(event: "dict[str, Json]") -> bytes:
    """An event as a line of a file or an entry of a stream."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "backslashreplace") + b"\n"  # a lone surrogate becomes its JSON escape


def iso(at: float) -> str:
    """Unix seconds as events say it; such texts order as the times do."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
