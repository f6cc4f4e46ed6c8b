"""How long a call may take, and how many extra calls there may be: observed latencies, retry budget, hedges."""

import threading
from collections import deque

_KEPT = 512
_EVERY = 16


class Latencies:
    """The last 512 latencies of answers; percentiles are taken anew every 16th. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: deque[float] = deque(maxlen=_KEPT)
        self._since = 0
        self._p95 = self._p99 = 0.0
        self.count = 0

    def add(self, latency_s: float) -> None:
        with self._lock:
            self._recent.append(latency_s)
            self.count += 1
            self._since += 1
            if self._since >= _EVERY or len(self._recent) < _EVERY:
                self._since = 0
                ordered = sorted(self._recent)
                self._p95 = ordered[int(0.95 * (len(ordered) - 1))]
                self._p99 = ordered[int(0.99 * (len(ordered) - 1))]

    @property
    def p95_s(self) -> float:
        return self._p95

    @property
    def p99_s(self) -> float:
        return self._p99


class ExtraCalls:
    """A budget of extra calls: every request earns `share` of one, up to `most` are saved. Thread-safe.

    Source: Finagle's RetryBudget; a retry storm then adds `share` to the load and no more.
    """

    def __init__(self, share: float, *, most: float = 10.0, start: float = 1.0) -> None:
        self._share, self._most = share, most
        self._saved = start if share > 0 else 0.0
        self._lock = threading.Lock()

    def earn(self) -> None:
        if self._share <= 0:
            return
        with self._lock:
            self._saved = min(self._most, self._saved + self._share)

    def take(self) -> bool:
        with self._lock:
            if self._saved < 1:
                return False
            self._saved -= 1
            return True
