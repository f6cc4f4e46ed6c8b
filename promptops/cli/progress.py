"""A live board on a terminal, a plain line now and then elsewhere, JSON lines for CI, nothing when a machine reads."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from promptops.core.money import format_usd

if TYPE_CHECKING:
    from rich.console import Group

    from promptops.evaluation.execute import Progress

_LINE_EVERY_S = 10.0
_DRAW_EVERY_S = 0.1
Report = Callable[["Progress"], None]


@contextmanager
def watch(name: str, *, quiet: bool, log_format: str = "text") -> Iterator[Report]:
    """A callback that shows progress on stderr while the context is open."""
    if log_format == "json":
        yield _Every(_LINE_EVERY_S / 10, lambda progress: _json_line(name, progress))
    elif quiet:
        yield lambda _: None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR"):
        with _board(name) as update:
            yield update
    else:
        yield _Every(_LINE_EVERY_S, _Lines(name))


class _Every:
    """Passes on at most one report in a while, and always the last."""

    def __init__(self, seconds: float, report: Report) -> None:
        self._seconds, self._report = seconds, report
        self._next = time.monotonic() + seconds

    def __call__(self, progress: "Progress") -> None:
        now = time.monotonic()
        if now >= self._next or (progress.done == progress.planned and self._seconds < _LINE_EVERY_S):
            self._next = now + self._seconds
            self._report(progress)


class _Lines:
    def __init__(self, name: str) -> None:
        self._name, self._started = name, time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        sys.stderr.write(
            f"{self._name}: {progress.done}/{progress.planned}, {_pace(progress, self._started)}, {_state(progress)}\n"
        )


def _json_line(name: str, progress: "Progress") -> None:
    fields = {field: getattr(progress, field) for field in ("done", "planned", "passed", "failed", "errors", "reused", "calls", "in_flight",
                                                           "rate_limited", "cost_nanousd", "stopped_by")}  # fmt: skip
    sys.stderr.write(json.dumps({"event": "progress", "prompt": name, **fields}) + "\n")


def _pace(progress: "Progress", started: float) -> str:
    rate = progress.done / max(time.monotonic() - started, 1e-6)
    left = (progress.planned - progress.done) / rate if rate else 0.0
    return f"{rate:.0f}/s, {left:.0f} s left"


def _state(progress: "Progress") -> str:
    parts = [f"{progress.failed} failed", f"{progress.errors} unscored"]
    if progress.calls:
        cap = f" of {format_usd(progress.max_cost_nanousd)}" if progress.max_cost_nanousd is not None else ""
        parts += [
            f"{progress.in_flight} in flight",
            f"{progress.rate_limited} x 429",
            format_usd(progress.cost_nanousd) + cap,
        ]
    return ", ".join(parts)


@contextmanager
def _board(name: str) -> Iterator[Report]:
    from rich.live import Live

    from promptops.cli.output import console

    started = time.monotonic()
    with Live(console=console(stderr=True), transient=True, auto_refresh=False) as live:
        yield _Every(_DRAW_EVERY_S, lambda progress: live.update(_bars(name, progress, started), refresh=True))


def _bars(name: str, progress: "Progress", started: float) -> "Group":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from promptops.report.show import show

    grid = Table.grid(padding=(0, 1))
    for category, (done, passed) in sorted(progress.categories.items()):
        grid.add_row(
            show(category, limit=24),
            ProgressBar(total=max(done, 1), completed=passed, width=24),
            f"{passed}/{done} pass",
        )
    whole = ProgressBar(total=progress.planned, completed=progress.done, width=40)
    head = Table.grid(padding=(0, 1))
    head.add_row(show(name), whole, f"{progress.done}/{progress.planned}", _pace(progress, started))
    return Group(head, grid, Text(_state(progress), style="dim"))
