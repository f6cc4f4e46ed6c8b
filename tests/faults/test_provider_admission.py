"""When calls may go, on a clock that jumps: pauses a provider asks for, shared limits, and probes of an open breaker."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evaluation.stored_runs import a_header
from promptops.evaluation.admission import Admission, SpendCap, Stop, Stopped, Window
from promptops.evaluation.breaker import Breaker
from promptops.models.base import Answer
from promptops.project.store import RateLimit, Store, open_store

RUN = "20260101-000000-aaaaaa"
OK = Answer(outcome="ok")
START = 1000.0


class JumpingSelector(selectors.DefaultSelector):
    """Moves the clock to the next timer instead of waiting for it."""

    now = START

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits, and nothing will happen"
        self.now += timeout
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = JumpingSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        self.clock.now += 1e-7  # a look at a real clock takes time as well
        return self.clock.now


class Door:
    """An admission with a run of its own, and what it did."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.stops: list[Stop] = []
        self.went_at: list[float] = []
        loop = asyncio.get_running_loop()
        parts: dict[str, Any] = {
            "window": Window(8), "cap": SpendCap(), "breaker": Breaker(patience_s=60), "limit": RateLimit(key="key"),
        }  # fmt: skip
        self.admission = Admission(
            store,
            RUN,
            lambda: datetime.fromtimestamp(loop.time(), UTC),
            on_stop=lambda reason, _: self.stops.append(reason),
            **(parts | settings),
        )

    async def call(self, answer: Answer, takes_s: float = 0.0) -> None:
        """One call with this end, or none when the run has stopped."""
        with suppress(Stopped):
            ticket = await self.admission.admit("key", tokens=10, worst_nanousd=1)
            self.went_at.append(round(asyncio.get_running_loop().time() - START, 1))
            await asyncio.sleep(takes_s)
            self.admission.settle(ticket, answer)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path)) as found:
        found.begin_run(a_header(RUN))
        yield found


def run(story: Callable[[], Awaitable[Door]]) -> Door:
    async def main() -> Door:
        return await story()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


def limited(seconds: float | None) -> Answer:
    return Answer(outcome="rate_limited", retry_after_s=seconds)


def test_E5_nobody_goes_before_the_pause_is_over(store: Store):
    """The longest wish counts, for those who wait already and those who come."""

    async def story() -> Door:
        door = Door(store)
        await asyncio.gather(door.call(limited(5)), door.call(limited(30)), door.call(OK, takes_s=7))
        await asyncio.gather(*(door.call(OK) for _ in range(3)))
        return door

    assert [0, 0, 0, 30, 30, 30] == run(story).went_at


def test_E5_an_overloaded_server_that_says_when_is_waited_for(store: Store):
    """503 with Retry-After asks everybody to wait, as 429 does; without it, it asks for nothing."""

    async def story() -> Door:
        door = Door(store)
        await door.call(Answer(outcome="server_error", retry_after_s=30))
        await door.call(Answer(outcome="server_error"))
        await door.call(OK)
        return door

    door = run(story)
    assert ([0, 30, 30], 0) == (door.went_at, door.admission.rate_limited)


@pytest.mark.parametrize(
    ("answer", "booked"),
    [
        (Answer(outcome="bad_response", cost_nanousd=7), (0, 7)),
        (Answer(outcome="bad_response", cost_nanousd=2, usage_trusted=False), (0, 1)),
        (Answer(outcome="timeout"), (0, 1)),
        (Answer(outcome="connection", sent=False), (0, 0)),
        (Answer(outcome="refused", cost_nanousd=7), (7, 0)),
    ],
    ids=["usage says", "no usage", "lost", "never sent", "refused"],
)
def test_E9_what_may_have_been_paid_is_booked(store: Store, answer: Answer, booked: tuple[int, int]):
    """(paid, possibly paid): an answer nobody can read costs what its usage says, else its worst case (1 here)."""

    async def story() -> Door:
        door = Door(store)
        await door.call(answer)
        return door

    door = run(story)
    store.flush()
    ledger = store.ledger(RUN)
    assert (booked, sum(booked)) == ((ledger.paid_nanousd, ledger.possibly_nanousd), door.admission.cap.spent_nanousd)


def test_E21_runs_that_share_a_cap_wait_for_each_other(store: Store):
    """What one run has in flight may give room back to the other, which looks again although nothing of its own ends."""

    async def story() -> Door:
        cap = SpendCap(max_nanousd=1)
        door, other = Door(store, cap=cap), Door(store, cap=cap)
        first = asyncio.ensure_future(door.call(Answer(outcome="ok", cost_nanousd=0), takes_s=5))
        await asyncio.sleep(1)
        await other.call(Answer(outcome="ok", cost_nanousd=1))
        await first
        await door.call(OK)
        door.went_at += other.went_at
        return door

    door = run(story)
    assert ([0, 5], ["budget"]) == ([int(at) for at in door.went_at], door.stops)


def test_E5_another_evaluation_with_the_same_key_waits_too(store: Store):
    """The wish is in the store, which all processes of this machine share."""

    async def story() -> Door:
        await Door(store).call(limited(30))
        other, stranger = Door(store), Door(store, limit=RateLimit(key="another key"))
        await asyncio.sleep(1)
        await asyncio.gather(other.call(OK), stranger.call(OK))
        other.went_at += stranger.went_at
        return other

    assert [30, 1] == run(story).went_at


def test_E5_waits_in_a_row_have_a_total(store: Store):
    """Asked to wait 100 s again after 100 s without any answer, the run stops instead of sitting there for a day."""

    async def story() -> Door:
        door = Door(store)
        for _ in range(5):
            await door.call(limited(100))
        return door

    door = run(story)
    assert ([0, 100], ["wait"]) == (door.went_at, door.stops)


def test_E5_an_answer_starts_the_total_again(store: Store):
    """A slow provider that answers is not an absent one."""

    async def story() -> Door:
        door = Door(store)
        for _ in range(3):
            await door.call(limited(100))
            await door.call(OK)
        return door

    door = run(story)
    assert ([0, 100, 100, 200, 200, 300], []) == (door.went_at, door.stops)


@pytest.mark.parametrize(("seconds", "stops"), [(120.0, []), (120.1, ["wait"]), (None, [])])
def test_E6_a_single_wish_has_a_limit(store: Store, seconds: float | None, stops: list[Stop]):
    """Two minutes are waited for, more is not; no wish is no pause."""

    async def story() -> Door:
        door = Door(store)
        await door.call(limited(seconds))
        return door

    assert stops == run(story).stops


def test_a_rate_is_kept_without_asking_the_store_over_and_over(store: Store):
    """60 a minute with a burst of 6: 54 s for 60 calls, and a handful of looks at the shared limit for each."""
    statements: list[str] = []
    store._sql.set_trace_callback(statements.append)

    async def story() -> Door:
        door = Door(store, limit=RateLimit(key="key", rpm=60))
        await asyncio.gather(*(door.call(OK, takes_s=0.1) for _ in range(60)))
        return door

    went_at = run(story).went_at

    looks = sum(statement.startswith("insert or replace into limits") for statement in statements)
    assert ([0.0] * 6, 54, True) == (went_at[:6], round(went_at[-1]), looks <= 5 * 60), looks


def test_E8_an_open_breaker_lets_one_probe_through(store: Store):
    """Calls that were in flight when it opened do not make room for a second."""

    async def story() -> Door:
        door, down = Door(store, window=Window(64)), Answer(outcome="connection")
        calls = [door.call(down) for _ in range(8)] + [door.call(down, takes_s=5.0 + number) for number in range(4)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.1)
        tasks += [asyncio.ensure_future(door.call(down, takes_s=20)) for _ in range(3)]
        await asyncio.sleep(12)
        for task in tasks:
            task.cancel()
        return door

    assert [*[0] * 12, 0.5] == run(story).went_at
