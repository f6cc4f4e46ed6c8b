"""What is kept of one tenant, erased: cached answers, queued requests, events; and looked for again."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
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
    return Erased(kind="cache", place=_shown(address), erased=erased, left=left)


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
    return Erased(kind="queue", place=_shown(address), erased=len(jobs), left=left)


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


def _shown(address: str) -> str:
    """An address without the password in it."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


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
    mark = tenant_hash(tenant, salt).encode()
    aside = path.with_name(f"{path.name}.erasing")
    if not (path.exists() or aside.exists() or _older(path)):
        raise DataError("no events file", where=str(path))
    from filelock import FileLock, Timeout

    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=10):
            erased = _erase_files(path, aside, mark) if aside.exists() else 0  # an erasure that was cut short
            erased += _erase_files(path, aside, mark)
    except Timeout as error:
        raise EvaluationError("a service is rotating the events", where=str(path), hint="run it again") from error
    except OSError as error:
        raise EvaluationError("the events cannot be rewritten", where=str(path), why=error.strerror or "", hint="no event is lost; run it again") from error  # fmt: skip
    files = [*_older(path), *([path] if path.exists() else [])]
    left = sum(mark in line for file in files for line in _lines(file))
    return Erased(kind="events", place=str(path), erased=erased, left=left)


def _erase_files(path: Path, aside: Path, mark: bytes) -> int:
    first = path.with_name(f"{path.name}.1")
    if path.exists() and not aside.exists():
        path.replace(aside)
    older = _older(path)
    ids = {found for file in (*older, aside) for line in _lines(file) if mark in line and (found := _id(line))}
    erased = 0
    for file in older:
        if file != first:
            erased += _rewrite((file,), file, mark, ids)
    erased += _rewrite((first, aside), first, mark, ids)
    aside.unlink(missing_ok=True)
    return erased


def _older(path: Path) -> list[Path]:
    return [found for found in path.parent.glob(f"{path.name}.*") if found.suffix[1:].isdigit()]


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as lines:
            yield from lines
    except FileNotFoundError:
        return


def _id(line: bytes) -> bytes:
    try:
        return str(orjson.loads(line)["id"]).encode()
    except (ValueError, KeyError, TypeError):
        return b""


def _rewrite(sources: tuple[Path, ...], target: Path, mark: bytes, ids: set[bytes]) -> int:
    """The lines of all sources but those of the tenant, in the place of the target; it is whole before it is there."""
    made, erased = target.with_name(f".{target.name}.kept"), 0
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as kept:
        for source in sources:
            for line in _lines(source):
                if mark in line or (b'"feedback_' in line and _about(line) in ids):
                    erased += 1
                else:
                    kept.write(line if line.endswith(b"\n") else line + b"\n")
        kept.flush()
        os.fsync(kept.fileno())
    made.replace(target)
    return erased


def _about(line: bytes) -> bytes:
    """The id of the reply that a feedback is about."""
    try:
        return str(orjson.loads(line)["reason"]).partition(" ")[0].encode()
    except (ValueError, KeyError, TypeError):
        return b""
