"""What a durable queue does, and which one an address means."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from promptops.core.errors import DataError

JobState = Literal["waiting", "taken", "dead"]
MAX_JOBS = 100_000
MAX_PAYLOAD_BYTES = 1_000_000
MAX_TRIES = 5
REMEMBER_S = 86_400.0
"""How long the key of a finished job is known, so that the same request is not kept twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A kept request. `tries` counts how often it was taken, this time included; `waited_s` is its age."""

    id: str
    key: str
    payload: bytes
    tries: int
    waited_s: float
    state: JobState = "taken"
    reason: str = ""
    lease: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Jobs by state: `taken` ones are being worked on, `dead` ones failed too often."""

    waiting: int
    taken: int
    dead: int


class DurableQueue(Protocol):
    """Thread-safe. Every method raises StateError when the queue cannot be used, and then has done nothing, or not been told."""

    blocks: bool

    def put(self, key: str, payload: bytes) -> str:
        """Keep a request on disk, once per key; its id. Raises StateError, too, when the queue is full or the payload too large."""
        ...

    def take(self, *, lease_s: float, most: int = 1) -> tuple[Job, ...]:
        """The oldest jobs that may be worked on now; each is this caller's for `lease_s` seconds."""
        ...

    def done(self, job: Job) -> None:
        """The job is finished; its payload is forgotten, its key remembered for a day."""
        ...

    def again(self, job: Job, *, after_s: float, reason: str) -> None:
        """Give the job back, to be taken in `after_s` seconds; put aside when it was tried too often. Ignored once the lease is lost."""
        ...

    def counts(self) -> Counts: ...

    def jobs(self, most: int) -> tuple[Job, ...]:
        """The oldest jobs in any state, for people."""
        ...

    def remove(self, job: Job) -> None:
        """Forget a job in any state, and its key. A worker that has taken it may still answer it."""
        ...

    def close(self) -> None: ...


def open_queue(address: str) -> DurableQueue:
    """A queue in a SQLite file (`sqlite:FILE` or FILE), or in Redis (`redis://host:port/db`, extra `redis`).

    Nothing is connected yet. Raises DataError for an address that is none, or when the extra is not installed.
    """
    from promptops.runtime.state.opening import need_redis
    from promptops.runtime.state.redis_address import is_redis

    if is_redis(address):
        need_redis(address)
        from promptops.runtime.queue.redis import RedisQueue

        return RedisQueue(address)
    path = address.removeprefix("sqlite:")
    if not path or "://" in path:
        raise DataError(f"{address!r} is no queue", hint="sqlite:FILE, or redis://host:port/db")
    from promptops.runtime.queue.sqlite import SqliteQueue

    return SqliteQueue(Path(path))
