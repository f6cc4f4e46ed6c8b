"""The breaker of one model: it stops calls when too many fail, are slow, or spend too fast, and finds out when to go on."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from promptops.core.serving import BreakerSettings

if TYPE_CHECKING:
    from promptops.models.base import Answer

Verdict = Literal["ok", "failed", "neutral"]
Forced = Literal["", "open", "closed"]
_LONGEST_PAUSE_S = 60.0
_FAILURES = frozenset(("connection", "timeout", "server_error", "stream", "too_large", "bad_response"))


def verdict_of(answer: "Answer") -> Verdict:
    """What an answer says about the provider. A request it refuses to read (HTTP 4xx), a key or limit of ours, and what the
    model itself declined are not its failure.
    """
    if answer.outcome == "ok":
        return "ok"
    if answer.outcome not in _FAILURES or answer.detail.startswith("HTTP 4"):
        return "neutral"
    return "failed"


@dataclass(slots=True)
class Permit:
    """Leave for one call; give it back with `ended` or `released`, once."""

    probe: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No call now, and why; worth trying again after `wait_s`."""

    reason: str
    wait_s: float


class Breaker:
    """Thread-safe. `clock` is monotonic seconds; `notice` hears of every change."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float], notice: Callable[[str, str], None]) -> None:  # fmt: skip
        self._settings, self._clock, self._notice = settings, clock, notice
        self._lock = threading.Lock()
        self._recent: deque[tuple[bool, bool]] = deque()
        self._failed = self._slow = 0
        self._spent: deque[tuple[float, int]] = deque()
        self._spent_nanousd = 0
        self._limit_nanousd = settings.nanousd_per_minute
        self._state: Literal["closed", "open", "half-open"] = "closed"
        self._until = self._wait_until = 0.0
        self._pause_s = settings.open_s
        self._round = self._probes = self._good = 0
        self._round_ends = 0.0
        self._opened_at = self._closed_at = clock()
        self._heard = False
        self.forced: Forced = ""

    @property
    def state(self) -> str:
        return f"forced {self.forced}" if self.forced else self._state

    def admit(self, *, timeout_s: float) -> Permit | Refused:
        """Leave for a call of at most `timeout_s`, or why not."""
        with self._lock:
            now = self._clock()
            if self.forced == "open":
                return Refused(reason="breaker forced open", wait_s=self._settings.open_s)
            if now < self._wait_until:
                return Refused(reason="the provider asked to wait", wait_s=self._wait_until - now)
            if self.forced == "closed" or self._state == "closed":
                return Permit()
            if self._state == "open":
                if now < self._until:
                    return Refused(reason="breaker open", wait_s=self._until - now)
                self._begin_round()
            elif now >= self._round_ends:  # probes that were never given back have had their time
                self._begin_round()
            if self._probes >= self._settings.probes:
                return Refused(reason="breaker half-open", wait_s=max(0.0, self._round_ends - now))
            self._probes += 1
            self._round_ends = max(self._round_ends, now + timeout_s)
            return Permit(self._round)

    def ended(self, permit: Permit, verdict: Verdict, *, latency_s: float, cost_nanousd: int = 0, retry_after_s: float = 0.0) -> None:  # fmt: skip
        """A call ended; what it tells about the provider is taken in."""
        with self._lock:
            if permit.done:
                return
            permit.done = True
            now = self._clock()
            if retry_after_s > 0:
                self._wait_until = max(self._wait_until, now + min(retry_after_s, _LONGEST_PAUSE_S))
            self._spend(now, cost_nanousd)
            slow = latency_s > self._settings.slow_s
            if permit.probe:
                self._probed(permit, "failed" if slow and verdict == "ok" else verdict, now)
                return
            if verdict == "neutral" or self._state != "closed":
                return
            self._take(verdict == "failed", slow)
            reason = self._fault(len(self._recent))
            if reason:
                self._open(reason, now)

    def released(self, permit: Permit) -> None:
        """The call was given up by its caller: it says nothing, and its slot is free."""
        with self._lock:
            if not permit.done:
                permit.done = True
                if permit.probe == self._round and self._state == "half-open":
                    self._probes -= 1

    def seen_open(self) -> tuple[float, float] | None:
        """(seconds since it opened, seconds until it tries again) of a breaker that opened by what it saw itself; else None."""
        with self._lock:
            now = self._clock()
            if self._state != "open" or self._heard or now >= self._until:
                return None
            return now - self._opened_at, self._until - now

    def hear(self, *, age_s: float, left_s: float, reason: str) -> None:
        """Others opened theirs `age_s` ago, for `left_s` more: a closed one opens for as long, unless it has closed since then."""
        with self._lock:
            now = self._clock()
            if (
                self._state != "closed"
                or self.forced
                or left_s <= 0
                or (self._closed_at > self._opened_at and self._closed_at > now - age_s)
            ):
                return
            pause_s, self._pause_s = self._pause_s, min(left_s, self._settings.longest_open_s)
            self._open(reason, now)
            self._pause_s, self._heard = pause_s, True

    def _begin_round(self) -> None:
        self._state = "half-open"
        self._round += 1
        self._probes = self._good = 0
        self._round_ends = 0.0

    def _probed(self, permit: Permit, verdict: Verdict, now: float) -> None:
        if permit.probe != self._round or self._state != "half-open":
            return
        if verdict == "failed":
            self._pause_s = min(self._pause_s * 2, self._settings.longest_open_s)
            self._open("a probe failed", now)
        elif verdict == "neutral":
            self._probes -= 1
        else:
            self._good += 1
            if self._good >= self._settings.probes:
                self._state, self._closed_at = "closed", now
                self._pause_s = self._settings.open_s
                self._recent.clear()
                self._failed = self._slow = 0
                self._notice("breaker_closed", f"{self._good} probes succeeded")

    def _take(self, failed: bool, slow: bool) -> None:  # noqa: FBT001 - two marks of one call
        self._recent.append((failed, slow))
        self._failed += failed
        self._slow += slow
        while len(self._recent) > self._settings.window:
            old_failed, old_slow = self._recent.popleft()
            self._failed -= old_failed
            self._slow -= old_slow

    def _spend(self, now: float, cost_nanousd: int) -> None:
        limit = self._limit_nanousd
        if limit is None:
            return
        self._spent.append((now, cost_nanousd))
        self._spent_nanousd += cost_nanousd
        while self._spent and self._spent[0][0] <= now - 60:
            self._spent_nanousd -= self._spent.popleft()[1]
        if self._spent_nanousd > limit and self._state == "closed":
            self._open("spending too fast", now)

    def _fault(self, count: int) -> str:
        if count < self._settings.min_calls:
            return ""
        if self._failed >= self._settings.error_rate * count:
            return f"{self._failed} of {count} calls failed"
        if self._slow >= self._settings.slow_rate * count:
            return f"{self._slow} of {count} calls took more than {self._settings.slow_s:g} s"
        return ""

    def _open(self, reason: str, now: float) -> None:
        self._state, self._heard, self._opened_at = "open", False, now
        self._until = now + self._pause_s
        self._recent.clear()
        self._failed = self._slow = 0
        self._notice("breaker_open", reason)
