"""Replies as JSON lines in a file, for `promptops monitor` and whoever reads logs: capped lines, rotated files, no waiting."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from promptops.runtime.telemetry.outbox import DAY_S, MAX_LINE_BYTES, Outbox, iso, reply_event

if TYPE_CHECKING:
    from promptops.core.jsontext import Json

__all__ = ["MAX_LINE_BYTES", "EventsFile", "read_events", "reply_event"]
KEEP_DAYS = 30.0
_LOOK_S = 3600.0


class EventsFile(Outbox):
    """An Observer that writes a file. A daemon thread writes; a request only hands its reply over, and is never kept waiting by a disk.

    `content` adds inputs and answers: texts of customers, with personal data that has a form masked unless `mask` is off. When the disk is slower
    than the requests, events are dropped and their number is written. Beyond `max_bytes` the file becomes FILE.1, and so on up to `keep` old
    files; what is older than `keep_days` (0: no limit) is removed within the hour, also from files that hold newer events. Several processes
    may write to one file.
    """

    def __init__(
        self, path: Path, *, salt: str = "", content: bool = False, mask: bool = True, max_bytes: int = 64 * 2**20, keep: int = 3,
        keep_days: float = KEEP_DAYS, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Raises OSError when the file cannot be written."""
        super().__init__(salt=salt, content=content, mask=mask, clock=clock)
        self._path, self._max_bytes, self._keep, self._keep_s = path, max_bytes, keep, keep_days * DAY_S
        self._monotonic, self._looked_at = monotonic, float("-inf")
        self._descriptor = self._open()

    def prune(self) -> int:
        """Remove what is older than `keep_days`, now; how many lines. Raises OSError."""
        from promptops.runtime.telemetry.rewriting import prune_events

        return prune_events(self._path, before=iso(self._clock() - self._keep_s)) if self._keep_s else 0

    def _look_after(self) -> None:
        now = self._monotonic()
        if now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            self.prune()

    def _send(self, lines: list[bytes]) -> None:
        self._follow_or_rotate()
        os.write(self._descriptor, b"".join(lines))

    def _end(self) -> None:
        os.close(self._descriptor)

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

        from promptops.runtime.telemetry.rewriting import lock_of

        try:
            with FileLock(lock_of(self._path), timeout=1):
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


def read_events(path: Path) -> Iterator["dict[str, Json]"]:
    """Every event of a file and its rotated forerunners, oldest first; lines that are not whole events are left out."""
    from promptops.runtime.telemetry.rewriting import older_files

    for file in [*older_files(path), path]:
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
