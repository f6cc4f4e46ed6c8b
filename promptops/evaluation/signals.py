"""Ctrl-C and SIGTERM: once to finish what is in flight, twice to stop now."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

SignalName = Literal["SIGINT", "SIGTERM"]
_NAMES: tuple[SignalName, ...] = ("SIGINT", "SIGTERM")


@dataclass(slots=True)
class _Run:
    """One run that a signal concerns, and how many it has seen."""

    stop: Callable[[SignalName], None]
    tasks: Sequence["asyncio.Future[Any]"]
    drain_s: float
    seen: int = 0

    def on_signal(self, name: SignalName) -> None:
        self.seen += 1
        if self.seen > 1:
            self.cancel()
        else:
            self.stop(name)
            asyncio.get_running_loop().call_later(self.drain_s, self.cancel)

    def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()


_RUNS: WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Run]] = WeakKeyDictionary()
"""Runs of each event loop: a signal is for all of them."""


@asynccontextmanager
async def stop_on_signals(
    stop: Callable[[SignalName], None], tasks: Sequence["asyncio.Future[Any]"], drain_s: float
) -> AsyncIterator[None]:
    """While open, the first signal calls `stop` and gives the tasks `drain_s` seconds; the second cancels them at once."""
    loop = asyncio.get_running_loop()
    runs = _RUNS.setdefault(loop, [])
    run = _Run(stop, tasks, drain_s)
    runs.append(run)
    try:
        if len(runs) == 1:
            _listen(loop, runs)
        yield
    finally:
        runs.remove(run)
        if not runs:
            for name in _NAMES:
                loop.remove_signal_handler(signal.Signals[name])


def _listen(loop: asyncio.AbstractEventLoop, runs: list[_Run]) -> None:
    def on_signal(name: SignalName) -> None:
        for run in list(runs):
            run.on_signal(name)

    with contextlib.suppress(RuntimeError, ValueError, NotImplementedError):  # only the main thread gets signals
        for name in _NAMES:
            loop.add_signal_handler(signal.Signals[name], on_signal, name)
