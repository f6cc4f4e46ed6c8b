"""Who may call now: one door for the window, the provider's wishes, the rate limits and the spending cap.

Every paid call passes here. It is let through when the window has room, nobody asked to wait, the shared limits have
permits and the worst case fits under the cap; its intent is on disk before it starts. Callers that can go at the same
moment share one transaction.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from promptops.core.outcome import POSSIBLY_PAID
from promptops.evaluation.breaker import Breaker
from promptops.models.base import Answer
from promptops.project.store import RateLimit, Store

MAX_WAIT_S = 120.0
"""Longest time a provider may ask to wait, at once or in a row without an answer between; beyond it the run stops."""
_POLL_S = 0.25
_SLOW = 4.0
_SLOW_AT_LEAST_S = 2.0

Stop = Literal["", "SIGINT", "SIGTERM", "auth", "quota", "budget", "wait", "outage"]


class Stopped(Exception):  # noqa: N818 - tells a worker to go home
    """No further call is made in this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A call that was let through: its row in the ledger and what was reserved for it."""

    attempt: int
    worst_nanousd: int
    probe: bool = False


@dataclass(slots=True, kw_only=True)
class SpendCap:
    """Reserve the worst case, call, settle: spent plus reserved never passes the cap. None is no cap.

    One may be shared by runs in one event loop, and by runs that follow each other.
    """

    max_nanousd: int | None = None
    max_calls: int | None = None
    spent_nanousd: int = 0
    reserved_nanousd: int = 0
    calls: int = 0

    def reserve(self, worst_nanousd: int) -> bool:
        if self.max_calls is not None and self.calls >= self.max_calls:
            return False
        if (
            self.max_nanousd is not None
            and self.spent_nanousd + self.reserved_nanousd + worst_nanousd > self.max_nanousd
        ):
            return False
        self.calls += 1
        self.reserved_nanousd += worst_nanousd
        return True

    def settle(self, worst_nanousd: int, cost_nanousd: int) -> None:
        self.reserved_nanousd -= worst_nanousd
        self.spent_nanousd += cost_nanousd

    def release(self, worst_nanousd: int) -> None:
        """The call is not made after all."""
        self.calls -= 1
        self.reserved_nanousd -= worst_nanousd

    @property
    def holds(self) -> bool:
        """Whether calls in flight could still give room back."""
        return self.reserved_nanousd > 0 and (self.max_calls is None or self.calls < self.max_calls)


@dataclass(slots=True)
class Window:
    """How many calls may be in flight: one more for each window of good answers, half after trouble (AIMD).

    A careful one begins with a single call and doubles with each window until the first trouble (slow start).
    Sources: Chiu and Jain 1989, Computer Networks 17:1-14; RFC 5681, section 3.1.
    """

    most: int
    careful: bool = False
    size: float = field(init=False)
    in_flight: int = 0
    _best_s: float = float("inf")
    _quiet_until: float = 0.0

    def __post_init__(self) -> None:
        self.size = 1.0 if self.careful else float(self.most)

    @property
    def room(self) -> bool:
        return self.in_flight < max(1, int(self.size))

    def ended(self, answer: Answer, now: float) -> None:
        self.in_flight -= 1
        self._best_s = min(self._best_s, answer.latency_s) if answer.outcome == "ok" else self._best_s
        slow = answer.latency_s > max(_SLOW_AT_LEAST_S, _SLOW * self._best_s)
        if answer.outcome in ("rate_limited", "timeout") or slow:
            if now >= self._quiet_until:  # one cut for all calls that were in flight together
                self.size = max(1.0, self.size / 2)
                self._quiet_until = now + answer.latency_s
                self.careful = False
        else:
            self.size = min(float(self.most), self.size + (1.0 if self.careful else 1 / self.size))


@dataclass(slots=True, kw_only=True)
class _Waiting:
    key: str
    tokens: int
    worst_nanousd: int
    future: "asyncio.Future[Ticket]"


class Admission:
    """One for a run. Not thread-safe: lives in the run's event loop."""

    def __init__(self, store: Store, run_id: str, clock: Callable[[], datetime], *, window: Window, cap: SpendCap, breaker: Breaker,
                 limit: RateLimit, on_stop: Callable[[Stop, str], None]) -> None:  # fmt: skip
        self._store, self._run_id, self._clock = store, run_id, clock
        self.window, self.cap, self.breaker, self._limit, self._on_stop = window, cap, breaker, limit, on_stop
        self._waiting: deque[_Waiting] = deque()
        self._stopped = False
        self._paused_until = self._polled_at = 0.0
        self._waiting_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pump_due = False
        self._probing = False
        self.calls = self.rate_limited = 0
        self._last_failure = ""
        self.peers: list[Admission] = []
        """Those of the same run that share the cap: a call that ends may give them room."""

    async def admit(self, key: str, *, tokens: int, worst_nanousd: int) -> Ticket:
        """Wait for a turn. Raises Stopped when there will be none, EvaluationError when the store cannot be written."""
        if self._stopped:
            raise Stopped
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(key=key, tokens=tokens, worst_nanousd=worst_nanousd, future=future))
        self._pump_soon()
        return await future

    def settle(self, ticket: Ticket, answer: Answer) -> None:
        """The call ended: what it cost is spent, and what it told about the provider is taken in."""
        now = asyncio.get_running_loop().time()
        cost = _booked(answer, ticket.worst_nanousd)
        self.cap.settle(ticket.worst_nanousd, cost)
        self._store.end_attempt(ticket.attempt, answer.outcome, cost, ticket.worst_nanousd)
        self.window.ended(answer, now)
        self.breaker.ended(answer.outcome, now)
        self._last_failure = answer.detail or self._last_failure
        if ticket.probe:
            self._probing = False
        self.rate_limited += answer.outcome == "rate_limited"
        if answer.outcome == "rate_limited" or answer.retry_after_s:
            self._pause(answer.retry_after_s or 0.0, now)
        else:
            self._waiting_since = None
        if answer.outcome in ("auth", "quota"):
            self.stop("auth" if answer.outcome == "auth" else "quota", answer.detail)
        self._pump_soon()
        for peer in self.peers:
            peer._pump_soon()  # noqa: SLF001 - another of this class

    def stop(self, reason: Stop, detail: str = "") -> None:
        """Let nobody through any more; `detail` is what a provider did, for the person who reads why."""
        if not self._stopped:
            self._stopped = True
            self._on_stop(reason, detail)
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(Stopped())

    def _pause(self, seconds: float, now: float) -> None:
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        if now + seconds - self._waiting_since > MAX_WAIT_S:
            self.stop("wait", f"it asks to wait {seconds:.0f} s")
        elif seconds > 0:
            self._paused_until = max(self._paused_until, now + seconds)
            self._store.block(self._limit.key, seconds, self._clock().timestamp())

    def _pump_soon(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump_after(self, delay_s: float) -> None:
        """Look again then, instead of when the last look said: timers that each set the next one would pile up."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump_soon)

    def _pump(self) -> None:
        self._pump_due = False
        going: list[_Waiting] = []
        try:
            wait_s = self._choose(going)
            if not self._stopped and self._waiting and wait_s > 0:
                self._pump_after(wait_s)
            attempts: list[int] = []
            self._store.settle_seat()
            fitting = self._store.book([item.worst_nanousd for item in going]) if going else 0
            going, refused = going[:fitting], going[fitting:]
            if refused:
                self._refused(refused, others_go=bool(going))
            if going:
                calls = [(item.key, item.worst_nanousd) for item in going]
                attempts = self._store.begin_attempts(self._run_id, calls, self._clock().isoformat())
            else:
                self._store.flush()
        except Exception as error:  # noqa: BLE001 - raised where the callers wait
            self._stopped = True  # nothing is paid after the first failed write
            for item in (*going, *self._waiting):
                if not item.future.done():
                    item.future.set_exception(error)
            self._waiting.clear()
            return
        for item, attempt in zip(going, attempts, strict=True):
            probe = self.breaker.is_open  # while it is open, one call goes at a time
            item.future.set_result(Ticket(attempt=attempt, worst_nanousd=item.worst_nanousd, probe=probe))

    def _refused(self, items: list[_Waiting], *, others_go: bool) -> None:
        """There is no room under the cap that this process shares with others: wait for what calls in flight give back, here or there."""
        for item in reversed(items):
            self._waiting.appendleft(item)
            self.cap.release(item.worst_nanousd)
            self.window.in_flight -= 1
            self.calls -= 1
        self._probing = self._probing and others_go
        if self._store.may_get_room():
            self._pump_after(_POLL_S)
        else:
            self.stop("budget")

    def _choose(self, going: list[_Waiting]) -> float:
        """Move those who may go now from the queue to `going`; seconds until it is worth looking again, 0 for at the next end."""
        now = asyncio.get_running_loop().time()
        blocked_s = self._blocked_s(now)
        if blocked_s > 0:
            return blocked_s
        while self._waiting and self.window.room:
            self._drop_cancelled()
            if not self._waiting:
                break
            pause_s = self.breaker.wait_s(now)
            if pause_s is None:
                self.stop("outage", self._last_failure)
                return 0.0
            if pause_s > 0:
                return pause_s
            if self.breaker.is_open and (self._probing or going):
                return 0.0
            item = self._waiting[0]
            if not self.cap.reserve(item.worst_nanousd):
                if not self.cap.holds and not going:
                    self.stop("budget")
                idle = (
                    self.window.in_flight == 0
                )  # another run that shares the cap holds the rest: nothing of ours will end
                return _POLL_S if idle else 0.0
            permit_s = (
                self._store.take_permit(self._limit, item.tokens, self._clock().timestamp())
                if self._limit.limited
                else 0.0
            )
            if permit_s > 0:
                self.cap.release(item.worst_nanousd)
                return permit_s
            going.append(self._waiting.popleft())
            self.window.in_flight += 1
            self.calls += 1
            self._probing = self.breaker.is_open
        return 0.0

    def _drop_cancelled(self) -> None:
        while self._waiting and self._waiting[0].future.done():
            self._waiting.popleft()

    def _blocked_s(self, now: float) -> float:
        """Seconds to wait because a provider asked this or another process that shares the store to."""
        if now - self._polled_at >= _POLL_S:
            self._polled_at = now
            left = self._store.blocked_s(self._limit.key, self._clock().timestamp())
            if 0 < left <= MAX_WAIT_S:
                self._paused_until = max(self._paused_until, now + left)
        return self._paused_until - now


def _booked(answer: Answer, worst_nanousd: int) -> int:
    """What a call counts as: as usage says where there is any, as its worst case where the answer was lost on the way."""
    lost = answer.sent and answer.outcome in POSSIBLY_PAID
    readable_usage = answer.outcome == "bad_response" and answer.usage_trusted
    return worst_nanousd if lost and not readable_usage else answer.cost_nanousd
