"""The State Protocol: atomic reservations in sliding windows, and a cache with tags.

A meter counts integers in `BUCKETS` slices of its window and forgets a slice only when all of it is older than the window, so
no window of that length ever holds more than the limit. What is reserved is counted at once; settling corrects it in the slice
where it was reserved. A reservation that nobody settles within its lease stays counted as it was: the worst case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

BUCKETS = 60


class StateError(Exception):
    """The state could not be read or written; the request goes on without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """`amount` to be counted on `meter`, which may reach `limit` within any `window_s` seconds; beyond `soft` it is a warning."""

    meter: str
    amount: int
    limit: int
    window_s: int
    soft: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Counted holds. `buckets` are the slices they were counted in."""

    id: str
    holds: tuple[Hold, ...]
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The first hold that did not fit; nothing was counted. `soft`: only its soft limit would be passed."""

    hold: Hold
    used: int
    soft: bool
    retry_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A cached value and the seconds since it was put."""

    value: bytes
    age_s: float


class State(Protocol):
    """Thread-safe. Methods raise StateError, and nothing else, when the state cannot be used.

    With `blocks` true, a call waits for disk or network: the runtime makes it in a worker thread and stops waiting after 50 ms.
    """

    @property
    def blocks(self) -> bool: ...

    def get(self, partition: str, key: str) -> Entry | None:
        """The value put under exactly this partition and key, unless it is older than it may be."""
        ...

    def put(self, partition: str, key: str, value: bytes, *, keep_s: float, tags: Sequence[str] = ()) -> None:
        """Keep a value for `keep_s` seconds; `invalidate` finds it by its tags."""
        ...

    def drop(self, partition: str, key: str) -> None:
        """Forget one value."""
        ...

    def invalidate(self, tag: str) -> int:
        """Forget every value with this tag; how many there were."""
        ...

    def reserve(self, holds: Sequence[Hold], *, lease_s: float, pass_soft: bool = False) -> Grant | Denied:
        """Count all holds, or none if one does not fit; `pass_soft` ignores soft limits."""
        ...

    def settle(self, grant: Grant, amounts: Sequence[int]) -> None:
        """Replace the reserved amounts by the real ones, once; after the lease, or a second time, it changes nothing."""
        ...

    def used(self, meter: str, window_s: int) -> int:
        """What counts on a meter now, reserved or settled."""
        ...

    def reserved(self) -> int:
        """Open reservations of all processes that share the state: neither settled nor past their lease."""
        ...

    def after_fork(self) -> None:
        """Called once in a forked child before anything else: locks and connections of the parent are not its own."""
        ...

    def close(self) -> None: ...


def bucket_of(now_s: float, window_s: int) -> int:
    """The slice of the window's time line that `now_s` falls into; slices older than `bucket_of(...) - BUCKETS` count no more."""
    return int(now_s * BUCKETS // window_s)


def retry_after_s(now_s: float, window_s: int, counts: "Sequence[tuple[int, int]]", excess: int) -> float:
    """Seconds until `excess` has left the window, given (bucket, amount) pairs; the whole window when it never does by itself."""
    freed = 0
    for bucket, amount in sorted(counts):
        freed += amount
        if freed >= excess:
            return max(0.0, (bucket + BUCKETS + 1) * window_s / BUCKETS - now_s)
    return float(window_s)
