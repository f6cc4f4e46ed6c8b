"""The rules between a run and its provider, each alone: retries, breaker, window, spending cap, Retry-After."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from promptops.core.outcome import Outcome
from promptops.evaluation.admission import SpendCap, Window
from promptops.evaluation.breaker import Breaker
from promptops.evaluation.retry import RetryPolicy
from promptops.models.base import Answer
from promptops.models.parse import parse_retry_after

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def policy(planned: int = 1000, seed: int = 0) -> RetryPolicy:
    return RetryPolicy(planned=planned, rng=random.Random(seed))


def tries_of(outcome: Outcome, retry: RetryPolicy, *, breaker_open: bool = False, most: int = 50) -> int:
    """How often a call is made that always ends like this."""
    tries = 1
    while tries < most and retry.delay_s(Answer(outcome=outcome), tries, breaker_open=breaker_open) is not None:
        tries += 1
    return tries


@pytest.mark.parametrize(
    ("outcome", "tries"),
    [
        ("connection", 4), ("server_error", 4), ("stream", 3), ("timeout", 2), ("bad_response", 2), ("rate_limited", 9), ("ok", 1),
        ("refused", 1), ("filtered", 1), ("truncated", 1), ("tool_call", 1), ("auth", 1), ("quota", 1), ("too_large", 1), ("not_recorded", 1),
    ],
)  # fmt: skip
def test_each_outcome_has_its_number_of_tries(outcome: Outcome, tries: int):
    """Whatever may have been paid or will be the same again is asked again least."""
    assert tries == tries_of(outcome, policy())


@pytest.mark.parametrize(("planned", "budget"), [(1, 7), (22, 7), (40, 8), (1000, 200)])
def test_retries_of_a_run_have_a_budget(planned: int, budget: int):
    """A fifth of the planned calls, at least the seven failures before a breaker opens."""
    retry = policy(planned)

    granted = sum(retry.delay_s(Answer(outcome="server_error"), 1, breaker_open=False) is not None for _ in range(2000))

    assert budget == granted


def test_waiting_that_was_asked_for_costs_no_budget():
    """A rate limit with Retry-After, and an open breaker, hold calls back by themselves."""
    retry = policy(planned=1)
    limited = Answer(outcome="rate_limited", retry_after_s=2.0)

    delays = [retry.delay_s(limited, 1, breaker_open=False) for _ in range(100)]

    assert (True, 0, 50) == (None not in delays, retry.used, tries_of("connection", retry, breaker_open=True))


@given(tries=st.integers(1, 60), seed=st.integers(0, 1000))
def test_backoff_doubles_with_jitter_up_to_20_seconds(tries: int, seed: int):
    """Between half of the ceiling and the ceiling, so that clients do not come back together."""
    ceiling = min(20.0, 0.25 * 2 ** (tries - 1))

    delay = policy(seed=seed).delay_s(Answer(outcome="connection"), tries, breaker_open=True)

    assert delay is not None
    assert ceiling / 2 <= delay <= ceiling


def test_the_breaker_opens_at_8_failures_in_10_calls():
    """Not before; what the key or the model is to blame for is no failure of the provider."""
    breaker = Breaker(patience_s=60)
    for outcome in ("ok", "refused", *["server_error"] * 7):
        breaker.ended(outcome, 100.0)
    before = breaker.is_open
    breaker.ended("timeout", 100.0)

    assert (False, True, 1, 0.5) == (before, breaker.is_open, breaker.opened, breaker.wait_s(100.0))


@pytest.mark.parametrize(
    "outcome", ["ok", "auth", "quota", "rate_limited", "bad_response", "refused", "filtered", "too_large"]
)
def test_no_number_of_other_outcomes_opens_it(outcome: str):
    """An answer of any kind shows that the provider is there."""
    breaker = Breaker(patience_s=60)
    for _ in range(100):
        breaker.ended(outcome, 1.0)

    assert (False, 0.0) == (breaker.is_open, breaker.wait_s(1.0))


def test_an_open_breaker_probes_ever_less_often_and_gives_up():
    """Pauses of 0.5, 1, 2, 4, 8 and 8 seconds; None once the patience is over."""
    breaker, now = Breaker(patience_s=30), 0.0
    for _ in range(8):
        breaker.ended("connection", now)
    pauses: list[float] = []
    while (pause := breaker.wait_s(now)) is not None:
        pauses.append(pause)
        now += pause
        breaker.ended("connection", now)

    assert ([0.5, 1, 2, 4, 8, 8, 8], 31.5) == (pauses, now)


def test_calls_that_were_in_flight_do_not_prolong_the_pause():
    """They say what is known already."""
    breaker = Breaker(patience_s=60)
    for _ in range(40):
        breaker.ended("connection", 10.0)

    assert (0.5, 1) == (breaker.wait_s(10.0), breaker.opened)


def test_one_success_closes_the_breaker():
    """And it takes eight new failures to open it again."""
    breaker = Breaker(patience_s=1)
    for outcome in (*["connection"] * 8, "ok", *["connection"] * 7):
        breaker.ended(outcome, 1.0)

    assert (False, 0.0) == (breaker.is_open, breaker.wait_s(1000.0))


def a_window(most: int, in_flight: int) -> Window:
    window = Window(most)
    window.in_flight = in_flight
    return window


def test_the_window_halves_once_for_calls_in_flight_together():
    """Eight 429 of one burst are one sign."""
    window = a_window(8, 8)
    for _ in range(8):
        window.ended(Answer(outcome="rate_limited", latency_s=1.0), 10.0)

    assert (4.0, 0) == (window.size, window.in_flight)


def test_the_window_grows_by_one_for_a_window_of_answers():
    """From 4: 4.25, 4.485, 4.708, 4.921; additive, never beyond what was asked for."""
    window = a_window(8, 1000)
    window.size = 4.0
    for _ in range(4):
        window.ended(Answer(outcome="ok", latency_s=0.1), 1.0)
    after_four = window.size
    for _ in range(900):
        window.ended(Answer(outcome="ok", latency_s=0.1), 1.0)

    assert (4.921, 8.0) == (round(after_four, 3), window.size)


def test_a_careful_window_doubles_from_one_until_trouble():
    """1, 2, 4; then halved, and from there one more a window."""
    window = Window(64, careful=True)
    sizes = [window.size]
    for calls in (1, 2):
        for _ in range(calls):
            window.ended(Answer(outcome="ok", latency_s=0.1), 1.0)
        sizes.append(window.size)
    window.ended(Answer(outcome="rate_limited", latency_s=0.1), 2.0)
    sizes.append(window.size)
    window.ended(Answer(outcome="ok", latency_s=0.1), 3.0)

    assert [1.0, 2.0, 4.0, 2.0, 2.5] == [*sizes, window.size]


def test_answers_that_become_slow_shrink_the_window():
    """Four times the best latency, and over two seconds."""
    window = a_window(8, 3)
    window.ended(Answer(outcome="ok", latency_s=0.6), 1.0)
    window.ended(Answer(outcome="ok", latency_s=2.3), 10.0)
    fast_enough = window.size
    window.ended(Answer(outcome="ok", latency_s=2.5), 20.0)

    assert (8.0, 4.0) == (fast_enough, window.size)


@given(
    st.lists(st.sampled_from(["ok", "rate_limited", "timeout", "connection", "refused"]), max_size=200),
    st.integers(1, 1024),
)
def test_there_is_always_room_for_one_call(outcomes: list[Outcome], most: int):
    """However bad it gets, a run does not stop by itself."""
    window = Window(most)
    for now, outcome in enumerate(outcomes):
        assert window.room
        window.in_flight += 1
        window.ended(Answer(outcome=outcome, latency_s=0.1), float(now))

    assert (True, True) == (window.room, 1 <= window.size <= most)


class SpendCapMachine(RuleBasedStateMachine):
    """Calls reserve their worst case and settle for at most that, in any order."""

    open_calls: Bundle[int] = Bundle("open_calls")

    def __init__(self) -> None:
        super().__init__()
        self.cap = SpendCap(max_nanousd=1000, max_calls=20)
        self.reserved: list[int] = []
        self.paid = self.made = 0

    @rule(target=open_calls, worst=st.integers(0, 600))
    def reserve(self, worst: int) -> int:
        fits = self.paid + sum(self.reserved) + worst <= 1000 and self.made < 20
        assert fits == self.cap.reserve(worst)
        if not fits:
            return -1
        self.made += 1
        self.reserved.append(worst)
        return worst

    @rule(worst=consumes(open_calls), share=st.floats(0, 1))
    def settle(self, worst: int, share: float) -> None:
        if worst < 0:
            return
        cost = int(worst * share)
        self.cap.settle(worst, cost)
        self.reserved.remove(worst)
        self.paid += cost

    @invariant()
    def never_above_the_cap(self) -> None:
        cap = self.cap
        assert (self.paid, sum(self.reserved), self.made) == (cap.spent_nanousd, cap.reserved_nanousd, cap.calls)
        assert cap.spent_nanousd + cap.reserved_nanousd <= 1000
        assert cap.calls <= 20


SpendCapMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSpendCap = SpendCapMachine.TestCase


def test_a_cap_of_nothing_lets_nothing_through():
    """0 is a cap; None is none."""
    assert [False, False, True] == [
        SpendCap(max_nanousd=0).reserve(1), SpendCap(max_calls=0).reserve(0), SpendCap().reserve(10**18),
    ]  # fmt: skip


_RETRY_AFTER: dict[str, float | None] = {
    "2": 2.0, " 2 ": 2.0, "0": 0.0, "1.5": 1.5, "86400": 86_400.0, "1e300": 1e300, "-1": None, "-0.1": None, "NaN": None, "inf": None, "-inf": None,
    "1e400": None, "": None, "soon": None, "2 seconds": None, "0x10": None, "Thu, 01 Jan 2026 12:00:30 GMT": 30.0,
    "Thu, 01 Jan 2026 13:00:30 +0100": 30.0, "Thu, 01 Jan 2026 11:59:59 GMT": None, "Thu, 01 Jan 2026 12:00:30 -0000": None,
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT": None, "Mon, 01 Jan 2026 00:00:00 +99999999999": None,
}  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), _RETRY_AFTER.items())
def test_E6_retry_after_is_seconds_from_now_or_nothing(text: str, seconds: float | None):
    """A number or an HTTP date (RFC 9110, 10.2.3); a past date, a negative number and junk ask for nothing."""
    assert seconds == parse_retry_after(text, NOW)


@given(st.integers(0, 10**7))
def test_E6_a_date_asks_for_the_time_until_it(seconds: int):
    """Whole seconds survive the header."""
    assert float(seconds) == parse_retry_after(format_datetime(NOW + timedelta(seconds=seconds), usegmt=True), NOW)


_DATE_WORDS = st.sampled_from(
    ["Mon,", "01", "Jan", "2026", "9" * 30, "00:00:00", "99:99:99", "GMT", "+" + "9" * 12, "-0000", "x", ":", "1."]
)


@given(st.one_of(st.text(max_size=60), st.lists(_DATE_WORDS, max_size=8).map(" ".join)))
def test_E6_no_header_breaks_the_run(text: str):
    """Any text is a number of seconds, finite and not negative, or nothing."""
    found = parse_retry_after(text, NOW)

    assert found is None or 0 <= found < float("inf")
