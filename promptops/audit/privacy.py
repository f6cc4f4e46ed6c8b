"""What is kept of one tenant, or longer than the window: erased from caches, queues and events, and looked for again."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

from promptops.core.errors import DataError, EvaluationError
from promptops.core.jsontext import parse_json
from promptops.runtime.cache import partition_of
from promptops.runtime.queue import open_queue
from promptops.runtime.queue.base import MAX_JOBS, DurableQueue, Job
from promptops.runtime.state import StateError
from promptops.runtime.state.opening import open_state
from promptops.runtime.telemetry import tenant_hash
from promptops.runtime.telemetry.outbox import DAY_S, iso
from promptops.runtime.telemetry.rewriting import (
    lines_of,
    lock_of,
    older_files,
    older_than,
    prune_events,
    rewrite_events,
    set_aside,
)
from promptops.runtime.telemetry.stream import EventStream, shown_address

Kind = Literal["cache", "queue", "events"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What one place had of a tenant, and what a second look found there."""

    kind: Kind
    place: str
    erased: int
    left: int


def erase_cache(address: str, tenant: str) -> Erased:
    """Forget every cached answer of a tenant. Raises EvaluationError when the state cannot be used, DataError for no address of one."""
    if address == "memory":
        raise DataError("memory is in the services", why="nobody else can reach it", hint="restart them; its entries end with their lifetime")  # fmt: skip
    tag = f"tenant:{partition_of(tenant)}"
    _need_file(address)
    try:
        with closing(open_state(address)) as state:
            erased = state.invalidate(tag)
            left = state.invalidate(tag)
    except StateError as error:
        raise _unusable("the cache", error) from error
    _wipe_free_pages(address)
    return Erased(kind="cache", place=shown_address(address), erased=erased, left=left)


def erase_queue(address: str, tenant: str) -> Erased:
    """Forget every queued request of a tenant, also those put aside."""
    _need_file(address)
    try:
        with closing(open_queue(address)) as queue:
            jobs = list(_jobs_of(queue, tenant))
            for job in jobs:
                queue.remove(job)
            left = sum(1 for _ in _jobs_of(queue, tenant))
    except StateError as error:
        raise _unusable("the queue", error) from error
    _wipe_free_pages(address)
    return Erased(kind="queue", place=shown_address(address), erased=len(jobs), left=left)


def _jobs_of(queue: DurableQueue, tenant: str) -> Iterator[Job]:
    for job in queue.jobs(MAX_JOBS):
        try:
            asked = parse_json(job.payload)
        except ValueError:
            continue
        if isinstance(asked, dict) and asked.get("tenant") == tenant:
            yield job


def _unusable(what: str, error: StateError) -> EvaluationError:
    return EvaluationError(
        f"{what} cannot be used", why=str(error)[:200], hint="what was erased stays erased; run it again"
    )


def _need_file(address: str) -> None:
    """A file with a typing error in its name would be made anew, and found empty."""
    if "://" not in address and not Path(address.removeprefix("sqlite:")).is_file():
        raise DataError("there is no such file", where=address)


def _wipe_free_pages(address: str) -> None:
    """SQLite only marks what was deleted as free; a rewritten file has none of it. Raises EvaluationError while others use it."""
    if "://" in address:
        return
    path = address.removeprefix("sqlite:")
    try:
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as database:
            database.execute("vacuum")
            busy = database.execute("pragma wal_checkpoint(truncate)").fetchone()[0]
    except sqlite3.Error as error:
        raise EvaluationError("deleted pages were not wiped", where=path, why=str(error), hint="run it again when fewer services write") from error  # fmt: skip
    if busy:
        raise EvaluationError("deleted pages were not wiped", where=path, why="others are reading the file", hint="run it again")  # fmt: skip


# Events


def erase_events(path: Path, tenant: str, *, salt: str = "") -> Erased:
    """Take the events of a tenant, and feedback on them, out of an events file and its rotated forerunners.

    Services go on writing: they find the file moved, and open a new one. What they wrote until then becomes part of FILE.1.
    """
    mark, aside = tenant_hash(tenant, salt).encode(), set_aside(path)
    if not (path.exists() or aside.exists() or older_files(path)):
        raise DataError("no events file", where=str(path))

    def erase() -> int:
        files = (*older_files(path), aside, *(() if aside.exists() else (path,)))
        ids = {found for file in files for line in lines_of(file) if mark in line and (found := _id(line))}
        return rewrite_events(
            path, lambda: lambda line: mark in line or (b'"feedback_' in line and _about(line) in ids)
        )

    with _locked(path):
        cut_short = erase() if aside.exists() else 0
        erased = cut_short + erase()
    left = sum(mark in line for file in (*older_files(path), path) for line in lines_of(file))
    return Erased(kind="events", place=str(path), erased=erased, left=left)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """No service rotates the file meanwhile. Raises EvaluationError when one does, or the disk is full."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock_of(path), timeout=10):
            yield
    except Timeout as error:
        raise EvaluationError("a service is rotating the events", where=str(path), hint="run it again") from error
    except OSError as error:
        raise EvaluationError("the events cannot be rewritten", where=str(path), why=error.strerror or "", hint="no event is lost; run it again") from error  # fmt: skip


def erase_stream(address: str, tenant: str, *, salt: str = "") -> Erased:
    """Take the events of a tenant, and feedback on them, out of a Redis stream of events."""
    mark = tenant_hash(tenant, salt).encode()
    ids: set[bytes] = set()

    def of_tenant(line: bytes) -> bool:
        if mark in line:
            ids.add(_id(line))
            return True
        return b'"feedback_' in line and _about(line) in ids  # feedback comes after its reply

    with closing(EventStream(address)) as stream:
        try:
            erased = stream.remove(of_tenant)
            left = sum(mark in line for line in stream.lines())
        except StateError as error:
            raise _unusable("the stream of events", error) from error
    return Erased(kind="events", place=shown_address(address), erased=erased, left=left)


def _id(line: bytes) -> bytes:
    try:
        return str(orjson.loads(line)["id"]).encode()
    except (ValueError, KeyError, TypeError):
        return b""


def _about(line: bytes) -> bytes:
    """The id of the reply that a feedback is about."""
    try:
        return str(orjson.loads(line)["reason"]).partition(" ")[0].encode()
    except (ValueError, KeyError, TypeError):
        return b""


# Retention


def retain_events(path: Path, *, days: float, now: float) -> Erased:
    """Remove what is older from an events file and its rotated forerunners, and look again."""
    if not (path.exists() or older_files(path)):
        raise DataError("no events file", where=str(path))
    before = iso(now - days * DAY_S)
    try:
        removed = prune_events(path, before=before)
        is_old = older_than(before)
        left = sum(is_old(line) for file in (*older_files(path), path) for line in lines_of(file))
    except OSError as error:
        raise EvaluationError("the events cannot be rewritten", where=str(path), why=error.strerror or "", hint="no event is lost; run it again") from error  # fmt: skip
    return Erased(kind="events", place=str(path), erased=removed, left=left)


def retain_stream(address: str, *, days: float, now: float) -> Erased:
    """Remove what is older from a Redis stream of events, and look again; age is what the event says, or else when it came."""
    is_old, still_old = older_than(iso(now - days * DAY_S)), older_than(iso(now - days * DAY_S))
    with closing(EventStream(address)) as stream:
        try:
            removed = stream.remove(is_old)
            left = sum(map(still_old, stream.lines()))
        except StateError as error:
            raise _unusable("the stream of events", error) from error
    return Erased(kind="events", place=shown_address(address), erased=removed, left=left)


def retain_queue(address: str, *, days: float) -> Erased:
    """Remove requests that have waited longer, also those put aside: nobody waits for their answer any more."""

    def old(queue: DurableQueue) -> list[Job]:
        return [job for job in queue.jobs(MAX_JOBS) if job.waited_s >= days * DAY_S]

    _need_file(address)
    try:
        with closing(open_queue(address)) as queue:
            jobs = old(queue)
            for job in jobs:
                queue.remove(job)
            left = len(old(queue))
    except StateError as error:
        raise _unusable("the queue", error) from error
    _wipe_free_pages(address)
    return Erased(kind="queue", place=shown_address(address), erased=len(jobs), left=left)
