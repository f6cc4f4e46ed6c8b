"""A process that spends from a shared budget; imports nothing that a child does not need."""

from pathlib import Path
from typing import Any

from promptops.runtime.state import Grant, Hold, MemoryState, State

PATIENCE_S = 60.0


def opened(where: tuple[str, str]) -> State:
    """The state at ("memory", ""), ("sqlite", file) or (a Redis URL, namespace), with patience for a busy machine."""
    kind, detail = where
    if kind == "memory":
        return MemoryState()
    if kind == "sqlite":
        from promptops.runtime.state.sqlite import SqliteState

        return SqliteState(Path(detail), timeout_s=PATIENCE_S)
    from promptops.runtime.state.redis import RedisState

    return RedisState(kind, namespace=detail, timeout_s=PATIENCE_S)


def spend(where: tuple[str, str], go: Any, granted: Any) -> None:
    """30 reservations of 3 against a limit of 200; every other one is settled as it was."""
    state = opened(where)
    go.wait(PATIENCE_S)
    for number in range(30):
        grant = state.reserve([Hold(meter="m", amount=3, limit=200, window_s=86_400)], lease_s=600)
        if isinstance(grant, Grant):
            granted.put(1)
            if number % 2:
                state.settle(grant, [3])
    state.close()


def empty_queue(where: tuple[str, str], worked: Any) -> None:
    """Do every job there is and name it."""
    kind, detail = where
    queue: Any
    if kind == "sqlite":
        from promptops.runtime.queue.sqlite import SqliteQueue

        queue = SqliteQueue(Path(detail), timeout_s=PATIENCE_S)
    else:
        from promptops.runtime.queue.redis import RedisQueue

        queue = RedisQueue(kind, namespace=detail, timeout_s=PATIENCE_S)
    while jobs := queue.take(lease_s=600):
        worked.put(jobs[0].key)
        queue.done(jobs[0])
    queue.close()
