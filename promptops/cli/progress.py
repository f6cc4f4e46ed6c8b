"""A live bar on a terminal, a plain line now and then elsewhere, nothing when a machine reads."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from promptops.core.money import format_usd

if TYPE_CHECKING:
    from promptops.evaluation.execute import Progress

_LINE_EVERY_S = 10.0


@contextmanager
def watch(name: str, *, quiet: bool) -> Iterator[Callable[["Progress"], None]]:
    """A callback that shows progress on stderr while the context is open."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(name) as update:
            yield update
    else:
        yield _Lines(name)


class _Lines:
    def __init__(self, name: str) -> None:
        self._name, self._started = name, time.monotonic()
        self._next = self._started + _LINE_EVERY_S

    def __call__(self, progress: "Progress") -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_EVERY_S
            rate = progress.done / (now - self._started)
            left = (progress.planned - progress.done) / rate if rate else 0.0
            sys.stderr.write(
                f"{self._name}: {progress.done}/{progress.planned} ({rate:.0f}/s, {left:.0f} s left, {format_usd(progress.cost_nanousd)})\n"
            )


@contextmanager
def _bar(name: str) -> Iterator[Callable[["Progress"], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from promptops.cli.output import console

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}", markup=False),
               TimeRemainingColumn(), TextColumn("{task.fields[state]}", markup=False))  # fmt: skip
    with Bar(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None, rate="", state="")
        started = time.monotonic()

        def update(progress: "Progress") -> None:
            rate = progress.done / max(time.monotonic() - started, 1e-6)
            state = f"{progress.failed} failed, {progress.errors} unscored, {format_usd(progress.cost_nanousd)}"
            bar.update(task, total=progress.planned, completed=progress.done, rate=f"{rate:.0f}/s", state=state)

        yield update
