"""Runs against a model on a local server: CPU, wall clock, memory, resuming, and what kill -9 repeats.

Each figure stands beside a bare loop that makes the same calls with 64 in flight and keeps nothing. "Without the start"
leaves out what a run of one case costs.
"""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.corpus import CASES, NAME, make_project
from benchmarks.measure import REPOSITORY, Cost, Figure, cost_of, middle, start

PYTHON = sys.executable
EVAL = (PYTHON, "-m", "promptops", "eval", NAME, "--model", "fixed", "--concurrency", "64", "--json")
_KILLS, _KILLED_CASES, _KILLED_IN_FLIGHT = 15, 600, 6


def calls(folder: Path) -> Iterator[Figure]:
    """CPU a case over HTTP, 1,000 and 10,000 cases, no latency."""
    root = make_project(folder / "project", 10_000)
    with provider(folder, 0) as port:
        point_to(root, port, "http")
        begin = middle([_evaluate(root, 1) for _ in range(3)]).cpu_s
        for count in (1_000, 10_000):
            product, bare = (
                middle([_evaluate(root, count) for _ in range(3)]).cpu_s,
                _bare("aiohttp", root, port, count),
            )
            yield Figure(what=f"CPU a case, {count:,} cases, without the start", unit="ms", value=(product - begin) / count * 1e3,
                         reference=bare.cpu_s / count * 1e3, target=10, max_ratio=2)  # fmt: skip
        yield Figure(what="CPU of the start (a run of one case)", unit="s", value=begin, reference=cost_of((PYTHON, "-c", "import aiohttp"), root).cpu_s, target=2)  # fmt: skip


def latency(folder: Path) -> Iterator[Figure]:
    """Wall clock of 1,000 cases when each answer takes 200 ms."""
    root = make_project(folder / "project", 1_000)
    with provider(folder, 0.2) as port:
        point_to(root, port, "http")
        product, bare = middle([_evaluate(root, 1_000) for _ in range(3)]), _bare("aiohttp", root, port, 1_000)
    yield Figure(what="wall at 200 ms latency, 1,000 cases, start included", unit="s", value=product.wall_s, reference=bare.wall_s, target=60, max_ratio=1.3)  # fmt: skip


def sdk(folder: Path) -> Iterator[Figure]:
    """CPU a case through the openai package."""
    root = make_project(folder / "project", 1_000)
    with provider(folder, 0) as port:
        point_to(root, port, "sdk")
        begin = middle([_evaluate(root, 1) for _ in range(3)]).cpu_s
        product = middle([_evaluate(root, 1_000) for _ in range(3)]).cpu_s
        bare_begin, bare = _bare("openai", root, port, 1).cpu_s, _bare("openai", root, port, 1_000).cpu_s
    yield Figure(what="CPU a case over the sdk, without the start", unit="ms", value=product - begin, reference=bare - bare_begin, target=20, max_ratio=1.3)  # fmt: skip


def growth(folder: Path) -> Iterator[Figure]:
    """Peak memory at 10,000 cases less that at 1,000, for each case between them."""
    root = make_project(folder / "project", 10_000)
    with provider(folder, 0) as port:
        point_to(root, port, "http")
        few, many = (middle([_evaluate(root, count) for _ in range(3)]).peak_bytes for count in (1_000, 10_000))
        bare = [_bare("aiohttp", root, port, count).peak_bytes for count in (1_000, 10_000)]
    yield Figure(what="memory of a further case, 1,000 to 10,000", unit="kB", value=(many - few) / 9e6, reference=(bare[1] - bare[0]) / 9e6, target=2)  # fmt: skip


def resume(folder: Path) -> Iterator[Figure]:
    """Resuming a finished run of 10,000 cases."""
    root = make_project(folder / "project", 10_000)
    with provider(folder, 0) as port:
        point_to(root, port, "http")
        _evaluate(root, 10_000)
        found = middle([cost_of((*EVAL[:4], "--resume", "--json"), root) for _ in range(3)])
        begin = middle([cost_of((*EVAL[:3], "--version"), root) for _ in range(3)])
    yield Figure(what="resume of a finished run, 10,000 cases", unit="CPU s", value=found.cpu_s, reference=begin.cpu_s, target=3)  # fmt: skip


def kills(folder: Path) -> Iterator[Figure]:
    """Calls repeated after 15 kill -9 in a run of 600 cases with 6 in flight; the reference is what could be in flight.

    Each kill falls within 0.6 s (five times a call) after the process made its first call, so none is wasted on a start.
    """
    root = make_project(folder / "project", _KILLED_CASES)
    rng = random.Random(7)
    arguments = (*EVAL[:6], "fixed", "--concurrency", str(_KILLED_IN_FLIGHT), "--json")
    with provider(folder, 0.12) as port:
        point_to(root, port, "http")
        done = 0
        while done < _KILLS:
            before = calls_of(port)
            child = start(
                arguments if done == 0 else (*EVAL[:4], "--resume", "--concurrency", str(_KILLED_IN_FLIGHT), "--json"),
                root,
            )
            while calls_of(port) == before and child.poll() is None:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.6))
            if child.poll() is not None:
                break
            child.send_signal(signal.SIGKILL)
            child.wait()
            done += 1
        cost_of((*EVAL[:4], "--resume", "--json"), root)
        count = calls_of(port)
    if done < _KILLS:
        raise RuntimeError(f"the run ended after {done} kills: make it longer")
    yield Figure(what=f"calls repeated, {_KILLED_CASES} cases, {_KILLS} kill -9", unit="calls", value=count - _KILLED_CASES,
                 reference=_KILLS * _KILLED_IN_FLIGHT, target=_KILLS * _KILLED_IN_FLIGHT)  # fmt: skip


MODEL_RUNS: Mapping[str, Callable[[Path], Iterator[Figure]]] = {
    "calls": calls, "latency": latency, "sdk": sdk, "growth": growth, "resume": resume, "kills": kills,
}  # fmt: skip


def calls_of(port: int) -> int:
    return int(urllib.request.urlopen(f"http://127.0.0.1:{port}/calls").read())


@contextlib.contextmanager
def provider(folder: Path, latency_s: float) -> Iterator[int]:
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    server = subprocess.Popen((PYTHON, "-m", "benchmarks.provider", str(latency_s), str(port_file)), cwd=REPOSITORY)
    try:
        while not port_file.exists() or not port_file.read_text():
            time.sleep(0.02)
        yield int(port_file.read_text())
    finally:
        server.kill()
        server.wait()


def point_to(root: Path, port: int, transport: str) -> None:
    (root / "promptops.toml").write_text(
        f'default_model = "fixed"\n[models.fixed]\nprovider = "openai"\ntransport = "{transport}"\nmodel = "fixed-2026-01-01"\n'
        f'base_url = "http://127.0.0.1:{port}/v1"\ninput_usd_per_mtok = "0.15"\noutput_usd_per_mtok = "0.60"\n'
    )


def _evaluate(root: Path, count: int) -> Cost:
    shutil.rmtree(root / ".promptops", ignore_errors=True)
    return cost_of((*EVAL, "--limit", str(count)), root)


def _bare(kind: str, root: Path, port: int, count: int) -> Cost:
    arguments = (
        PYTHON,
        "-m",
        "benchmarks.bare_calls",
        kind,
        f"http://127.0.0.1:{port}/v1",
        str(count),
        str(root / CASES),
    )
    return middle([cost_of(arguments, root) for _ in range(3)])
