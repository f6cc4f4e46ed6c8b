"""The runtime with everything a service attaches: shared state, switch, queue, events; over forks, hangs and losses."""

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from promptops.runtime import Reply, Runtime
from promptops.runtime.flags import set_kill
from promptops.runtime.queue.sqlite import SqliteQueue
from promptops.runtime.state import State
from promptops.runtime.state.redis import RedisState
from promptops.runtime.state.sqlite import SqliteState
from promptops.runtime.switch import FlagFile, Switch
from promptops.runtime.telemetry import EventsFile, read_events
from promptops.runtime.testing import HandSwitch, Heard
from runtime.bundles import NAME, Scripted, make_bundle
from runtime.redis_server import RedisServer
from runtime.spender import PATIENCE_S

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
TEN = {"budgets": [{"name": "day", "window_s": 86400, "per": ["tenant"], "requests": 10}], "state_timeout_s": 5, "deadline_s": PATIENCE_S,
       "timeout": {"max_s": PATIENCE_S}}  # fmt: skip


@pytest.fixture(params=["sqlite", "redis"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    if request.param == "redis":
        return RedisState(
            request.getfixturevalue("redis_server").url,
            namespace=request.getfixturevalue("namespace"),
            timeout_s=PATIENCE_S,
        )
    return SqliteState(tmp_path / "state.sqlite3", timeout_s=PATIENCE_S)


def opened(bundle: Path, state: State, model: Any = None, **options: Any) -> Runtime:
    model = model or Scripted()
    return Runtime.load(bundle, allow_unsigned=True, clients={"small": model, "large": model}, state=state, switch=options.pop("switch", HandSwitch()), **options)  # fmt: skip


def asked(runtime: Runtime, number: int, tenant: str = "acme") -> Reply:
    return runtime.complete(NAME, {"feedback": f"question {number}"}, tenant=tenant)


def test_T9_a_budget_is_one_for_sync_and_async_callers_at_once(state: State, tmp_path: Path):
    """Threads and coroutines ask 40 different questions at once against a budget of 10: exactly 10 model calls, 30 told why not."""
    model = Scripted()
    runtime = opened(make_bundle(tmp_path, TEN), state, model)
    replies: list[Reply] = []

    async def coroutines() -> None:
        replies.extend(
            await asyncio.gather(
                *(runtime.acomplete(NAME, {"feedback": f"async {number}"}, tenant="acme") for number in range(20))
            )
        )
        await runtime._serving.models.close()

    threads = [threading.Thread(target=lambda n=number: replies.append(asked(runtime, n))) for number in range(20)]
    threads.append(threading.Thread(target=lambda: asyncio.run(coroutines())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    reserved = state.reserved()
    runtime.close()

    assert (40, 10, 0) == (len(replies), model.calls, reserved)
    assert 30 == sum(bool(reply.degraded) for reply in replies)


def test_T1_what_one_tenant_was_answered_no_other_gets(state: State, tmp_path: Path):
    """The same question of look-alike tenants: each pays its own call, and each then hits its own entry."""
    model = Scripted()
    runtime = opened(make_bundle(tmp_path, {"state_timeout_s": 5}), state, model)
    tenants = ["acme", "Acme", "acme ", "ac:me", "acme|x", "é", "e\u0301"]
    first = [asked(runtime, 1, tenant).source for tenant in tenants]
    runtime._shared.workers.pool.shutdown(wait=True)  # answers are kept in the background
    runtime._shared.workers._pool = None
    second = [asked(runtime, 1, tenant).source for tenant in tenants]
    runtime.close()

    assert (["model"] * 7, ["cache"] * 7, 7) == (first, second, model.calls)


def test_T35_a_forked_worker_has_a_service_of_its_own(state: State, tmp_path: Path):
    """A server loads, then forks: parent and child answer, share the budget, write one events file, and follow the kill switch."""
    flags, events = tmp_path / "flags.json", tmp_path / "events.jsonl"
    FlagFile(flags).change(lambda raw: set_kill(raw, "", off=True))
    switch, observer = Switch(FlagFile(flags), environ={}, poll_s=0.05), EventsFile(events)
    runtime = opened(make_bundle(tmp_path, TEN), state, switch=switch, observers=[observer])
    before = asked(runtime, 0).source
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            sources = [reply.degraded or reply.source for reply in (asked(runtime, number) for number in range(1, 5))]
            FlagFile(flags).change(lambda raw: set_kill(raw, NAME))
            number = 100
            while "switched off" not in asked(runtime, number, "another").degraded and number < 20_000:
                number += 1
            observer.flush()
            os.write(tell, json.dumps(sources).encode())
            code = 0 if number < 20_000 else 3
        finally:
            os._exit(code)
    sources = json.loads(os.read(told, 1000))
    _, status = os.waitpid(child, 0)
    os.close(told)
    os.close(tell)
    FlagFile(flags).change(lambda raw: set_kill(raw, NAME, off=True))
    number = 200
    while "switched off" in asked(runtime, number, "third").degraded and number < 20_000:
        number += 1
    after = [asked(runtime, number).source for number in range(5, 11)]
    runtime.close()
    switch.close()
    observer.close()
    replies = [event for event in read_events(events) if event["kind"] == "reply"]
    of_acme = [event for event in replies if event["tenant"] == replies[0]["tenant"]]

    assert (0, "model", ["model"] * 4) == (os.waitstatus_to_exitcode(status), before, sources)
    assert ["model"] * 5 == after[:5]
    assert "model" != after[5]
    assert 11 == len(of_acme)


def test_T8_a_hung_redis_neither_stops_nor_unlocks_spending(tmp_path: Path, namespace: str):
    """While the server answers nothing: a tenth of the budget is spent by this process, then requests are told why; after it, all goes on."""
    server, heard, model = RedisServer(tmp_path), Heard(), Scripted()
    state = RedisState(server.url, namespace=namespace)
    settings = TEN | {
        "state_timeout_s": 0.05,
        "budgets": [{"name": "day", "window_s": 86400, "per": ["tenant"], "requests": 30}],
    }
    runtime = opened(make_bundle(tmp_path, settings), state, model, observers=[heard])
    server.stop()
    replies = [asked(runtime, number) for number in range(20)]
    calls = model.calls
    server.go_on()
    server.kill()
    runtime.close()

    assert (20, 3) == (len(replies), calls)
    assert ["model"] * 3 == [reply.source for reply in replies if not reply.degraded]
    assert "state_failed" in {event for event, _ in heard.notices}


def test_T23_what_cannot_be_queued_goes_on_down_the_ladder(tmp_path: Path):
    """A full queue is a step that failed, not a promise; the fixed text answers, and nothing says `queued`."""
    settings = {"fallback": [{"step": "queue"}, {"step": "text", "text": "Please try again later."}]}
    queue = SqliteQueue(tmp_path / "queue.sqlite3", max_jobs=1, timeout_s=PATIENCE_S)
    runtime = opened(
        make_bundle(tmp_path, settings),
        SqliteState(tmp_path / "state"),
        queue=queue,
        switch=HandSwitch(everything=True),
    )
    first, second = asked(runtime, 1), asked(runtime, 2)
    counts = queue.counts()
    runtime.close()
    queue.close()

    assert ("queue", "text", "", 1) == (first.source, second.source, second.queued_id, counts.waiting)
    assert ("Please try again later.", True) == (second.text, bool(first.queued_id))


def test_the_same_request_id_of_two_tenants_is_two_jobs(tmp_path: Path):
    """Ids are the caller's: one tenant's do not push out another's."""
    queue = SqliteQueue(tmp_path / "queue.sqlite3", timeout_s=PATIENCE_S)
    runtime = opened(
        make_bundle(tmp_path, {"fallback": [{"step": "queue"}]}),
        SqliteState(tmp_path / "state"),
        queue=queue,
        switch=HandSwitch(everything=True),
    )
    ids = {
        runtime.complete(NAME, {"feedback": "x"}, tenant=tenant, request_id="r1").queued_id
        for tenant in ("acme", "globex", "acme")
    }
    runtime.close()
    queue.close()

    assert 2 == len(ids)
