"""What a child process cost, and the line that says whether a target holds."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU is user and system time; the peak is the resident set, as the kernel counted it."""

    cpu_s: float
    wall_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number: `reference` is the bare way in the same run, and lower is better for both."""

    what: str
    unit: str
    value: float
    reference: float
    target: float
    max_ratio: float | None = None

    @property
    def ratio(self) -> float | None:
        """None when the bare way takes nothing that can be measured."""
        return self.value / self.reference if self.reference > 0 else None

    @property
    def holds(self) -> bool:
        if self.max_ratio is not None and (self.ratio is None or self.ratio > self.max_ratio):
            return False
        return self.value <= self.target


def start(arguments: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
    """A child whose results are dropped, with an environment that says nothing to promptops.

    Bytecode is kept as an installation keeps it: where it may not be written, every start would compile every module again.
    """
    dropped = ("PROMPTOPS_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(child: "subprocess.Popen[bytes]", started: float, codes: Sequence[int]) -> Cost:
    """Wait for a child started at `started` (monotonic). Raises RuntimeError when it ends with another code."""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in codes:
        said = child.stderr.read().decode("utf-8", "replace") if child.stderr else ""
        raise RuntimeError(f"{child.args} ended with {child.returncode}: {said}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(cpu_s=usage.ru_utime + usage.ru_stime, wall_s=time.monotonic() - started, peak_bytes=usage.ru_maxrss * unit)  # fmt: skip


def cost_of(arguments: Sequence[str], folder: Path, *, codes: Sequence[int] = (0,)) -> Cost:
    """What one child costs from start to end."""
    started = time.monotonic()
    return finish(start(arguments, folder), started, codes)


def cpu_so_far_s(child: "subprocess.Popen[bytes]") -> float:
    """CPU a running child has used, in steps of a hundredth; NaN where there is no /proc."""
    try:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each number by itself."""
    return Cost(cpu_s=median(cost.cpu_s for cost in costs), wall_s=median(cost.wall_s for cost in costs),
                peak_bytes=int(median(cost.peak_bytes for cost in costs)))  # fmt: skip


def line(figure: Figure) -> str:
    target = f"<= {figure.target:g}" + (f" and <= {figure.max_ratio:g}x" if figure.max_ratio else "")
    ratio = "-" if figure.ratio is None else f"{figure.ratio:.1f}x"
    return (f"{figure.what:<46} {figure.unit:<7} {figure.value:>9.3f} {figure.reference:>10.3f} {ratio:>8}  "
            f"{target:<18} {'PASS' if figure.holds else 'MISS'}")  # fmt: skip


HEAD = f"{'figure':<46} {'unit':<7} {'measured':>9} {'reference':>10} {'ratio':>8}  {'target':<18}"
