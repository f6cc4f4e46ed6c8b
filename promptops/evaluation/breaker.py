"""The run's breaker: when nearly every call fails, stop calling, try one now and then, and give up after a while."""

from collections import deque
from dataclasses import dataclass, field

_FAILURES = frozenset(("connection", "timeout", "server_error", "stream"))
WINDOW = 10
OPEN_AT = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0


@dataclass(slots=True, kw_only=True)
class Breaker:
    """Opens at 8 failures in the last 10 calls; half-open lets one probe through; gives up after `patience_s` without an answer."""

    patience_s: float
    opened: int = 0
    _recent: "deque[bool]" = field(default_factory=lambda: deque(maxlen=WINDOW))
    _since: float | None = None
    _retry_at: float = 0.0
    _pause_s: float = _FIRST_PAUSE_S

    @property
    def is_open(self) -> bool:
        """Whether calls fail; then one probe may go each time `wait_s` is 0."""
        return self._since is not None

    def ended(self, outcome: str, now: float) -> None:
        """Take in how a call ended; what the model or the key is to blame for says nothing about the provider."""
        failed = outcome in _FAILURES
        self._recent.append(failed)
        if not failed:
            self._since, self._pause_s = None, _FIRST_PAUSE_S
            return
        if self._since is not None:
            if now >= self._retry_at:
                self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2)
                self._retry_at = now + self._pause_s
        elif sum(self._recent) >= OPEN_AT:
            self.opened += 1
            self._since, self._retry_at = now, now + self._pause_s
            self._recent.clear()

    def wait_s(self, now: float) -> float | None:
        """Seconds until a call may go, 0 for now; None when the provider has been away for too long."""
        if self._since is None:
            return 0.0
        if now - self._since > self.patience_s:
            return None
        return max(0.0, self._retry_at - now)
