"""Which state a service means by an address: memory, a SQLite file, or Redis."""

from pathlib import Path
from typing import TYPE_CHECKING

from promptops.core.errors import DataError
from promptops.runtime.state.memory import MemoryState

if TYPE_CHECKING:
    from promptops.runtime.state.base import State


def open_state(address: str) -> "State":
    """`memory`, `sqlite:FILE`, or an address of Redis (`redis_address.FORMS`, extra `redis`). Nothing is connected yet.

    Raises DataError for another address, or when the extra is not installed.
    """
    if address == "memory":
        return MemoryState()
    if address.startswith("sqlite:") and address != "sqlite:":
        from promptops.runtime.state.sqlite import SqliteState

        return SqliteState(Path(address.removeprefix("sqlite:")))
    from promptops.runtime.state.redis_address import FORMS, is_redis

    if is_redis(address):
        need_redis(address)
        from promptops.runtime.state.redis import RedisState

        return RedisState(address)
    raise DataError(f"{address.partition('://')[0][:40]!r} is no state", hint=f"memory, sqlite:FILE, or {FORMS}")


def need_redis(address: str) -> None:
    """Raises DataError when the package `redis` is not installed, or the address is none of its."""
    from importlib.util import find_spec

    from promptops.runtime.state.redis_address import parse_redis

    if find_spec("redis") is None:
        raise DataError("Redis needs the package `redis`", hint="pip install 'promptops[redis]'")
    parse_redis(address)
