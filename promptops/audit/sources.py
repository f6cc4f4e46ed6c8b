"""Where events are read: a file with its rotated forerunners, or a Redis stream; both can be asked again for what came since."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from promptops.audit.events import EventReader, Every, Traffic
from promptops.core.errors import DataError, EvaluationError
from promptops.runtime.state.base import StateError
from promptops.runtime.state.opening import need_redis
from promptops.runtime.telemetry.rewriting import older_files
from promptops.runtime.telemetry.stream import EventStream, is_redis, shown_address

_MAX_LINE = 2**20


class Source(Protocol):
    """Lines of events, oldest first; each round gives what came since the last one."""

    @property
    def lost(self) -> int:
        """Events that were removed before they were read."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...

    def remainder(self) -> bytes:
        """A last line that has no end; reading it once means to give it up."""
        ...

    def close(self) -> None: ...


def open_source(address: str) -> Source:
    """FILE, or redis://host:port/db. Raises DataError when there are no events, EvaluationError when Redis does not answer."""
    return StreamLines(address) if is_redis(address) else EventLines(Path(address))


class StreamLines:
    """The events of a Redis stream; the position is the last entry read."""

    def __init__(self, address: str) -> None:
        need_redis(address)
        self._address = shown_address(address)
        self._stream = EventStream(address)
        try:
            there = self._stream.exists()
        except StateError as error:
            raise self._unreadable(error) from error
        if not there:
            raise DataError("no stream of events", where=self._address, hint="services write one with EventsStream(url) or `promptops serve --events redis://...`")  # fmt: skip

    @property
    def lost(self) -> int:
        return self._stream.lost

    def __iter__(self) -> Iterator[bytes]:
        """Raises EvaluationError when Redis does not answer; what was not read comes with the next round."""
        try:
            yield from self._stream.unread()
        except StateError as error:
            raise self._unreadable(error) from error

    def remainder(self) -> bytes:
        return b""

    def close(self) -> None:
        self._stream.close()

    def _unreadable(self, error: StateError) -> EvaluationError:
        return EvaluationError("the stream of events cannot be read", where=self._address, why=str(error)[:200], hint="run it again when Redis answers")  # fmt: skip


class EventLines:
    """The lines of an events file and its rotated forerunners, oldest first; can be asked again for what came since."""

    def __init__(self, path: Path) -> None:
        """Raises DataError when there is no file."""
        self._path = path
        if not path.is_file():
            raise DataError("no events file", where=str(path), hint="services write one with EventsFile(path) or `promptops serve --events FILE`")  # fmt: skip
        self._file: Any = None
        self._rest = b""
        self._started = False
        self.lost = 0

    def __iter__(self) -> Iterator[bytes]:
        """Whole lines that are there now. A last line without its end waits for the next round."""
        if not self._started:
            self._started = True
            for older in older_files(self._path):
                with older.open("rb") as file:
                    yield from file
        while True:
            if self._file is None:
                try:
                    self._file = self._path.open("rb")
                except FileNotFoundError:  # between two steps of a rotation
                    return
            yield from self._whole_lines()
            if not self._rotated():
                return
            yield from self._whole_lines()
            if self._rest:
                yield self._rest
            self._rest = b""
            self._file.close()
            self._file = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def remainder(self) -> bytes:
        """A last line that has no end; reading it once means to give it up."""
        rest, self._rest = self._rest, b""
        return rest

    def _whole_lines(self) -> Iterator[bytes]:
        while line := self._file.readline(_MAX_LINE):
            whole = self._rest + line
            if not line.endswith(b"\n") and len(whole) < _MAX_LINE:
                self._rest = whole
                return
            self._rest = b""
            yield whole

    def _rotated(self) -> bool:
        ours = os.fstat(self._file.fileno())
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return True
        if (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino):
            return True
        if named.st_size < self._file.tell():  # emptied in place
            self._file.seek(0)
        return False


def read_traffic(address: str | Path, *, every: Every = "hour", now: Callable[[], float] = time.time) -> Traffic:
    """All events of a file with its rotated forerunners, or of a stream. Raises DataError when there are none, EvaluationError when Redis does not answer."""
    reader = EventReader(every=every, now=now)
    with closing(open_source(str(address))) as lines:
        for line in lines:
            reader.add(line)
        if rest := lines.remainder():
            reader.add(rest)
    return checked(reader.traffic, str(address))


def checked(traffic: Traffic, address: str) -> Traffic:
    """Raises DataError when there is nothing to judge: no requests is not a healthy service."""
    if not traffic.buckets:
        losses = traffic.losses
        why = (
            f"{losses.torn} lines are torn and {losses.unknown} are of unknown form"
            if losses.torn or losses.unknown
            else "nothing is there"
        )
        raise DataError("no requests to look at", where=shown_address(address) if is_redis(address) else address, why=why, hint="check that the services write there, and their version of promptops")  # fmt: skip
    return traffic
