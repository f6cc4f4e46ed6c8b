"""Replicas share the questions of their semantic caches through Redis: walls, forgetting, catching up, and what is left where."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from promptops.audit.privacy import erase_cache
from promptops.runtime import Runtime
from promptops.runtime.cache import partition_of
from promptops.runtime.state.redis import RedisState
from promptops.runtime.state.redis_questions import Question
from promptops.runtime.testing import HandSwitch, Heard
from runtime.bundles import NAME, Scripted, make_bundle
from runtime.clock import FakeClock
from runtime.redis_groups import Cluster, until
from runtime.redis_server import RedisServer
from runtime.spender import PATIENCE_S
from runtime.test_answers import SIMILAR, with_matcher

SECRET = "zebra"
ASKED, AGAIN = ({"feedback": f"{item['feedback']} {SECRET}"} for item in SIMILAR)
SLOW = {"state_timeout_s": 5, "deadline_s": PATIENCE_S}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path, SLOW, edit=with_matcher(-1000.0))


class Replica:
    """A runtime with a model of its own; `settle` waits until what it keeps is kept and told, and the news are heard."""

    def __init__(self, bundle: Path, url: str, namespace: str) -> None:
        self.model, self.heard = Scripted(), Heard()
        state = RedisState(url, namespace=namespace, timeout_s=PATIENCE_S)
        self.runtime = Runtime.load(bundle, allow_unsigned=True, clients={"small": self.model, "large": self.model}, state=state,
                                    switch=HandSwitch(), observers=[self.heard])  # fmt: skip
        self.lane = self.runtime._serving.live[NAME]

    def ask(self, inputs: dict[str, str], tenant: str = "a") -> str:
        return self.runtime.complete(NAME, inputs, tenant=tenant).source

    def settle(self) -> None:
        workers = self.runtime._shared.workers
        if workers._pool is not None:
            workers.pool.shutdown(wait=True)
            workers._pool = None
        self.lane.warm.exchange()

    def close(self) -> None:
        self.runtime.close()


@pytest.fixture
def replica(bundle: Path, redis_server: RedisServer, namespace: str) -> Iterator[Callable[..., Replica]]:
    """Makes replicas of one service."""
    made: list[Replica] = []

    def make(**options: Any) -> Replica:
        made.append(Replica(options.get("bundle", bundle), redis_server.url, namespace))
        return made[-1]

    yield make
    for item in made:
        item.close()


def test_T1_what_one_replica_was_asked_another_answers_and_for_its_tenant_only(replica: Callable[..., Replica]):
    """A running replica and one that starts later serve the similar question without a call; other tenants ask anew."""
    one, running = replica(), replica()
    one.ask(ASKED)
    one.settle()
    running.settle()
    late = replica()
    until(lambda: late.lane.warm.is_warm, "the late replica is warm")
    sources = [(each.ask(AGAIN), each.ask(AGAIN, "b"), each.model.calls) for each in (running, late)]

    assert [("semantic", "model", 1), ("semantic", "cache", 0)] == sources
    assert [f"{NAME} v1.0.0: 1 shared questions"] == [
        why.rpartition(" in ")[0] for event, why in late.heard.notices if event == "semantic_warm"
    ]


def test_T2_another_matcher_shares_nothing(replica: Callable[..., Replica], tmp_path: Path):
    """Questions are shared within one release of bundle and matcher."""
    one, other = replica(), replica(bundle=make_bundle(tmp_path / "other", SLOW, edit=with_matcher(-999.0)))
    one.ask(ASKED)
    one.settle()
    other.settle()

    assert (1, 0) == (len(one.lane.semantic), len(other.lane.semantic))


def test_an_erased_tenant_is_gone_from_every_replica_and_from_redis(bundle: Path, redis_server: RedisServer):
    """`privacy erase` reaches rows, log and the memory of replicas; other tenants keep theirs."""
    url = redis_server.url.replace("/0", "/5")
    replicas = [Replica(bundle, url, "promptops") for _ in range(2)]
    replicas[0].ask(ASKED, "a")
    replicas[0].ask(SIMILAR[0], "b")
    for item in replicas:
        item.settle()
    before = [len(item.lane.semantic) for item in replicas]
    erased = erase_cache(url, "a")
    replicas[0].lane.warm.add(partition_of("a"), "0" * 32, "1" * 32, text=SECRET, answer="x", keep_s=60)
    for item in replicas:
        item.settle()
    client = replicas[0].runtime._shared.state._link._client
    kept = b"".join(client.dump(key) for key in client.keys("*"))
    after = [len(item.lane.semantic) for item in replicas]
    source = replicas[1].ask(SIMILAR[1], "b")
    for item in replicas:
        item.close()

    assert ([2, 2], [1, 1], 1) == (before, after, erased.erased)
    assert "semantic" == source
    assert SECRET.encode() not in kept


@pytest.mark.parametrize("what", [{"prompt": NAME}, {"prompt": NAME, "version": "v1.0.0"}, {"tenant": "a"}])
def test_what_one_replica_invalidates_all_forget(replica: Callable[..., Replica], what: dict[str, str]):
    """By prompt, version or tenant: at once here, with the next exchange there, and for those that start later."""
    one, other = replica(), replica()
    one.ask(ASKED)
    one.settle()
    other.settle()
    counts = [len(other.lane.semantic), one.runtime.invalidate(**what), len(one.lane.semantic)]
    other.settle()
    late = replica()
    late.settle()

    assert [1, 1, 0] == counts
    assert (0, 0) == (len(other.lane.semantic), len(late.lane.semantic))
    assert ("model", 1) == (other.ask(AGAIN), other.model.calls)


def test_T6_an_answer_that_went_takes_its_question_along_everywhere(replica: Callable[..., Replica]):
    """A hit whose answer is not there any more is a miss, and the others forget the question, too."""
    one, other = replica(), replica()
    one.ask(ASKED)
    one.settle()
    other.settle()
    one.runtime._shared.state.invalidate(f"document:{NAME}:none")
    one.runtime._shared.state.drop(partition_of("a"), next(iter(one.lane.semantic.rows()))["key"])
    source = one.ask(AGAIN)
    one.settle()
    other.settle()
    other.lane.warm.exchange()

    assert "model" == source
    assert [[AGAIN["feedback"]]] * 2 == [[row["text"] for row in each.lane.semantic.rows()] for each in (one, other)]


def question(number: int, tenant: str = "a", keep_s: float = 600) -> Question:
    return Question(
        tenant=partition_of(tenant),
        partition=f"{number:032x}",
        key=f"{number:032x}",
        keep_s=keep_s,
        answer="said",
        text=f"t|{number}",
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_rows_come_back_as_they_were_and_T7_not_beyond_their_time(
    redis_server: RedisServer, namespace: str, clock: FakeClock
):
    """Whatever the text; time is the server's, so that hosts need not agree on theirs."""
    state = RedisState(redis_server.url, namespace=namespace, timeout_s=PATIENCE_S, clock=clock)
    questions = state.questions("release")
    odd = Question(tenant="0" * 32, partition="1" * 32, key="2" * 32, keep_s=60, answer="d", text="a|b\n\0\ud800 é")
    questions.change([odd, question(1, keep_s=30)])
    both = [item for portion in questions.all() for item in portion]
    clock.advance(31)
    one = [item.text for portion in questions.all() for item in portion]
    clock.advance(30)
    none = [item for portion in questions.all() for item in portion]
    state.close()

    assert [odd, question(1, keep_s=30)] == both
    assert ([odd.text], []) == (one, none)


def test_T8_a_row_that_is_damaged_is_left_out(redis_server: RedisServer, namespace: str):
    """A cache is never worth an error."""
    state = RedisState(redis_server.url, namespace=namespace, timeout_s=PATIENCE_S)
    questions = state.questions("release")
    questions.change([question(1), question(2)])
    state._slow.call(
        lambda client: client.hset(questions._rows + partition_of("a"), "1".zfill(32) * 2, b"\xff|nonsense")
    )
    found = [item.text for portion in questions.all() for item in portion]
    state.close()

    assert ["t|2"] == found


def test_rows_and_log_are_bounded_and_the_soonest_to_end_go(redis_server: RedisServer, namespace: str):
    """At most so many rows; the log holds no text and is cut."""
    state = RedisState(redis_server.url, namespace=namespace, timeout_s=PATIENCE_S)
    questions = state.questions("release")
    questions._max_rows, questions._max_log = 5, 100
    for number in range(400):
        questions.change([question(number, keep_s=600 + number)])
    kept = sorted(item.text for portion in questions.all() for item in portion)
    log = state._slow.call(lambda client: client.xlen(questions._log))
    rows = state._slow.call(lambda client: client.hlen(questions._rows + partition_of("a")))
    state.close()

    assert [f"t|{number}" for number in range(395, 400)] == kept
    assert (5, True) == (rows, 100 <= log <= 250)


def test_a_replica_that_fell_behind_the_log_loads_all_again(replica: Callable[..., Replica]):
    """What it missed is found in the rows."""
    one, other = replica(), replica()
    for number in range(3):
        one.ask({"feedback": f"{SECRET} {number} number"})
        one.settle()
        if not number:
            other.settle()
    state = one.runtime._shared.state
    state._slow.call(lambda client: client.xtrim(one.lane.warm._questions._log, maxlen=1, approximate=False))
    other.settle()

    assert (3, 2) == (len(other.lane.semantic), sum(event == "semantic_warm" for event, _ in other.heard.notices))


def test_T8_what_could_not_be_told_is_told_when_redis_is_back(bundle: Path, tmp_path: Path):
    """Requests go on without it; the thread that exchanges says once that it is alone, and then goes on."""
    server = RedisServer(tmp_path)
    one, other = (Replica(bundle, server.url, "n") for _ in range(2))
    for each in (one, other):
        until(lambda each=each: each.lane.warm.is_warm, "warm")
    server.kill()
    source = one.ask(ASKED)
    until(lambda: "semantic_alone" in {event for event, _ in one.heard.notices}, "it notices")
    server.start()
    until(lambda: len(other.lane.semantic) == 1, "the other has heard of it")
    said = sum(event == "semantic_alone" for event, _ in one.heard.notices)
    for each in (one, other):
        each.close()
    server.kill()

    assert ("model", 1) == (source, said)


def test_questions_of_a_release_are_in_one_slot_of_a_cluster(tmp_path: Path, bundle: Path):
    """Told, heard, erased and found by tag, on three nodes."""
    cluster = Cluster(tmp_path)
    try:
        one, other = (Replica(bundle, cluster.url, "n") for _ in range(2))
        one.ask(ASKED)
        one.settle()
        other.settle()
        heard = len(other.lane.semantic)
        erased = one.runtime.invalidate(tenant="a")
        other.settle()
        left = len(other.lane.semantic)
        for each in (one, other):
            each.close()
    finally:
        cluster.kill()

    assert (1, 1, 0) == (heard, erased, left)


def test_T35_a_thread_ends_with_its_cache(bundle: Path, redis_server: RedisServer, namespace: str):
    """A lane that is replaced by another bundle leaves no thread behind."""
    item = Replica(bundle, redis_server.url, namespace)
    until(lambda: item.lane.warm.is_warm, "warm")
    thread = item.lane.warm._thread
    item.lane.close()
    thread.join(PATIENCE_S)
    item.close()

    assert not thread.is_alive()
