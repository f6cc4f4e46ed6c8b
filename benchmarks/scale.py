"""Evaluation on Ray: CPU a case against the local executor, two processes against one, what kill -9 loses, the driver's memory.

Each command starts a Ray of its own. Its processes are children of the command, so their CPU is read from /proc while they live (every
0.1 s, so that the last tenth of each is missed). PROMPTOPS_BENCH_CASES makes the large ones smaller where there is no time.
"""

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.corpus import NAME, make_project
from benchmarks.measure import Figure, cost_of, start
from benchmarks.model_runs import EVAL, PYTHON, calls_of, point_to, provider
from promptops.project.store import open_store

RAY = ("--engine", "ray", "--workers")
_CASES = int(os.environ.get("PROMPTOPS_BENCH_CASES", "0"))
_KILLED_CASES, _KILLED_IN_FLIGHT, _ROUNDS = 400, 8, 10
_HEAVY = """promptops: 1
prompt: ticket-mood
cases: ticket-mood.jsonl
slices: [lang]
checks:
  - {check: json_schema}
  - {check: equals, path: /mood}
  - {check: regex, name: no-mail, pattern: "[a-z]+@[a-z]+", negate: true}
  - {check: length, unit: words, max: 400}
  - {check: similarity, expected: /mood, min: 0}
"""


@dataclass
class Watched:
    """A command with all its descendants: CPU of all of them, and the peak memory of the first."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    driver_peak_bytes: int = 0
    seen: dict[int, float] = field(default_factory=dict)

    def look(self, root: int) -> None:
        children: dict[int, list[int]] = {}
        ticks: dict[int, float] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
                ticks[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        found, queue = set(self.seen), [root]
        while queue:
            pid = queue.pop()
            found.add(pid)
            queue += children.get(pid, [])
        for pid in found & ticks.keys():
            self.seen[pid] = ticks[pid]
        with contextlib.suppress(OSError, StopIteration):
            line = next(
                text for text in Path(f"/proc/{root}/status").read_text().splitlines() if text.startswith("VmHWM")
            )
            self.driver_peak_bytes = max(self.driver_peak_bytes, int(line.split()[1]) * 1024)
        self.cpu_s = sum(self.seen.values())


def watch(arguments: Sequence[str], root: Path) -> Watched:
    """Run a command to its end. Raises RuntimeError for an exit code that is no verdict."""
    found, began = Watched(), time.monotonic()
    child = start(arguments, root)
    while child.poll() is None:
        found.look(child.pid)
        time.sleep(0.1)
    found.wall_s = time.monotonic() - began
    if child.returncode not in (0, 1):
        raise RuntimeError(child.stderr.read().decode() if child.stderr else "")
    return found


def _fresh(root: Path) -> None:
    shutil.rmtree(root / ".promptops", ignore_errors=True)


def ray_cases(folder: Path) -> Iterator[Figure]:
    """CPU a case of an evaluation over HTTP, two processes on Ray against the local executor, without the start of either."""
    many = _CASES or 100_000
    root = make_project(folder / "project", many)
    with provider(folder, 0) as port:
        point_to(root, port, "http")
        spent = {}
        for engine in ((), (*RAY, "2")):
            for count in (1, many):
                _fresh(root)
                spent[engine, count] = watch((*EVAL, "--limit", str(count), *engine), root)
        here, there = (spent[engine, many].cpu_s - spent[engine, 1].cpu_s for engine in ((), (*RAY, "2")))
        asked = calls_of(port)
    if asked != 2 * many + 2:
        raise RuntimeError(f"{asked} calls")
    yield Figure(what=f"CPU a case on Ray, 2 processes, {many:,} cases", unit="ms", value=there / many * 1e3, reference=here / many * 1e3, target=2, max_ratio=1.5)  # fmt: skip
    yield Figure(what="peak memory of the driver", unit="MiB", value=spent[(*RAY, "2"), many].driver_peak_bytes / 2**20, reference=spent[(), many].driver_peak_bytes / 2**20, target=512)  # fmt: skip


def ray_rescore(folder: Path) -> Iterator[Figure]:
    """Wall clock of rescoring stored answers, one process against two: how many times as fast; and the driver's memory."""
    many = _CASES or 1_000_000
    root = make_project(folder / "project", many)
    cost_of((PYTHON, "-m", "promptops", "eval", NAME, "--json"), root, codes=(0, 1))
    (root / f"golden/{NAME}.yaml").write_text(_HEAVY)
    rescore = (PYTHON, "-m", "promptops", "rescore", "--json", *RAY)
    few = watch((*rescore, "1"), root)
    two = watch((*rescore, "2"), root)
    yield Figure(what=f"rescoring {many:,} answers, 2 processes for 1", unit="of wall", value=two.wall_s / few.wall_s, reference=0.5, target=1 / 1.7)  # fmt: skip
    yield Figure(what="the same, CPU of all processes", unit="s", value=two.cpu_s, reference=few.cpu_s, target=few.cpu_s * 1.3)  # fmt: skip
    yield Figure(what=f"peak memory of the driver, {many:,} cases", unit="MiB", value=two.driver_peak_bytes / 2**20, reference=few.driver_peak_bytes / 2**20, target=512)  # fmt: skip


def ray_kills(folder: Path) -> Iterator[Figure]:
    """Calls repeated after kill -9 of a worker and of the driver, in turn, ten rounds; the reference is what was in flight at the most."""
    root = make_project(folder / "project", _KILLED_CASES)
    rng = random.Random(12)
    begin = (*EVAL[:6], "fixed", "--concurrency", str(_KILLED_IN_FLIGHT), "--json", *RAY, "2")
    go_on = (*EVAL[:4], "--resume", "--concurrency", str(_KILLED_IN_FLIGHT), "--json", *RAY, "2")
    with provider(folder, 0.15) as port:
        point_to(root, port, "http")
        kills, child = 0, start(begin, root)
        while kills < _ROUNDS:
            while not _sharers(child.pid) and child.poll() is None:  # what a killed driver left may still be calling
                time.sleep(0.05)
            before = calls_of(port)
            while calls_of(port) < before + 4 and child.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            if child.poll() is not None:
                raise RuntimeError(f"the run ended after {kills} kills: make it longer")
            if kills % 2 == 0:
                os.kill(rng.choice(_sharers(child.pid)), signal.SIGKILL)
            else:
                child.kill()
                child.wait()
                child = start(go_on, root)
            kills += 1
        child.wait()
        if child.returncode not in (0, 1):
            cost_of(go_on, root, codes=(0, 1))
        asked = calls_of(port)
    with contextlib.closing(open_store(root)) as store:
        (run,) = store.runs()
        stored, ledger = store.count_results(run.id)[0], store.ledger(run.id)
    if (stored, run.state) != (_KILLED_CASES, "complete") or ledger.attempts < asked:
        raise RuntimeError(f"{stored} results, {run.state}, {ledger.attempts} of {asked} calls in the ledger")
    yield Figure(what=f"calls repeated, {_KILLED_CASES} cases, {_ROUNDS} kill -9 on Ray", unit="calls", value=asked - _KILLED_CASES,
                 reference=_ROUNDS * _KILLED_IN_FLIGHT, target=_ROUNDS * _KILLED_IN_FLIGHT)  # fmt: skip


def _sharers(root: int) -> list[int]:
    """Processes below a command that take shares of its run."""
    found = Watched()
    found.look(root)
    titles = {pid: Path(f"/proc/{pid}/cmdline") for pid in found.seen}
    return [pid for pid, title in titles.items() if title.exists() and b"ray::Sharer" in title.read_bytes()]


SCALE: Mapping[str, Callable[[Path], Iterator[Figure]]] = {
    "ray-cases": ray_cases, "ray-rescore": ray_rescore, "ray-kills": ray_kills,
}  # fmt: skip
