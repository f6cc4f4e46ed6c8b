"""State shared by processes: the contract on SQLite and Redis, and what only a shared state can get wrong."""

import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptops.core.errors import DataError
from promptops.runtime.state import Denied, Grant, MemoryState, State, StateError
from promptops.runtime.state.opening import open_state
from promptops.runtime.state.redis import RedisState
from promptops.runtime.state.sqlite import SqliteState
from runtime.clock import FakeClock
from runtime.redis_server import RedisServer
from runtime.spender import PATIENCE_S, opened, spend
from runtime.state_contract import StateContract, hold

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class TestSqliteState(StateContract):
    """The contract, in a file."""

    @pytest.fixture
    def state(self, clock: FakeClock, tmp_path: Path) -> Iterator[State]:
        state = SqliteState(tmp_path / "state.sqlite3", clock=clock, timeout_s=PATIENCE_S)
        yield state
        state.close()


class TestRedisState(StateContract):
    """The contract, on a real server."""

    @pytest.fixture
    def state(self, clock: FakeClock, redis_server: RedisServer, namespace: str) -> Iterator[State]:
        state = RedisState(redis_server.url, namespace=namespace, clock=clock, timeout_s=PATIENCE_S)
        yield state
        state.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def where(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if kind == "redis":
        return request.getfixturevalue("redis_server").url, request.getfixturevalue("namespace")
    return kind, str(tmp_path / "state.sqlite3")


@pytest.fixture
def state(where: tuple[str, str]) -> Iterator[State]:
    state = opened(where)
    yield state
    state.close()


def test_the_own_clock_of_a_state_serves(state: State):
    """Without a clock of a test: values are found, reservations count and settle."""
    state.put("a", "k", b"1", keep_s=60, tags=("t",))
    found = state.get("a", "k")
    grant = state.reserve([hold(4)], lease_s=60)
    denied = state.reserve([hold(7)], lease_s=60)
    reserved = state.reserved()
    state.settle(grant, [1])

    assert (b"1", True) == (found.value, 0 <= found.age_s < PATIENCE_S)
    assert (1, 1, 0) == (reserved, state.used("m", 60), state.reserved())
    assert 0 < denied.retry_after_s <= 61
    assert (1, None) == (state.invalidate("t"), state.get("a", "k"))


def test_T1_no_partition_reaches_into_another(state: State):
    """Whatever partitions and keys are made of, a value is found under its own pair and no other."""
    names = [
        "",
        "a",
        "b",
        "a:b",
        "b:c",
        "a:b:c",
        "c",
        ":",
        "a|b",
        "|",
        "\0",
        "a\0b",
        "\ud800",
        "é",
        "e\u0301",
        "a ",
        "A",
        "{x}",
        "x" * 5000,
    ]
    pairs = [(partition, key) for partition in names for key in names]
    for number, (partition, key) in enumerate(pairs):
        state.put(partition, key, str(number).encode(), keep_s=600)

    found = [getattr(state.get(partition, key), "value", None) for partition, key in pairs]

    assert [str(number).encode() for number in range(len(pairs))] == found


def test_an_overwritten_value_loses_its_old_tags(state: State):
    """Invalidation asks what a value is tagged with now."""
    state.put("a", "k", b"1", keep_s=60, tags=("old",))
    state.put("a", "k", b"2", keep_s=60, tags=("new",))

    assert (0, b"2", 1) == (state.invalidate("old"), state.get("a", "k").value, state.invalidate("new"))


def test_many_values_are_invalidated(state: State):
    """More than one round takes: all of them, once."""
    for number in range(450):
        state.put("a", str(number), b"1", keep_s=600, tags=("t",))

    assert (450, 0) == (state.invalidate("t"), state.invalidate("t"))


@pytest.mark.parametrize("kind", ["sqlite", "redis"], indirect=True)
def test_T9_six_processes_never_pass_the_limit(where: tuple[str, str]):
    """180 reservations of 3 against a limit of 200: exactly 66, whoever comes first."""
    context = multiprocessing.get_context("spawn")
    go, granted = context.Barrier(6), context.Queue()
    processes = [context.Process(target=spend, args=(where, go, granted)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    state = opened(where)
    used = state.used("m", 86_400)
    state.close()
    count = 0
    while not granted.empty():
        granted.get()
        count += 1

    assert ([0] * 6, 198, 66) == ([process.exitcode for process in processes], used, count)


def test_T35_a_fork_waits_for_the_thread_that_writes(tmp_path: Path):
    """A child forked in the middle of a transaction would inherit the record of a lock that nobody releases."""
    path = tmp_path / "state.sqlite3"
    state = SqliteState(path, timeout_s=PATIENCE_S)
    inside, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with state._link.use(write=True) as database:
            database.execute("delete from entries")
            inside.set()
            go_on.wait(PATIENCE_S)

    writer = threading.Thread(target=write)
    writer.start()
    inside.wait(PATIENCE_S)
    threading.Timer(0.1, go_on.set).start()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            SqliteState(path, timeout_s=1).put("p", "own", b"1", keep_s=60)
            state.put("p", "inherited", b"1", keep_s=60)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    writer.join(PATIENCE_S)
    state.put("p", "parent", b"1", keep_s=60)

    assert 0 == os.waitstatus_to_exitcode(status)
    assert [True] * 3 == [state.get("p", key) is not None for key in ("own", "inherited", "parent")]


@pytest.mark.parametrize("kind", ["sqlite", "redis"], indirect=True)
def test_T35_a_forked_child_uses_a_connection_of_its_own(state: State):
    """Parent and child go on after a fork, and count together."""
    state.reserve([hold(1)], lease_s=60)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            state.after_fork()
            code = 0 if isinstance(state.reserve([hold(2)], lease_s=60), Grant) else 2
            os.write(tell, b"x")
        finally:
            os._exit(code)
    os.read(told, 1)
    os.close(told)
    os.close(tell)
    state.reserve([hold(3)], lease_s=60)
    _, status = os.waitpid(child, 0)

    assert (0, 6, 3) == (os.waitstatus_to_exitcode(status), state.used("m", 60), state.reserved())


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one " * 100, None])
def test_T8_a_file_that_is_no_database_is_an_error_of_the_state(tmp_path: Path, content: bytes | None):
    """Corrupt, or a folder: StateError, nothing else, and the file is left as it is."""
    path = tmp_path / "state.sqlite3"
    path.mkdir() if content is None else path.write_bytes(content)
    state = SqliteState(path)

    for call in (
        lambda: state.get("a", "k"),
        lambda: state.reserve([hold()], lease_s=1),
        lambda: state.put("a", "k", b"", keep_s=1),
    ):
        with pytest.raises(StateError):
            call()
    assert content is None or content == path.read_bytes()


def test_T8_a_locked_file_is_an_error_and_later_none(tmp_path: Path):
    """Another program that holds the file costs an error, not a wait without end."""
    path = tmp_path / "state.sqlite3"
    state = SqliteState(path, timeout_s=0.01)
    state.put("a", "k", b"1", keep_s=60)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StateError, match="locked"):
        state.reserve([hold()], lease_s=60)
    other.execute("rollback")
    other.close()

    assert isinstance(state.reserve([hold()], lease_s=60), Grant)
    state.close()


def test_T8_a_full_disk_is_an_error_and_what_is_there_stays(tmp_path: Path):
    """A value that finds no room is not kept; reading and what was counted go on."""
    state = SqliteState(tmp_path / "state.sqlite3", timeout_s=PATIENCE_S)
    state.put("a", "k", b"1", keep_s=60)
    state.reserve([hold(3)], lease_s=60)
    pages = state._link._connection.execute("pragma page_count").fetchone()[0]
    state._link._connection.execute(f"pragma max_page_count = {pages + 2}")
    with pytest.raises(StateError, match="full"):
        state.put("a", "big", b"x" * 100_000, keep_s=60)

    assert (b"1", None, 3) == (state.get("a", "k").value, state.get("a", "big"), state.used("m", 60))
    state.close()


def test_the_file_is_for_its_user_only_and_bounded(tmp_path: Path, clock: FakeClock):
    """Answers of customers are in it; the oldest go when the bound is reached, expired ones by themselves."""
    path = tmp_path / "state.sqlite3"
    state = SqliteState(path, timeout_s=PATIENCE_S, max_bytes=40_000, clock=clock)
    for number in range(100):
        clock.advance(1)
        state.put("p", str(number), b"x" * 1000, keep_s=1000)
    kept = [number for number in range(100) if state.get("p", str(number))]
    clock.advance(2000)
    for number in range(10):
        state.put("q", str(number), b"", keep_s=1000)
    rows = state._link._connection.execute(
        "select count(*), (select bytes from total) - sum(size) from entries"
    ).fetchone()
    state.close()

    assert 0o600 == path.stat().st_mode & 0o777
    assert (True, list(range(100 - len(kept), 100))) == (10 <= len(kept) <= 29, kept)
    assert (10, 0) == rows


def test_T8_a_hung_redis_costs_one_wait_and_then_nothing(tmp_path: Path, namespace: str):
    """One call waits for its timeout, the next second none does, then one tries again; after recovery all is as it was."""
    server, clock = RedisServer(tmp_path), FakeClock()
    state = RedisState(server.url, namespace=namespace, monotonic=clock, timeout_s=0.05)
    patient = RedisState(server.url, namespace=namespace, timeout_s=PATIENCE_S)
    patient.reserve([hold(4)], lease_s=600)
    server.stop()
    why = []
    for step_s in (0, 0.5, 0.4, 0.2, 0.1):
        clock.advance(step_s)
        with pytest.raises(StateError) as caught:
            state.used("m", 60)
        why.append("left alone" in str(caught.value))
    server.go_on()
    state._link.timeout_s, state._link._client = PATIENCE_S, None
    clock.advance(1)
    after = state.used("m", 60)
    server.kill()

    assert ([False, True, True, False, True], 4) == (why, after)


def test_T8_a_lost_redis_is_an_error_and_what_it_counted_is_told_again(tmp_path: Path, namespace: str):
    """Killed and started empty: errors in between, no scripts missing afterwards, and no budget that is full again."""
    server, clock = RedisServer(tmp_path), FakeClock()
    state, other = (
        RedisState(server.url, namespace=namespace, monotonic=clock, timeout_s=PATIENCE_S, recount_s=0) for _ in "ab"
    )
    state.reserve([hold(2, limit=20), hold(1, meter="n")], lease_s=600)
    state.settle(state.reserve([hold(4, limit=20)], lease_s=600), [3])
    other.reserve([hold(7, limit=20)], lease_s=600)
    server.kill()
    for each in (state, other):
        with pytest.raises(StateError, match="Redis"):
            each.reserve([hold(4)], lease_s=600)
    server.start()
    clock.advance(1)
    with pytest.raises(StateError, match="appendonly"):
        state.reserve([hold(4, limit=20)], lease_s=600)
    other.look()
    other.look()
    again = [type(state.reserve([hold(amount, limit=20)], lease_s=600)) for amount in (9, 8)]
    used = other.used("m", 60), other.used("n", 60)
    state.close()
    other.close()
    server.kill()

    assert ([Denied, Grant], (20, 1)) == (again, used)


def test_T9_nothing_is_granted_until_all_processes_have_told_again(tmp_path: Path, namespace: str):
    """For three seconds after a server lost its memory, what one process does not know of another is not given out twice."""
    server, clock = RedisServer(tmp_path), FakeClock()
    state, other, newcomer = (
        RedisState(server.url, namespace=namespace, timeout_s=PATIENCE_S, clock=clock) for _ in "abc"
    )
    state.reserve([hold(4)], lease_s=600)
    other.reserve([hold(5)], lease_s=600)
    state._link.call(lambda client: client.flushall())
    state.look()
    for each in (state, newcomer):
        with pytest.raises(StateError, match="told again"):
            each.reserve([hold(1)], lease_s=600)
    other.look()
    clock.advance(3)
    found = [type(each.reserve([hold(1)], lease_s=600)) for each in (newcomer, state)]
    for each in (state, other, newcomer):
        each.close()
    server.kill()

    assert [Grant, Denied] == found


def test_T8_only_one_call_tries_a_server_that_was_down(tmp_path: Path, namespace: str):
    """While one call finds out, the others do not wait."""
    server, clock = RedisServer(tmp_path), FakeClock()
    server.stop()
    state = RedisState(server.url, namespace=namespace, monotonic=clock, timeout_s=0.05)
    with pytest.raises(StateError):
        state.used("m", 60)
    clock.advance(1)
    state._link.timeout_s, state._link._client = PATIENCE_S, None
    seen: list[int] = []
    probe = threading.Thread(target=lambda: seen.append(state.used("m", 60)))
    probe.start()
    while not state._link._probe.locked():
        probe.join(0.01)
    with pytest.raises(StateError, match="left alone"):
        state.used("m", 60)
    server.go_on()
    probe.join(PATIENCE_S)
    server.kill()

    assert [0] == seen


def test_no_tenant_is_readable_in_redis(redis_server: RedisServer, namespace: str):
    """Keys are hashes under one slot; a meter and a cached answer end by themselves."""
    state = RedisState(redis_server.url, namespace=namespace, timeout_s=PATIENCE_S)
    state.put("tenant-acme", "question", b"1", keep_s=60, tags=("tenant:acme",))
    state.reserve([hold(meter="tenant-acme")], lease_s=60)
    client = state._link._client
    keys = client.keys(f"{{{namespace}}}:*")
    lasting = [key for key in keys if client.ttl(key) < 0]
    state.close()

    assert 5 == len(keys)
    assert [f"{{{namespace}}}:{name}".encode() for name in ("memory", "open")] == sorted(lasting)
    assert not [key for key in keys if b"acme" in key or b"question" in key]


@pytest.mark.parametrize("address", ["", "sqlite:", "postgres://x", "/tmp/state", "redis://host:port/x"])
def test_an_address_that_is_no_state_is_refused(address: str):
    """The answer names what there is."""
    with pytest.raises(DataError, match="redis://host:port/db"):
        open_state(address)


def test_an_address_opens_its_state(tmp_path: Path, redis_server: RedisServer):
    """Memory, a file, a server: each serves."""
    for address in ("memory", f"sqlite:{tmp_path}/state.sqlite3", redis_server.url):
        state = open_state(address)
        if not isinstance(state, MemoryState):
            state._link.timeout_s = PATIENCE_S
        state.put("a", "k", b"1", keep_s=60)
        found = state.get("a", "k")
        state.close()
        assert b"1" == found.value
