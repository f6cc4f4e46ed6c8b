"""The kill switch: effective in every process, and safe while its flags are broken, missing or slow."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from promptops.core.errors import DataError
from promptops.runtime.flags import set_kill
from promptops.runtime.redis_flags import RedisFlags
from promptops.runtime.switch import FlagFile, Switch, open_flags
from runtime.redis_server import RedisServer

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
OPEN = set_kill(None, "", off=True)
KILLED = set_kill(None, "triage")
PATIENCE_S = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    path.write_bytes(OPEN)
    return path


@pytest.fixture
def alarms() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def switch(flags: Path, alarms: list[str], clock: Clock):
    """A switch that looks only when a test says so."""
    made = Switch(FlagFile(flags), environ={}, alarm=alarms.append, clock=clock, poll_s=0.5)
    made._watched = False
    yield made
    made.close()


def blocked(switch: Switch, prompt: str = "triage", tenant: str = "acme") -> str:
    return switch.blocked(prompt=prompt, tenant=tenant, feature="")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_T30_a_kill_is_seen_without_being_told(flags: Path):
    """The watcher sees a changed file by itself, and its return."""
    switch = Switch(FlagFile(flags), environ={}, poll_s=0.05)
    before = blocked(switch)
    FlagFile(flags).change(lambda raw: set_kill(raw, "triage"))
    killed = eventually(lambda: bool(blocked(switch)))
    FlagFile(flags).change(lambda raw: set_kill(raw, "triage", off=True))
    back = eventually(lambda: not blocked(switch))
    switch.close()

    assert ("", True, True) == (before, killed, back)


def test_T30_the_watcher_looks_often_enough():
    """Two looks and a slow read fit into the second that is promised."""
    with pytest.raises(ValueError, match=r"at most 0\.5"):
        Switch(None, environ={}, poll_s=0.6)


@pytest.mark.parametrize(
    "broken", [KILLED[:-9], b"", OPEN.replace(b"false", b'"false"'), b"\xff\xfe", None], ids=range(5)
)
@pytest.mark.parametrize(("last", "reason"), [(OPEN, ""), (KILLED, "flag promptops.kill.triage is on")])
def test_T30_broken_flags_keep_the_last_state_and_alarm(
    switch: Switch, flags: Path, alarms: list[str], last: bytes, reason: str, broken: bytes | None
):
    """Half-written, empty, mistyped or removed: neither on nor off changes, and somebody hears of it."""
    flags.write_bytes(last)
    switch.look()
    flags.unlink() if broken is None else flags.write_bytes(broken)
    switch.look()

    assert (reason, 1, True) == (blocked(switch), len(alarms), "the last state stays" in alarms[0])


def test_T30_flags_that_were_never_read_let_nothing_run(tmp_path: Path, alarms: list[str]):
    """Missing at start is fail closed; the first good read opens."""
    path = tmp_path / "flags.json"
    switch = Switch(FlagFile(path), environ={}, alarm=alarms.append)
    closed = blocked(switch)
    path.write_bytes(OPEN)
    switch.look()
    opened = blocked(switch)
    switch.close()

    assert (f"flags in {path} were never read (No such file or directory)", "") == (closed, opened)
    assert 1 == len(alarms)


def test_T30_repaired_flags_are_followed_again(switch: Switch, flags: Path, alarms: list[str]):
    """After a broken write comes a whole one: it counts at the next look."""
    flags.write_bytes(KILLED[:-9])
    switch.look()
    problem = switch.problem
    flags.write_bytes(KILLED)
    switch.look()

    assert ("flag promptops.kill.triage is on", "") == (blocked(switch), switch.problem)
    assert "not JSON" in problem


def test_an_alarm_is_repeated_each_minute_not_each_look(switch: Switch, flags: Path, alarms: list[str], clock: Clock):
    """Four looks a second must not fill a log."""
    flags.unlink()
    counts = []
    for step_s in (0, 1, 30, 30, 1, 60):
        clock.now += step_s
        switch.look()
        counts.append(len(alarms))

    assert [1, 1, 1, 2, 2, 3] == counts


def test_T30_a_store_that_hangs_leaves_the_last_state_and_alarms(alarms: list[str], clock: Clock):
    """A look that never ends blocks the watcher, not a request."""
    hang, hanging = threading.Event(), threading.Event()

    class Store:
        looks = 0

        def __str__(self) -> str:
            return "slow storage"

        def read(self) -> bytes:
            self.looks += 1
            if self.looks > 1:
                hanging.set()
                hang.wait(PATIENCE_S)
            return KILLED

    switch = Switch(Store(), environ={}, alarm=alarms.append, clock=clock, poll_s=0.01)
    first = blocked(switch)
    assert hanging.wait(PATIENCE_S)
    clock.now += 6
    later = blocked(switch), blocked(switch, "invoice")
    hang.set()
    switch.close()

    killed = "flag promptops.kill.triage is on"
    assert (killed, (killed, "")) == (first, later)
    assert ["flags in slow storage have not been looked at for 5 s; the last state stays"] == alarms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [False, False, False]),
        ("false", [False, False, False]),
        ("0", [False, False, False]),
        ("all", [True, True, True]),
        ("TRUE", [True, True, True]),
        ("triage", [True, True, False]),
        (" triage@acme , invoice ", [True, False, True]),
    ],
)
def test_T30_the_environment_switches_off_by_name(text: str, expected: list[bool]):
    """The text `false` is not a truth; names and name@tenant are."""
    switch = Switch(None, environ={"PROMPTOPS_KILL": text})

    assert expected == [
        bool(blocked(switch, *pair)) for pair in (("triage", "acme"), ("triage", "globex"), ("invoice", "x"))
    ]


@pytest.mark.parametrize("text", ["triage,", "Triage", "triage@", "nope!", "triage;invoice"])
def test_T30_a_typing_error_in_the_environment_stops_the_start(text: str):
    """A service that cannot tell what is off does not come up as if all were on."""
    with pytest.raises(DataError, match=r"PROMPTOPS_KILL: .*is not a prompt"):
        Switch(None, environ={"PROMPTOPS_KILL": text})


def _follow(path: str, ready: object, killed: object) -> None:
    switch = Switch(FlagFile(Path(path)), environ={}, poll_s=0.05)
    if not blocked(switch):
        ready.release()  # type: ignore[attr-defined]
    if eventually(lambda: bool(blocked(switch))):
        killed.release()  # type: ignore[attr-defined]


def test_T30_every_process_follows(flags: Path):
    """Processes share nothing but the file."""
    context = multiprocessing.get_context("spawn")
    ready, killed = context.Semaphore(0), context.Semaphore(0)
    processes = [context.Process(target=_follow, args=(str(flags), ready, killed)) for _ in range(3)]
    for process in processes:
        process.start()
    running = [ready.acquire(timeout=PATIENCE_S) for _ in processes]
    FlagFile(flags).change(lambda raw: set_kill(raw, "triage"))
    stopped = [killed.acquire(timeout=PATIENCE_S) for _ in processes]
    for process in processes:
        process.join(PATIENCE_S)

    assert ([True] * 3, [True] * 3) == (running, stopped)


def test_T35_a_forked_child_watches_for_itself(flags: Path):
    """Threads do not survive a fork; the child's first request starts its own watcher."""
    switch = Switch(FlagFile(flags), environ={}, poll_s=0.05)
    blocked(switch)  # the parent's watcher runs
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            before = blocked(switch)
            os.write(tell, b"x")
            code = 0 if not before and eventually(lambda: bool(blocked(switch))) else 2
        finally:
            os._exit(code)
    os.read(told, 1)
    FlagFile(flags).change(lambda raw: set_kill(raw, "triage"))
    _, status = os.waitpid(child, 0)
    switch.close()
    os.close(told)
    os.close(tell)

    assert 0 == os.waitstatus_to_exitcode(status)


def test_T30_flags_in_redis_reach_every_host(redis_server: RedisServer, namespace: str):
    """One document for all: written by a command, followed by switches that share nothing but the server."""
    flags = RedisFlags(redis_server.url, namespace=namespace, timeout_s=PATIENCE_S)
    closed = Switch(flags, environ={}, alarm=lambda _: None)
    why = closed.problem
    flags.change(lambda raw: set_kill(raw, "", off=True))
    switches = [
        Switch(RedisFlags(redis_server.url, namespace=namespace, timeout_s=PATIENCE_S), environ={}, poll_s=0.05)
        for _ in range(2)
    ]
    before = [blocked(switch) for switch in switches]
    flags.change(lambda raw: set_kill(raw, "triage"))
    killed = [eventually(lambda switch=switch: bool(blocked(switch))) for switch in switches]
    for switch in (closed, *switches):
        switch.close()

    assert ("no flags are there", ["", ""], [True, True]) == (why, before, killed)


def test_T30_a_redis_that_hangs_leaves_the_last_state(tmp_path: Path, namespace: str, alarms: list[str]):
    """The watcher waits, requests do not; a password is in no message."""
    server = RedisServer(tmp_path)
    url = server.url.replace("//", "//:secret@")
    patient = RedisFlags(url, namespace=namespace, timeout_s=PATIENCE_S)
    patient.change(lambda raw: set_kill(raw, "triage"))
    switch = Switch(patient, environ={}, alarm=alarms.append)
    switch._watched = False
    server.stop()
    switch._store = RedisFlags(url, namespace=namespace, timeout_s=0.05)
    switch.look()
    hung = blocked(switch), blocked(switch, "invoice")
    server.go_on()
    server.kill()

    assert ("flag promptops.kill.triage is on", "") == hung
    assert [1, False] == [len(alarms), "secret" in alarms[0]]


def test_flags_at_an_address_that_nobody_follows_are_refused():
    """A typing error in the scheme would be a file that no service reads."""
    with pytest.raises(DataError, match="no place for flags"):
        open_flags("reddis://h:1/0")


def test_two_editors_of_flags_in_redis_do_not_undo_each_other(redis_server: RedisServer, namespace: str):
    """An edit that came between is edited, not overwritten."""
    flags = RedisFlags(redis_server.url, namespace=namespace, timeout_s=PATIENCE_S)
    other = iter([lambda raw: set_kill(raw, "invoice")])

    def edit(raw: bytes | None) -> bytes:
        for between in other:
            flags.change(between)
        return set_kill(raw, "triage")

    flags.change(edit)

    assert {"promptops.kill.invoice", "promptops.kill.triage"} == json.loads(flags.read())["flags"].keys()


def test_a_change_is_whole_or_not_there(flags: Path):
    """An edit that fails leaves the file and its mode, and no other file."""
    flags.chmod(0o640)
    FlagFile(flags).change(lambda raw: set_kill(raw, "triage"))
    with pytest.raises(ZeroDivisionError):
        FlagFile(flags).change(lambda _: b"%d" % (1 // 0))

    assert 0o640 == flags.stat().st_mode & 0o777
    assert "promptops.kill.triage" in json.loads(flags.read_bytes())["flags"]
    assert {"flags.json", ".flags.json.lock"} >= {path.name for path in flags.parent.iterdir()}


def test_T30_openfeature_decides_per_tenant_and_its_failure_changes_nothing():
    """Asked once in the way of a request, then from the watcher; an error keeps the last answer, or stays closed."""
    from openfeature import api
    from openfeature.exception import GeneralError
    from openfeature.flag_evaluation import FlagResolutionDetails
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    from promptops.runtime.openfeature import OpenFeatureKills

    state = {"off": {"acme"}, "down": False}

    def by_tenant(flag: object, context: object) -> FlagResolutionDetails[bool]:
        if state["down"]:
            raise GeneralError("provider is down")
        return FlagResolutionDetails(context.attributes["tenant"] in state["off"])  # type: ignore[attr-defined]

    provider = InMemoryProvider(
        {"promptops.kill.triage": InMemoryFlag("off", {"on": True, "off": False}, context_evaluator=by_tenant)}
    )
    api.set_provider(provider, "switch-test")
    kills = OpenFeatureKills(api.get_client("switch-test"))
    switch = Switch(None, environ={}, judges=(kills,))
    switch._watched = False
    tenants = ("acme", "globex")
    first = [bool(blocked(switch, "triage", tenant)) for tenant in tenants]
    state["off"] = {"globex"}
    unasked = [bool(blocked(switch, "triage", tenant)) for tenant in tenants]
    switch.look()
    moved = [bool(blocked(switch, "triage", tenant)) for tenant in tenants]
    state["down"] = True
    switch.look()
    down = [bool(blocked(switch, "triage", tenant)) for tenant in (*tenants, "new")]
    api.clear_providers()

    assert ([True, False], [True, False], [False, True], [False, True, True]) == (first, unasked, moved, down)


def test_the_environment_names_the_flags_file(flags: Path):
    """A service that sets nothing but PROMPTOPS_FLAGS can be switched off."""
    flags.write_bytes(KILLED)
    switch = Switch(environ={"PROMPTOPS_FLAGS": str(flags)})
    found = [bool(blocked(switch, prompt)) for prompt in ("triage", "invoice")]
    switch.close()

    assert [True, False] == found


def test_openfeature_answers_are_bounded_and_only_used_ones_are_asked_again():
    """The watcher's work grows with what is used, not with how many tenants there ever were."""
    from openfeature import api
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    from promptops.runtime.openfeature import MAX_PAIRS, OpenFeatureKills

    api.set_provider(
        InMemoryProvider({"promptops.kill": InMemoryFlag("off", {"on": True, "off": False})}), "bounds-test"
    )
    client = api.get_client("bounds-test")
    asked: list[str] = []
    evaluate = client.get_boolean_details
    client.get_boolean_details = lambda key, *rest: asked.append(key) or evaluate(key, *rest)
    kills = OpenFeatureKills(client)
    kills._reasons = {("old", str(number)): "" for number in range(MAX_PAIRS)}
    kills.reason("triage", "acme")
    kept = len(kills._reasons)
    kills.refresh()
    once = len(asked)
    kills.reason("triage", "acme")
    memory = len(asked)
    kills.refresh()
    kills.refresh()
    later = len(asked)
    api.clear_providers()

    assert (MAX_PAIRS, 4, 4, 6) == (kept, once, memory, later)
