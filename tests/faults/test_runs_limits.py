"""Limits that evaluations share through the store, and clocks that jump."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slow_server import Reply, finish, paid_project, start

from conftest import PROMPT, Outcome, Sandbox
from promptops.evaluation.execute import Options
from promptops.evaluation.plan import Selection, make_plan
from promptops.evaluation.session import start_run
from promptops.project.project import open_project
from promptops.project.store import RateLimit, Store, StoreAddress, open_store
from promptops.project.store.postgres import PostgresStore

Call = Callable[..., Outcome]
EPOCH = 1_800_000_000.0


@pytest.fixture(params=["sqlite", "postgres"])
def two_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """The store as two processes have it open; time is what the test says."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield stack.enter_context(closing(open_store(tmp_path))), stack.enter_context(closing(open_store(tmp_path)))
        else:
            address = StoreAddress(root=tmp_path, url=request.getfixturevalue("postgres_schema_url"))
            first, second = (stack.enter_context(closing(PostgresStore(address, own_clock=False))) for _ in range(2))
            yield first, second


@dataclass
class Bucket:
    """What a token bucket with a burst of a tenth of a minute grants, at the most, in any span."""

    per_minute: int
    least: float = 0.0
    taken: list[tuple[float, float]] = field(default_factory=list)

    @property
    def burst(self) -> float:
        return max(self.least, self.per_minute / 10)

    def excess(self) -> float:
        """By how much the fullest span passes what the bucket allows: its burst and what flowed in meanwhile."""
        worst = 0.0
        for first, (begin, _) in enumerate(self.taken):
            amount = 0.0
            for now, tokens in self.taken[first:]:
                amount += tokens
                worst = max(worst, amount - self.burst - (now - begin) * self.per_minute / 60)
        return worst


REQUESTS = st.lists(st.tuples(st.booleans(), st.floats(0, 20), st.integers(0, 3000)), min_size=1, max_size=40)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each example has a key of its own
@given(requests=REQUESTS, rpm=st.integers(1, 600), tpm=st.integers(100, 20_000))
def test_permits_never_exceed_the_bucket_whoever_takes_them(requests, rpm, tpm, two_stores):
    """In every span of time two evaluations together get at most the burst and what flows in, in requests and in tokens."""
    limit = RateLimit(key=str(uuid4()), rpm=rpm, tpm=tpm)
    granted, tokens_granted = Bucket(rpm, least=1.0), Bucket(tpm)
    now = EPOCH
    for second, passed_s, tokens in requests:
        now += passed_s
        if two_stores[second].take_permit(limit, tokens, now) == 0:
            granted.taken.append((now, 1.0))
            tokens_granted.taken.append((now, min(float(tokens), tpm / 10)))

    assert (0.0, 0.0) == (round(granted.excess(), 3), round(tokens_granted.excess(), 3))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each example has a key of its own
@given(requests=REQUESTS, rpm=st.integers(1, 600), tpm=st.integers(100, 20_000))
def test_who_waits_as_long_as_told_gets_a_permit(requests, rpm, tpm, two_stores):
    """The wait a refusal names is enough, so that nobody starves and nobody asks in a loop."""
    limit = RateLimit(key=str(uuid4()), rpm=rpm, tpm=tpm)
    now = EPOCH
    for second, passed_s, tokens in requests:
        now += passed_s
        wait_s = two_stores[second].take_permit(limit, tokens, now)
        if wait_s:
            now += wait_s + 1e-3
            assert 0 == two_stores[second].take_permit(limit, tokens, now)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each example has a key of its own
@given(jumps=st.lists(st.floats(-1e7, 0), min_size=1, max_size=20))
def test_E37_a_clock_that_goes_back_fills_no_bucket(jumps, two_stores):
    """Time that runs again is not granted again: after the burst a clock that only goes back gives nothing."""
    limit = RateLimit(key=str(uuid4()), rpm=60)
    now = EPOCH
    store, _ = two_stores
    first = [store.take_permit(limit, 1, now) for _ in range(6)]
    later = []
    for jump in jumps:
        now += jump
        later.append(store.take_permit(limit, 1, now))

    assert [0.0] * 6 == first
    assert [1.0] * len(jumps) == [round(wait_s, 6) for wait_s in later]


def test_two_evaluations_share_the_limit_of_a_key(sandbox: Sandbox):
    """Two processes with rpm = 120 get twelve calls at once and two a second after that, together."""
    with paid_project(sandbox, cases=8, model="rpm = 120") as server:
        both = [start(sandbox, "eval", PROMPT, "--no-cache", "--json") for _ in range(2)]
        ended = [finish(process) for process in both]
    with closing(open_store(sandbox.root)) as store:
        begun = sorted(
            datetime.fromisoformat(begun) for run in store.runs() for _, begun, _, _ in store.attempts(run.id)
        )

    assert ([0, 0], 16, 16) == ([outcome.code for outcome in ended], server.calls, len(begun))
    written_late = timedelta(seconds=1.5)  # a permit is older than its row by the time a busy disk takes
    assert begun[15] - begun[0] >= timedelta(seconds=(16 - 12) / 2) - written_late


def test_a_wait_that_one_evaluation_was_told_holds_for_the_next(sandbox: Sandbox):
    """Retry-After is of the key: a process that starts meanwhile does not call before it is over."""
    wait_s = 2
    limited = Reply(status=429, headers={"Retry-After": str(wait_s)})
    with paid_project(sandbox, cases=2, reply=lambda _, before: Reply() if before else limited) as server:
        first = start(sandbox, "eval", PROMPT, "--concurrency", "1")
        server.wait_for(1)
        second = start(sandbox, "eval", PROMPT, "--no-cache", "--json")
        ended = [finish(second), finish(first)]

    assert ([0, 0], 5) == ([outcome.code for outcome in ended], server.calls)
    assert server.times[1] - server.times[0] >= wait_s


def test_a_wait_of_a_day_stops_the_run(sandbox: Sandbox, call: Call):
    """Nobody sits in front of a run that sleeps for a day."""
    day = Reply(status=429, headers={"Retry-After": "86400"})
    with paid_project(sandbox, cases=4, reply=lambda *_: day) as server:
        stopped = call("eval", "--concurrency", "1")

    assert (3, 1) == (stopped.code, server.calls)
    assert "the provider asks to wait longer than 120 s" in stopped.out


@dataclass
class JumpingClock:
    """Jumps by the next of its steps at every look, for ever round."""

    steps: tuple[timedelta, ...]
    now: datetime = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    looks: int = 0

    def __call__(self) -> datetime:
        self.now += self.steps[self.looks % len(self.steps)]
        self.looks += 1
        return self.now


@pytest.mark.parametrize(
    "steps",
    [
        (timedelta(hours=-1),),
        (timedelta(days=400), timedelta(days=-400)),
        (timedelta(seconds=-0.001), timedelta(minutes=90)),
    ],
)
def test_E37_durations_and_verdicts_do_not_depend_on_the_wall_clock(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, steps: tuple[timedelta, ...]
):
    """With a clock that jumps at every look, limits included, latency is real and times are UTC with their offset."""
    monkeypatch.chdir(sandbox.root)
    with paid_project(sandbox, cases=6, model="rpm = 6000\ntpm = 1000000", latency_s=0.02) as server:
        project = open_project(sandbox.root)
        plan = make_plan(project, PROMPT, model="", selection=Selection())
        with closing(open_store(sandbox.root)) as store:
            executed = start_run(
                plan, plan.connect(), store, clock=JumpingClock(steps), options=Options(),
                on_progress=lambda _: None,
            )  # fmt: skip
            results = list(store.results(executed.run.id))
            answers = [store.find_answer(result.answer_key) for result in results]
            times = [started for _, started, _, _ in store.attempts(executed.run.id)]

    times += [
        executed.run.header.started_at,
        executed.run.finished_at,
        *(answer.created_at for answer in answers if answer),
    ]
    assert (0, 6, [True] * 6) == (executed.exit_code, server.calls, [result.passed for result in results])
    assert all(0.02 <= result.latency_s < 30 for result in results)
    assert {timedelta(0)} == {datetime.fromisoformat(text).utcoffset() for text in times}
