"""What this process had counted in a server of others: told again to a server that has lost it."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from promptops.runtime.state.base import BUCKETS

MAX_METERS = 100_000
_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Counted:
    """An amount in one slice of the window of a meter."""

    meter: str
    window_s: int
    bucket: int
    amount: int


class Ledger:
    """Own counts by home (what loses its memory as a whole) and meter. Beyond 100,000 meters the longest unused are let go. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meters: OrderedDict[tuple[str, str, int], dict[int, int]] = OrderedDict()
        self._known: dict[str, bytes] = {}

    def known(self, home: str) -> bytes:
        """The memory of this home that the own counts are in; empty when none was met."""
        return self._known.get(home, b"")

    def homes(self) -> list[str]:
        return list(self._known)

    def meet(self, home: str, memory: bytes) -> None:
        """What was counted so far is in this memory now."""
        self._known[home] = memory

    def add(self, home: str, meter: str, window_s: int, bucket: int, amount: int) -> None:
        with self._lock:
            place = (home, meter, window_s)
            found = self._meters.get(place)
            if found is None:
                found = self._meters[place] = {}
                if len(self._meters) > MAX_METERS:
                    self._meters.popitem(last=False)
            elif bucket not in found:
                self._meters.move_to_end(place)
                for old in [item for item in found if item < bucket - BUCKETS]:
                    del found[old]
            found[bucket] = found.get(bucket, 0) + amount

    def chunks(self, home: str) -> Iterator[list[Counted]]:
        """All counts of a home as they are now, in portions of about 100."""
        with self._lock:
            found = [Counted(meter, window_s, bucket, amount) for (place, meter, window_s), counts in self._meters.items() if place == home
                     for bucket, amount in counts.items() if amount]  # fmt: skip
        for start in range(0, len(found), _CHUNK):
            yield found[start : start + _CHUNK]
