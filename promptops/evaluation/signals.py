"""Ctrl-C and SIGTERM: once to finish what is in flight, twice to stop now."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

SignalName = Literal["SIGINT", "SIGTERM"]
_NAMES: tuple[SignalName, ...] = ("SIGINT", "SIGTERM")


@asynccontextmanager
async def stop_on_signals(
    stop: Callable[[SignalName], None], tasks: Sequence["asyncio.Future[Any]"], drain_s: float
) -> AsyncIterator[None]:
    """While open, the first signal calls `stop` and gives the tasks `drain_s` seconds; the second cancels them at once."""
    loop = asyncio.get_running_loop()
    seen: list[SignalName] = []

    def cancel() -> None:
        for task in tasks:
            task.cancel()

    def on_signal(name: SignalName) -> None:
        seen.append(name)
        if len(seen) > 1:
            cancel()
        else:
            stop(name)
            loop.call_later(drain_s, cancel)

    try:
        for name in _NAMES:
            loop.add_signal_handler(signal.Signals[name], on_signal, name)
    except (RuntimeError, ValueError, NotImplementedError):  # only the main thread gets signals
        yield
        return
    try:
        yield
    finally:
        for name in _NAMES:
            loop.remove_signal_handler(signal.Signals[name])
