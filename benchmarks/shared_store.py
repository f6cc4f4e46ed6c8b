"""The shared run store on a real PostgreSQL that waits for its disk: many writers, and what kill -9 loses."""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.corpus import NAME, make_project
from benchmarks.measure import REPOSITORY, Figure, start
from benchmarks.model_runs import EVAL, calls_of, point_to, provider
from benchmarks.store_writers import RUN
from promptops.project.store import RunHeader, StoreAddress, open_store

if TYPE_CHECKING:
    from support.postgresql import PostgresServer

_WRITERS, _PROCESSES = 200, 4
_CASES, _IN_FLIGHT, _ROUNDS = 300, 6, 10


def writers(_: Path) -> Iterator[Figure]:
    """200 writers with a connection each write into one run; wall clock and CPU of the clients for each result."""
    with _server(max_connections="240", shared_buffers="128MB") as server:
        for batch, rounds in ((4, 25), (1, 50)):
            product, product_cpu = _write(server, "product", batch, rounds)
            bare, bare_cpu = _write(server, "bare", batch, rounds)
            many = f"{batch} call{'s' if batch > 1 else ''} at once"
            yield Figure(
                what=f"a result, {_WRITERS} writers, {many}",
                unit="wall ms",
                value=product * 1e3,
                reference=bare * 1e3,
                target=0.5,
            )
            yield Figure(
                what=f"CPU of the client for it, {many}",
                unit="CPU ms",
                value=product_cpu * 1e3,
                reference=bare_cpu * 1e3,
                target=0.5,
                max_ratio=1.5,
            )


def _write(server: "PostgresServer", kind: str, batch: int, rounds: int) -> tuple[float, float]:
    """(wall, CPU) seconds for each result, from the moment all are connected."""
    url = server.url(server.new_database())
    with closing(open_store(StoreAddress(root=Path(tempfile.mkdtemp()), url=url))) as store:
        store.begin_run(_header())
    each = _WRITERS // _PROCESSES
    command = [sys.executable, "-m", "benchmarks.store_writers", kind, url]
    children = [
        subprocess.Popen(
            [*command, str(number), str(each), str(rounds), str(batch)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(_PROCESSES)
    ]
    for child in children:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise RuntimeError("a writer did not start")
    began = time.monotonic()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    cpu_s = sum(float(child.communicate()[0]) for child in children)
    wall_s = time.monotonic() - began
    count = _WRITERS * rounds * batch
    with closing(open_store(StoreAddress(root=Path(tempfile.mkdtemp()), url=url))) as store:
        found = (store.count_results(RUN), store.ledger(RUN).attempts, store.ledger(RUN).paid_nanousd)
    if found != ((count, count), count, count * 70_000):
        raise RuntimeError(f"{count} results were written, found {found}")
    return wall_s / count, cpu_s / count


def shared_kills(folder: Path) -> Iterator[Figure]:
    """Ten runs of 300 cases with 6 in flight: the client, or PostgreSQL, is killed with -9 at a random call of each."""
    rng = random.Random(12)
    lost = repeated = off = 0
    root = make_project(folder / "project", _CASES)
    with _server() as server, provider(folder, 0.02) as port:
        for number in range(_ROUNDS):
            point_to(root, port, "http")
            toml = root / "promptops.toml"
            toml.write_text(
                f'store = "{server.url(server.new_database())}?patience_s={1 if number % 3 == 2 else 60}"\n'
                + toml.read_text()
            )
            before = calls_of(port)
            _one_round(server, root, port, kind=number % 3, at=before + rng.randint(10, _CASES - 50))
            shown = _json("runs", "show", "latest", root=root)
            lost += _CASES - shown["total"]["n"]
            repeated += calls_of(port) - before - _CASES
            off += shown["paid_nanousd"] != _CASES * (120 * 150 + 12 * 600) or shown["state"] != "complete"
    yield Figure(what=f"results lost, {_ROUNDS} runs killed", unit="results", value=lost, reference=0, target=0)
    yield Figure(
        what="calls repeated; reference: were in flight",
        unit="calls",
        value=repeated,
        reference=_ROUNDS * _IN_FLIGHT,
        target=_ROUNDS * _IN_FLIGHT,
    )
    yield Figure(what="runs whose total is not what the calls cost", unit="runs", value=off, reference=0, target=0)


def _one_round(server: "PostgresServer", root: Path, port: int, *, kind: int, at: int) -> None:
    """Kind 0 kills the evaluation, 1 restarts the server at once, 2 keeps it away until the evaluation has ended."""
    child = start((*EVAL[:7], "--concurrency", str(_IN_FLIGHT), "--json"), root)
    while calls_of(port) < at and child.poll() is None:
        time.sleep(0.002)
    if child.poll() is not None:
        raise RuntimeError("the run ended before it could be killed")
    if kind == 0:
        child.send_signal(signal.SIGKILL)
    else:
        server.kill()
        if kind == 1:
            server.start()
    code = child.wait()
    if kind == 2:
        server.start()
    if code != {0: -signal.SIGKILL, 1: 0, 2: 3}[kind]:
        raise RuntimeError(f"the evaluation ended with {code}")
    if kind != 1:
        start((*EVAL[:4], "--resume", "--concurrency", str(_IN_FLIGHT), "--json"), root).wait()


def _json(*arguments: str, root: Path) -> Any:
    return json.loads(
        subprocess.run([*EVAL[:3], *arguments, "--json"], cwd=root, check=True, capture_output=True).stdout
    )


@contextmanager
def _server(**settings: str) -> Iterator["PostgresServer"]:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from support.postgresql import PostgresServer

    server = PostgresServer(durable=True, **settings)
    try:
        yield server
    finally:
        server.remove()


def _header() -> RunHeader:
    return RunHeader(id=RUN, prompt=NAME, candidate="", model="fixed", model_identity={}, prompt_digest="", golden_digest="", suite_digest="",
                     rubric_digest="", subject="", gate={}, selection={}, slices=(), repeat=1, commit="", dirty=False,
                     started_at="2026-01-01T00:00:00+00:00", planned=0, version="1")  # fmt: skip


SHARED_STORE: Mapping[str, Callable[[Path], Iterator[Figure]]] = {"writers": writers, "shared_kills": shared_kills}
