"""What a service pays beside its answers: the kill switch, the events file, and reservations in a shared state.

CPU time of this process, product and reference alternating in one run; Redis is a real server on this machine, and its own CPU is not counted.
"""

import json
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks.measure import Figure
from promptops.runtime.base import Reply, Request, Step
from promptops.runtime.flags import set_kill
from promptops.runtime.state import Grant, Hold
from promptops.runtime.state.redis import RedisState
from promptops.runtime.state.sqlite import SqliteState
from promptops.runtime.switch import FlagFile, Switch
from promptops.runtime.telemetry import EventsFile

_PATIENCE_S = 60.0


def service(folder: Path) -> Iterator[Figure]:
    """Microseconds of CPU a request for each of them, and what 100,000 failing requests leave in memory."""
    yield from _switch(folder)
    yield from _events(folder)
    yield from _reservations(folder)
    yield from _growth(folder)


def _switch(folder: Path) -> Iterator[Figure]:
    """One check against a file with 100 prompts and ten tenants each, against a look into a dict."""
    raw: bytes | None = None
    for prompt in range(100):
        for tenant in range(10):
            raw = set_kill(raw, f"prompt-{prompt}", tenant=f"tenant-{tenant}")
    (folder / "flags.json").write_bytes(raw or b"")
    switch = Switch(FlagFile(folder / "flags.json"), environ={})
    known = {f"prompt-{prompt}": "" for prompt in range(100)}
    product = lambda: switch.blocked(prompt="prompt-50", tenant="tenant-99", feature="")  # noqa: E731
    found, bare = _in_turn(20_000, product, lambda: known.get("prompt-50"))
    switch.close()
    yield Figure(what="kill switch, 1,000 rules", unit="CPU us", value=found, reference=bare, target=10)


def _events(folder: Path) -> Iterator[Figure]:
    """A reply told and written, threads included, against `json.dumps` and a buffered file."""
    request = Request(id="r", prompt="triage", inputs={"ticket": "x" * 200}, tenant="acme")
    steps = tuple(
        Step(stage, "passed", "", 0.01) for stage in ("cache", "budget", "route", "render", "model", "guardrails")
    )
    reply = Reply(text="y" * 200, source="model", prompt="triage", version="v1.0.0", request_id="r", steps=steps)
    events = EventsFile(folder / "events.jsonl")
    with (folder / "plain.jsonl").open("w") as plain:

        def write() -> None:
            told = {
                "id": reply.request_id,
                "source": reply.source,
                "steps": [[step.stage, step.decision, step.at_s] for step in steps],
            }
            plain.write(json.dumps(told) + "\n")

        found, bare = _in_turn(5_000, lambda: events.replied(request, reply), write, after=events.flush)
    events.close()
    yield Figure(what="event of a reply, written", unit="CPU us", value=found, reference=bare, target=100)


def _reservations(folder: Path) -> Iterator[Figure]:
    """Reserve and settle on two meters, against two bare writes to the same store."""
    holds = [Hold(meter=name, amount=3, limit=10**12, window_s=86_400) for name in ("tenant", "feature")]

    def both(state: SqliteState | RedisState) -> Callable[[], None]:
        def run() -> None:
            grant = state.reserve(holds, lease_s=60)
            assert isinstance(grant, Grant)
            state.settle(grant, [2, 2])

        return run

    sqlite_state = SqliteState(folder / "state.sqlite3", timeout_s=_PATIENCE_S)
    bare = sqlite3.connect(folder / "bare.sqlite3", isolation_level=None)
    bare.executescript(
        "pragma journal_mode = wal; pragma synchronous = normal; create table t (k text primary key, n integer);"
    )

    def two_rows() -> None:
        for _ in range(2):
            bare.execute("begin immediate")
            bare.execute("insert into t values ('k', 1) on conflict do update set n = n + 1")
            bare.execute("commit")

    found, reference = _in_turn(500, both(sqlite_state), two_rows)
    sqlite_state.close()
    bare.close()
    yield Figure(what="reserve and settle, SQLite", unit="CPU us", value=found, reference=reference, target=1000)
    if shutil.which("redis-server") is None:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)], stdout=subprocess.DEVNULL
    )
    try:
        state = RedisState(f"redis://127.0.0.1:{port}/0", timeout_s=_PATIENCE_S)
        client = _connected(state)
        found, reference = _in_turn(500, both(state), lambda: (client.incr("k"), client.incr("k")))
        state.close()
    finally:
        server.kill()
        server.wait()
    yield Figure(what="reserve and settle, Redis", unit="CPU us", value=found, reference=reference, target=1000)


def _connected(state: RedisState) -> object:
    import redis

    deadline = time.monotonic() + _PATIENCE_S
    client = redis.Redis.from_url(state._link.url)  # noqa: SLF001
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return client


def _growth(folder: Path) -> Iterator[Figure]:
    """Resident memory after 100,000 failing requests of ever new tenants, beyond that after the first 10,000."""
    from prometheus_client import CollectorRegistry

    from promptops.runtime.telemetry.prometheus import PrometheusObserver

    observers = [
        EventsFile(folder / "failures.jsonl", max_bytes=2**20),
        PrometheusObserver(CollectorRegistry(), tenants=100),
    ]
    before = 1
    for number in range(100_000):
        request = Request(id=str(number), prompt="triage", inputs={}, tenant=f"tenant-{number}")
        steps = (Step("model", "timeout", f"small: {number}", 0.1), Step("fallback", "text", str(number), 0.1))
        reply = Reply(
            text="",
            source="text",
            prompt="triage",
            version="v1",
            request_id=str(number),
            degraded=str(number),
            steps=steps,
        )
        for observer in observers:
            observer.replied(request, reply)
        if number % 1000 == 0:
            observers[0].flush()
        if number == 10_000:
            before = _resident_pages()
    grown = _resident_pages() - before
    observers[0].close()
    yield Figure(what="memory after 100,000 failing requests, over 10,000", unit="% of memory", value=100 * grown / before, reference=0, target=10)  # fmt: skip


def _resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def _in_turn(
    times: int, product: Callable[[], object], bare: Callable[[], object], after: Callable[[], None] = lambda: None
) -> tuple[float, float]:
    """Medians of nine alternating rounds, in microseconds of CPU a call."""
    rounds: tuple[list[float], list[float]] = ([], [])
    for _ in range(9):
        for found, work, rest in zip(rounds, (product, bare), (after, lambda: None), strict=True):
            begun = time.process_time()
            for _ in range(times):
                work()
            rest()
            found.append((time.process_time() - begun) / times * 1e6)
    return median(rounds[0]), median(rounds[1])


SERVICE = {"service": service}
