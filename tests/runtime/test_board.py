"""Open breakers told to other processes through Redis: who is believed, for how long, and who believes itself."""

from collections.abc import Callable, Iterator

import pytest

from promptops.core.serving import BreakerSettings
from promptops.runtime.board import Board
from promptops.runtime.breaker import Breaker, Permit
from promptops.runtime.state.redis import RedisState
from runtime.bundles import INPUTS, NAME, Scripted, failed, open_runtime
from runtime.clock import FakeClock
from runtime.redis_groups import until
from runtime.redis_server import RedisServer
from runtime.spender import PATIENCE_S

SETTINGS = BreakerSettings(min_calls=2, window=10, error_rate=0.5, open_s=10, probes=1)
PLACE = "openai/small"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Process:
    """A process of a host with one breaker."""

    def __init__(self, state: RedisState, host: str, clock: FakeClock) -> None:
        self.heard: list[tuple[str, str]] = []
        self.breaker = Breaker(SETTINGS, clock, lambda event, reason: self.heard.append((event, reason)))
        self.board = Board(state, lambda: {PLACE: [self.breaker]}, host=host)

    def fail(self) -> None:
        for _ in range(2):
            permit = self.breaker.admit(timeout_s=1)
            assert isinstance(permit, Permit)
            self.breaker.ended(permit, "failed", latency_s=0.1)

    def tell(self) -> str:
        self.board.exchange()
        return self.breaker.state


@pytest.fixture
def process(redis_server: RedisServer, namespace: str, clock: FakeClock) -> Iterator[Callable[[str], Process]]:
    state = RedisState(redis_server.url, namespace=namespace, timeout_s=PATIENCE_S, clock=clock)
    yield lambda host: Process(state, host, clock)
    state.close()


def test_T15_an_outage_one_process_found_stops_the_others_of_its_host(process: Callable[[str], Process]):
    """They share its network: what one saw, all would see. The reason says who."""
    one, other = process("a"), process("a")
    one.fail()

    assert ["open", "open"] == [one.tell(), other.tell()]
    assert [("breaker_open", "another process of this host found it failing")] == other.heard


def test_T15_one_host_alone_is_not_believed_by_others_and_two_are(process: Callable[[str], Process]):
    """The network of one host may be what is broken; two hosts are an outage."""
    hosts = [process(name) for name in "abc"]
    hosts[0].fail()
    hosts[0].tell()
    alone = hosts[2].tell()
    hosts[1].fail()
    hosts[1].tell()

    assert ("closed", "open") == (alone, hosts[2].tell())


def test_hearsay_is_not_passed_on(process: Callable[[str], Process]):
    """A process that opened because others did is no witness: two on one host do not become two hosts."""
    one, heard, far = process("a"), process("a"), process("b")
    one.fail()
    one.tell()
    heard.tell()
    heard.tell()

    assert (None, "closed") == (heard.breaker.seen_open(), far.tell())


def test_T19_after_the_pause_every_process_tries_for_itself(process: Callable[[str], Process], clock: FakeClock):
    """Opening by report lasts as long as that of the reporter; a probe that succeeds is believed over reports of before."""
    one, other, third = process("a"), process("a"), process("a")
    one.fail()
    one.tell()
    clock.advance(6)
    other.tell()
    clock.advance(4)
    permit = other.breaker.admit(timeout_s=1)
    other.breaker.ended(permit, "ok", latency_s=0.1)
    third.fail()
    clock.advance(1)
    closed = other.breaker.state
    third.tell()
    later = other.tell()
    reopened = [reason for event, reason in other.heard if event == "breaker_open"]

    assert isinstance(permit, Permit)
    assert ("closed", "open", 2) == (closed, later, len(reopened))


def test_a_process_that_recovered_ignores_reports_from_before(process: Callable[[str], Process], clock: FakeClock):
    """Its own probe is later than what the others saw."""
    one, other = process("a"), process("a")
    other.fail()
    clock.advance(9)
    one.fail()
    one.tell()
    clock.advance(1)
    other.breaker.ended(other.breaker.admit(timeout_s=1), "ok", latency_s=0.1)

    assert "closed" == other.tell()


def test_reports_end_by_themselves(process: Callable[[str], Process], clock: FakeClock):
    """A process that died with its breaker open is heard until its pause is over."""
    one, other = process("a"), process("a")
    one.fail()
    one.tell()
    clock.advance(11)

    assert "closed" == other.tell()


def test_T15_a_runtime_stops_asking_what_another_found_failing(redis_server: RedisServer, namespace: str, tmp_path):
    """Through the whole: the second runtime makes no call to a model that the first found down, and says why."""
    settings = {"breaker": {"min_calls": 2, "error_rate": 0.5, "open_s": 60, "longest_open_s": 60}, "retry": {"most": 0}, "state_timeout_s": 5,
                "fallback": [{"step": "text", "text": "later"}]}  # fmt: skip
    bad = Scripted(lambda _: failed())
    runtimes, models = [], [bad, Scripted()]
    for number, model in enumerate(models):
        state = RedisState(redis_server.url, namespace=namespace, timeout_s=PATIENCE_S)
        runtimes.append(open_runtime(tmp_path / str(number), settings, small=model, large=model, state=state))
    runtimes[1].complete(NAME, INPUTS)
    for number in range(4):
        runtimes[0].complete(NAME, {"feedback": f"question {number}"})
    until(lambda: "open" in {item.state for item in runtimes[1]._shared.breakers.values()}, "the second has heard")
    reply = runtimes[1].complete(NAME, {"feedback": "another"})
    for runtime in runtimes:
        runtime.close()

    assert ("text", 1) == (reply.source, models[1].calls)
    assert "breaker open" in reply.degraded
