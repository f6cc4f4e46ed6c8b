"""State of one process, in memory: the default."""

import heapq
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from promptops.runtime.state.base import BUCKETS, Denied, Entry, Grant, Hold, bucket_of, retry_after_s

_ENTRY_OVERHEAD_BYTES = 350
_MAX_METERS = 100_000
_MOST_ENDED_LEASES = 1_000


@dataclass(slots=True)
class _Meter:
    """Counts by slice; `total` is their sum, kept so that a reservation need not add them up."""

    window_s: int
    counts: dict[int, int] = field(default_factory=dict)
    total: int = 0
    turned_to: int = -1

    def turn(self, bucket: int) -> None:
        """Forget the slices that have left the window."""
        self.turned_to, oldest = bucket, bucket - BUCKETS
        while self.counts:
            first = next(iter(self.counts))
            if first >= oldest:
                return
            self.total -= self.counts.pop(first)

    def add(self, bucket: int, amount: int) -> None:
        self.counts[bucket] = self.counts.get(bucket, 0) + amount
        self.total += amount


class MemoryState:
    """Least recently used values go first when `max_bytes` or `max_entries` is passed. `clock` is monotonic seconds."""

    blocks = False

    def __init__(self, *, max_bytes: int = 512 * 2**20, max_entries: int = 200_000, clock: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        self._clock, self._max_bytes, self._max_entries = clock, max_bytes, max_entries
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[bytes, float, float, tuple[str, ...]]] = OrderedDict()
        self._bytes = 0
        self._meters: dict[str, _Meter] = {}
        self._open: set[str] = set()
        self._leases: list[tuple[float, str]] = []
        self._granted = 0

    def get(self, partition: str, key: str) -> Entry | None:
        name = _name(partition, key)
        with self._lock:
            found = self._entries.get(name)
            if found is None:
                return None
            value, at, until, _ = found
            now = self._clock()
            if not at <= now < until:
                self._forget(name)
                return None
            self._entries.move_to_end(name)
            return Entry(value=value, age_s=now - at)

    def put(self, partition: str, key: str, value: bytes, *, keep_s: float, tags: Sequence[str] = ()) -> None:
        name = _name(partition, key)
        size = len(value) + _ENTRY_OVERHEAD_BYTES
        with self._lock:
            self._forget(name)
            if size > self._max_bytes:
                return
            now = self._clock()
            self._entries[name] = (value, now, now + keep_s, tuple(tags))
            self._bytes += size
            while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
                self._forget(next(iter(self._entries)))

    def drop(self, partition: str, key: str) -> None:
        with self._lock:
            self._forget(_name(partition, key))

    def invalidate(self, tag: str) -> int:
        with self._lock:
            found = [name for name, entry in self._entries.items() if tag in entry[3]]
            for name in found:
                self._forget(name)
            return len(found)

    def reserve(self, holds: Sequence[Hold], *, lease_s: float, pass_soft: bool = False) -> Grant | Denied:
        with self._lock:
            now = self._clock()
            self._expire(now)
            window_s = bucket = 0
            counted: list[tuple[_Meter, int, int]] = []
            for hold in holds:
                amount = hold.amount
                if hold.window_s != window_s:
                    window_s = hold.window_s
                    bucket = bucket_of(now, window_s)
                meter = self._meters.get(hold.meter) or self._new_meter(hold.meter, hold.window_s)
                if meter.turned_to != bucket:
                    meter.turn(bucket)
                used = meter.total
                hard = used + amount > hold.limit
                if hard or (not pass_soft and hold.soft is not None and used + amount > hold.soft):
                    for other, its_bucket, its_amount in counted:
                        other.add(its_bucket, -its_amount)
                    limit = hold.limit if hard or hold.soft is None else hold.soft
                    wait_s = retry_after_s(now, hold.window_s, list(meter.counts.items()), used + amount - limit)
                    return Denied(hold=hold, used=used, soft=not hard, retry_after_s=wait_s)
                meter.counts[bucket] = meter.counts.get(bucket, 0) + amount
                meter.total = used + amount
                counted.append((meter, bucket, amount))
            self._granted += 1
            grant = Grant(
                id=str(self._granted), holds=tuple(holds), buckets=tuple([bucket for _, bucket, _ in counted])
            )
            self._open.add(grant.id)
            heapq.heappush(self._leases, (now + lease_s, grant.id))
            return grant

    def settle(self, grant: Grant, amounts: Sequence[int]) -> None:
        with self._lock:
            self._expire(self._clock())
            if grant.id not in self._open:
                return
            self._open.remove(grant.id)
            if len(self._leases) > 4 * len(self._open) + _MOST_ENDED_LEASES:
                self._leases = sorted(lease for lease in self._leases if lease[1] in self._open)
            for hold, bucket, amount in zip(grant.holds, grant.buckets, amounts, strict=True):
                if amount == hold.amount:
                    continue
                meter = self._meters.get(hold.meter)
                if meter is not None and bucket in meter.counts:
                    meter.add(bucket, amount - hold.amount)

    def used(self, meter: str, window_s: int) -> int:
        with self._lock:
            found = self._meters.get(meter)
            if found is None:
                return 0
            found.turn(bucket_of(self._clock(), window_s))
            return found.total

    def reserved(self) -> int:
        with self._lock:
            self._expire(self._clock())
            return len(self._open)

    def after_fork(self) -> None:
        """The child goes on with a copy of the cache and the meters; the parent's open reservations stay counted."""
        self._lock = threading.Lock()
        self._open.clear()
        self._leases.clear()

    def close(self) -> None:
        return None

    def _forget(self, name: str) -> None:
        found = self._entries.pop(name, None)
        if found is not None:
            self._bytes -= len(found[0]) + _ENTRY_OVERHEAD_BYTES

    def _new_meter(self, name: str, window_s: int) -> _Meter:
        if len(self._meters) >= _MAX_METERS:
            self._drop_idle_meters()
        meter = self._meters[name] = _Meter(window_s)
        return meter

    def _drop_idle_meters(self) -> None:
        """Forget meters on which nothing counts any more, so that ever new tenants do not fill the memory."""
        now = self._clock()
        for name, meter in list(self._meters.items()):
            meter.turn(bucket_of(now, meter.window_s))
            if not meter.counts:
                del self._meters[name]

    def _expire(self, now: float) -> None:
        while self._leases and self._leases[0][0] <= now:
            self._open.discard(heapq.heappop(self._leases)[1])


def _name(partition: str, key: str) -> str:
    """One name for each pair: with the length in front, ("a", "b:c") and ("a:b", "c") differ."""
    return f"{len(partition)}:{partition}{key}"
