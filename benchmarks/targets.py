"""The benchmarks, each a function from a scratch folder to figures; reference and product take turns."""

import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.corpus import NAME, make_project
from benchmarks.golden import GOLDEN
from benchmarks.hosts import hosts
from benchmarks.measure import Cost, Figure, cost_of, cpu_so_far_s, finish, middle, start
from benchmarks.model_runs import MODEL_RUNS
from benchmarks.monitor import monitor
from benchmarks.pages import pages
from benchmarks.release import RELEASES
from benchmarks.runtime import RUNTIME
from benchmarks.scale import SCALE
from benchmarks.service import SERVICE
from benchmarks.shared_store import SHARED_STORE
from benchmarks.tagged import make_repository, prompt_name
from benchmarks.warm import warm

PYTHON = sys.executable
PROMPTOPS = (str(Path(PYTHON).with_name("promptops")),) if Path(PYTHON).with_name("promptops").exists() else (PYTHON, "-m", "promptops")  # fmt: skip
EVAL = (*PROMPTOPS, "eval", NAME, "--model", "local:echo")
STORE = ".promptops/store.sqlite3"
_INTERRUPTED = 130
_KEEP_RUNNING_S = 5.0


def startup(folder: Path) -> Iterator[Figure]:
    """`promptops --version`, against a Python that does nothing."""
    found = _in_turn(
        9, lambda: cost_of((*PROMPTOPS, "--version"), folder), lambda: cost_of((PYTHON, "-c", "pass"), folder)
    )
    product, bare = (middle(costs) for costs in found)
    yield Figure(what="promptops --version", unit="CPU s", value=product.cpu_s, reference=bare.cpu_s, target=0.15, max_ratio=6)  # fmt: skip


def overhead(folder: Path) -> Iterator[Figure]:
    """CPU for each case of an evaluation with a model that costs nothing, and how much of it is the start."""
    small, large = make_project(folder / "small", 100), make_project(folder / "large", 10_000)
    found = _in_turn(5, lambda: _evaluate(small), lambda: _evaluate(large), lambda: _bare("loop", large))
    begin, product, bare = (median(cost.cpu_s for cost in costs) for costs in found)
    yield Figure(what="eval a case, 10,000 cases, start included", unit="CPU ms", value=product / 10, reference=bare / 10, target=0.3)  # fmt: skip
    yield Figure(what="eval a case, 10,000 cases, without the start", unit="CPU ms", value=(product - begin) / 9.9, reference=bare / 10, target=0.3)  # fmt: skip


def memory(folder: Path) -> Iterator[Figure]:
    """Peak memory at 50,000 cases less that at 10,000, for each case between them."""
    small, large = make_project(folder / "small", 10_000), make_project(folder / "large", 50_000)
    found = _in_turn(3, lambda: _evaluate(small), lambda: _evaluate(large), lambda: _bare("loop", small), lambda: _bare("loop", large))  # fmt: skip
    few, many, bare_few, bare_many = (middle(costs).peak_bytes for costs in found)
    yield Figure(what="memory of a further case, 10,000 to 50,000", unit="kB", value=(many - few) / 40e6, reference=(bare_many - bare_few) / 40e6, target=2)  # fmt: skip


def scan(folder: Path) -> Iterator[Figure]:
    """Reading and checking 20,000 rows, less what the same child costs without them."""
    root = make_project(folder / "project", 20_000)
    child = (PYTHON, "-m", "benchmarks.loading", str(root), NAME)
    found = _in_turn(5, lambda: cost_of((*child, "scan"), folder), lambda: cost_of((*child, "none"), folder), lambda: _bare("load", root))  # fmt: skip
    whole, without, bare = (median(cost.cpu_s for cost in costs) for costs in found)
    yield Figure(
        what="load and check 20,000 golden rows", unit="CPU s", value=whole - without, reference=bare, target=1
    )


def million(folder: Path) -> Iterator[Figure]:
    """1,000,000 rows: the time until a result is on disk, and the memory up to some seconds later.

    Wall time is what a person waits, and grows with whatever else the machine does; CPU time does not.
    """
    root = make_project(folder / "project", 1_000_000)
    runs: list[_Begin] = []
    bare: list[Cost] = []
    for _ in range(3):
        runs.append(_first_result(root))
        bare.append(_bare("parse", root))
    reference = middle(bare)
    yield Figure(what="first result of 1,000,000 rows", unit="CPU s", value=median(run.cpu_s for run in runs), reference=reference.cpu_s, target=15)  # fmt: skip
    yield Figure(what="first result of 1,000,000 rows", unit="wall s", value=median(run.wall_s for run in runs), reference=reference.wall_s, target=15)  # fmt: skip
    yield Figure(what="peak memory with 1,000,000 rows", unit="MiB", value=median(run.peak_bytes for run in runs) / 2**20, reference=reference.peak_bytes / 2**20, target=512)  # fmt: skip


def history(folder: Path) -> Iterator[Figure]:
    """`log`, `diff` and `blame` in a repository of 500 prompts and 10,000 tags, against the git commands a person would type."""
    root, name = make_repository(folder), prompt_name(250)
    (root / f"prompts/{name}/prompt.md").write_text(
        (root / f"prompts/{name}/prompt.md").read_text().replace("shop", "store")
    )
    tags = (
        "git",
        "for-each-ref",
        "--format=%(refname) %(contents)",
        f"refs/tags/prompt/{name}",
        f"refs/tags/channel/{name}",
    )
    ways = {
        "log": (("log", name), tags, 1.0), "diff": (("diff", name), ("git", "diff", "prompt/" + name + "/v1.3.0", "--", f"prompts/{name}"), 0.5),
        "diff of two versions": (("diff", name, "v1.0.0..v1.3.0"), ("git", "diff", f"prompt/{name}/v1.0.0", f"prompt/{name}/v1.3.0", "--", f"prompts/{name}"), 0.5),
        "blame": (("blame", name), ("git", "blame", "HEAD", "--", f"prompts/{name}/prompt.md"), 1.0),
    }  # fmt: skip
    for what, (words, bare, target) in ways.items():
        found = _in_turn(
            5, lambda words=words: cost_of((*PROMPTOPS, *words), root), lambda bare=bare: cost_of(bare, root)
        )  # type: ignore[misc]
        product, reference = (middle(costs) for costs in found)
        yield Figure(
            what=f"{what}, 500 prompts, 10,000 tags",
            unit="CPU s",
            value=product.cpu_s,
            reference=reference.cpu_s,
            target=target,
        )


BENCHMARKS: Mapping[str, Callable[[Path], Iterator[Figure]]] = {
    "pages": pages, "monitor": monitor, "hosts": hosts, "warm": warm,
    "startup": startup, "overhead": overhead, "memory": memory, "scan": scan, "million": million, "history": history,
    **MODEL_RUNS, **SHARED_STORE, **RELEASES, **SERVICE, **RUNTIME, **GOLDEN, **SCALE,
}  # fmt: skip


def _in_turn(times: int, *ways: Callable[[], Cost]) -> list[list[Cost]]:
    """What each way gave, measured alternately so that a busy moment of the machine hits all of them."""
    return [list(found) for found in zip(*([way() for way in ways] for _ in range(times)), strict=True)]


def _evaluate(root: Path) -> Cost:
    shutil.rmtree(root / ".promptops", ignore_errors=True)
    return cost_of(EVAL, root)


def _bare(kind: str, root: Path) -> Cost:
    for file in root.glob("reference.sqlite3*"):
        file.unlink()
    return cost_of((PYTHON, "-m", "benchmarks.reference", kind, str(root), NAME), root)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begin:
    """CPU and wall time until the first row of results could be read; the peak is taken some seconds later."""

    cpu_s: float
    wall_s: float
    peak_bytes: int


def _first_result(root: Path) -> _Begin:
    shutil.rmtree(root / ".promptops", ignore_errors=True)
    started = time.monotonic()
    child = start(EVAL, root)
    while not _has_result(root / STORE):
        if child.poll() is not None:
            raise RuntimeError(f"the evaluation ended with {child.returncode} before its first result")
        time.sleep(0.02)
    wall_s, cpu_s = time.monotonic() - started, cpu_so_far_s(child)
    time.sleep(_KEEP_RUNNING_S)
    child.send_signal(signal.SIGINT)
    return _Begin(cpu_s=cpu_s, wall_s=wall_s, peak_bytes=finish(child, started, (_INTERRUPTED,)).peak_bytes)


def _has_result(path: Path) -> bool:
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as sql:
            return sql.execute("select 1 from results limit 1").fetchone() is not None
    except sqlite3.OperationalError:
        return False
