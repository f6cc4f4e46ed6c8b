"""Replies as JSON lines in a file, for `promptops monitor` and whoever reads logs: capped lines, rotated files, no waiting."""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptops.runtime.language import guess_language
from promptops.runtime.telemetry.record import tenant_hash, told_reason, why_degraded

if TYPE_CHECKING:
    from promptops.core.jsontext import Json
    from promptops.runtime.base import Reply, Request

MAX_LINE_BYTES = 8192
_MAX_WAITING = 10_000
_BATCH_S = 0.1


class EventsFile:
    """An Observer. A daemon thread writes; a request only hands its reply over, and is never kept waiting by a disk.

    `content` adds inputs and answers: texts of customers. When the disk is slower than the requests, events are dropped and
    their number is written. Beyond `max_bytes` the file becomes FILE.1, and so on up to `keep` old files. Several processes may
    write to one file.
    """

    def __init__(
        self, path: Path, *, salt: str = "", content: bool = False, max_bytes: int = 64 * 2**20, keep: int = 3,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Raises OSError when the file cannot be written."""
        self._path, self._salt, self._content, self._max_bytes, self._keep, self._clock = (
            path,
            salt,
            content,
            max_bytes,
            keep,
            clock,
        )
        self._waiting: deque[tuple[float, Any, Any]] = deque()
        self._dropped = 0
        self._reset()
        self._descriptor = self._open()

    def replied(self, request: "Request", reply: "Reply") -> None:
        self._hand_over(request, reply)

    def noticed(self, event: str, reason: str) -> None:
        self._hand_over(event, reason)

    def flush(self) -> None:
        """Write what waits, now and in this thread. Raises OSError."""
        with self._writing:
            self._write()

    def close(self) -> None:
        """Write what waits and stop. The last events may be lost when the disk is full."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        with suppress(OSError):
            self.flush()
        os.close(self._descriptor)

    def _hand_over(self, first: Any, second: Any) -> None:
        if self._pid != os.getpid():
            self._waiting.clear()  # they are the parent's, and it writes them
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

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="promptops-events", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(_BATCH_S):
            try:
                self.flush()
            except OSError:  # a full disk: what waits is kept up to its bound, and counted beyond it
                continue

    def _write(self) -> None:
        while self._waiting or self._dropped:
            lines, size, taken, dropped = [], 0, 0, self._dropped
            if dropped:
                lines.append(_line({"at": _iso(self._clock()), "kind": "dropped", "count": dropped}))
            while taken < len(self._waiting) and size < 2**16:
                line = self._encoded(self._waiting[taken])
                lines.append(line)
                size += len(line)
                taken += 1
            self._follow_or_rotate()
            os.write(self._descriptor, b"".join(lines))
            self._dropped -= dropped
            for _ in range(taken):
                self._waiting.popleft()

    def _encoded(self, item: tuple[float, Any, Any]) -> bytes:
        at, first, second = item
        if isinstance(first, str):
            return _line({"at": _iso(at), "kind": "notice", "event": first[:100], "reason": self._told(first, second)})
        line = _line(reply_event(first, second, at=at, salt=self._salt, content=self._content))
        for most_steps in (10, 0):
            if len(line) <= MAX_LINE_BYTES:
                break
            event = reply_event(first, second, at=at, salt=self._salt, content=False, most_steps=most_steps)
            line = _line(event | {"cut": True})
        return line

    def _told(self, event: str, reason: str) -> str:
        """What a shadow model said is content; the other notices are of the service itself."""
        return reason[:500] if self._content or event != "shadow" else ""

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _follow_or_rotate(self) -> None:
        """Another process may have rotated; whoever finds the file full does, under a lock."""
        ours = os.fstat(self._descriptor)
        try:
            named = self._path.stat()
            moved = (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            self._reopen()
        elif ours.st_size >= self._max_bytes:
            self._rotate(ours.st_ino)

    def _rotate(self, full: int) -> None:
        from filelock import FileLock, Timeout

        try:
            with FileLock(self._path.with_name(f".{self._path.name}.lock"), timeout=1):
                if self._path.stat().st_ino == full:
                    for number in range(self._keep, 0, -1):
                        old = _numbered(self._path, number - 1)
                        if old.exists():
                            old.replace(_numbered(self._path, number))
        except Timeout:
            return
        self._reopen()

    def _reopen(self) -> None:
        old, self._descriptor = self._descriptor, self._open()
        os.close(old)


def reply_event(
    request: "Request", reply: "Reply", *, at: float, salt: str = "", content: bool = False, most_steps: int = 60
) -> "dict[str, Json]":
    """A reply as an event; without `content` no text of inputs, answers, or reasons that may quote them."""
    asked = "\n".join(value for value in request.inputs.values() if isinstance(value, str))
    event: dict[str, Json] = {
        "at": _iso(at), "kind": "reply", "id": reply.request_id[:100], "prompt": reply.prompt[:100], "version": reply.version[:40],
        "tenant": tenant_hash(request.tenant, salt), "feature": request.feature[:100], "category": request.category[:100],
        "source": reply.source, "degraded": why_degraded(reply), "model": reply.model[:100], "calls": reply.calls,
        "cost_nanousd": reply.cost_nanousd, "latency_ms": round(reply.latency_s * 1000, 3), "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens, "citations": len(reply.citations), "queued_id": reply.queued_id[:100],
        "language": guess_language(asked), "input_chars": len(asked), "output_chars": len(reply.text),
        "steps": [
            {"stage": step.stage[:40], "decision": step.decision[:100], "reason": told_reason(step, content=content), "at_ms": round(step.at_s * 1000, 3)}
            for step in reply.steps[:most_steps]
        ],
    }  # fmt: skip
    if content:
        event |= {"inputs": dict(request.inputs), "text": reply.text, "why": reply.degraded}
    return event


def read_events(path: Path) -> Iterator["dict[str, Json]"]:
    """Every event of a file and its rotated forerunners, oldest first; lines that are not whole events are left out."""
    older = sorted(
        (found for found in path.parent.glob(f"{path.name}.*") if found.suffix[1:].isdigit()),
        key=lambda found: -int(found.suffix[1:]),
    )
    for file in [*older, path]:
        try:
            with file.open("rb") as lines:
                for line in lines:
                    try:
                        event = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(event, dict):
                        yield event
        except FileNotFoundError:
            continue


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _line(event: "dict[str, Json]") -> bytes:
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "backslashreplace") + b"\n"  # a lone surrogate becomes its JSON escape


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
