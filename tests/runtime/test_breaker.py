"""The breaker by a clock that is moved by hand: what opens it, and how soon a provider that is back is asked again."""

from pathlib import Path
from typing import Any

import pytest

from promptops.core.serving import BreakerSettings
from promptops.runtime.breaker import Breaker, Permit, Refused
from promptops.runtime.testing import Heard
from runtime.bundles import GOOD, NAME, Scripted, failed, ok, open_runtime
from runtime.clock import FakeClock

TICK_S = 0.25
NORMAL_S, SLOW_S = 0.5, 1.5


def after(slow: int, quick: int, *, window: int = 50) -> tuple[str, list[str]]:
    """State and notices of a breaker after `slow` slow calls and `quick` quick ones, all without an error."""
    settings = BreakerSettings(min_calls=10, window=window, slow_s=1.0, slow_rate=0.8)
    heard: list[str] = []
    breaker = Breaker(settings, FakeClock(), lambda event, reason: heard.append(f"{event}: {reason}"))
    for latency_s in [NORMAL_S] * quick + [SLOW_S] * slow:
        permit = breaker.admit(timeout_s=5)
        if isinstance(permit, Refused):
            break
        breaker.ended(permit, "ok", latency_s=latency_s)
    return breaker.state, heard


@pytest.mark.parametrize(
    ("slow", "quick", "expected"),
    [
        (10, 0, ("open", ["breaker_open: 10 of 10 calls took more than 1 s"])),
        (8, 2, ("open", ["breaker_open: 8 of 10 calls took more than 1 s"])),
        (7, 3, ("closed", [])),
        (9, 0, ("closed", [])),
        (0, 40, ("closed", [])),
        (45, 40, ("open", ["breaker_open: 40 of 50 calls took more than 1 s"])),
    ],
)
def test_T16_it_opens_on_the_rate_of_slow_calls_alone(slow: int, quick: int, expected: tuple[str, list[str]]) -> None:
    """From `slow_rate` of the last calls on, and not before `min_calls`; no call failed."""
    assert expected == after(slow, quick)


def test_T16_a_provider_three_times_as_slow_is_left_alone(tmp_path: Path) -> None:
    """Answers keep coming without one error: after min_calls no more wait for the model, and everybody is answered."""
    model, heard = Scripted(lambda _: ok(latency_s=SLOW_S)), Heard()
    settings = {
        "breaker": {"min_calls": 10, "slow_s": 1, "slow_rate": 0.8},
        "fallback": [{"step": "text", "text": GOOD}],
    }
    runtime = open_runtime(tmp_path, settings, small=model, clock=FakeClock(), observers=[heard])
    sources = [runtime.complete(NAME, {"feedback": str(number)}).source for number in range(30)]
    runtime.close()

    assert (10, ["model"] * 10 + ["text"] * 20) == (model.calls, sources)
    assert ["breaker_open"] == [event for event, _ in heard.notices]


def test_T16_a_slow_probe_keeps_it_open() -> None:
    """A provider that answers as slowly as before is not back."""
    clock = FakeClock()
    breaker = Breaker(BreakerSettings(min_calls=1, slow_s=1.0, open_s=1, probes=1), clock, lambda *_: None)
    for _ in range(2):
        permit = breaker.admit(timeout_s=5)
        assert isinstance(permit, Permit)
        breaker.ended(permit, "ok", latency_s=SLOW_S)
        assert "open" == breaker.state
        clock.advance(1)


@pytest.mark.parametrize(
    ("longest_open_s", "back_s", "first_s", "pause_s"),
    [
        # Calls fail from 0 on, one each 0.25 s; the tenth, at 2.25, opens. A failed probe doubles the pause:
        # probes at 3.25, 5.25, 9.25, 17.25, 33.25, 63.25 (30 is the longest), 93.25.
        (30, 2.5, 3.25, 1),
        (30, 6.0, 9.25, 4),
        (30, 17.5, 33.25, 16),
        (30, 40.0, 63.25, 30),
        # With the longest pause as long as the first: probes each second.
        (1, 40.0, 40.25, 1),
        (1, 40.5, 41.25, 1),
    ],
)
def test_T19_the_first_success_comes_within_a_pause_and_a_second(
    tmp_path: Path, longest_open_s: int, back_s: float, first_s: float, pause_s: int
) -> None:
    """Counted on the clock of the runtime, while requests come all the time; then it closes and stays closed."""
    clock = FakeClock()
    start = clock()
    model = Scripted(lambda _: ok() if clock() - start >= back_s else failed("server_error"))
    settings: dict[str, Any] = {
        "breaker": {"min_calls": 10, "open_s": 1, "longest_open_s": longest_open_s, "probes": 3},
        "retry": {"most": 0}, "cache": {"ttl_s": 0}, "fallback": [{"step": "text", "text": GOOD}],
    }  # fmt: skip
    runtime = open_runtime(tmp_path, settings, small=model, clock=clock)
    sources = []
    while clock() - start < first_s + 1:
        sources.append(runtime.complete(NAME, {"feedback": str(len(sources))}).source)
        clock.advance(TICK_S)
    runtime.close()
    first = sources.index("model") * TICK_S

    assert first_s == first
    assert first - back_s <= pause_s + 1
    assert ["model"] * 4 == sources[-4:]
