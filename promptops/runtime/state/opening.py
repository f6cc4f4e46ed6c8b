"""Which state a service means by an address: memory, a SQLite file, or Redis."""

from pathlib import Path
from typing import TYPE_CHECKING

from promptops.core.errors import DataError
from promptops.runtime.state.memory import MemoryState

if TYPE_CHECKING:
    from promptops.runtime.state.base import State

_REDIS = ("redis://", "rediss://", "unix://")


def open_state(address: str) -> "State":
    """`memory`, `sqlite:FILE`, or `redis://host:port/db` (extra `redis`). Nothing is connected yet.

    Raises DataError for another address, or when the extra is not installed.
    """
    if address == "memory":
        return MemoryState()
    if address.startswith("sqlite:") and address != "sqlite:":
        from promptops.runtime.state.sqlite import SqliteState

        return SqliteState(Path(address.removeprefix("sqlite:")))
    if address.startswith(_REDIS):
        need_redis(address)
        from promptops.runtime.state.redis import RedisState

        return RedisState(address)
    raise DataError(f"{address!r} is no state", hint="memory, sqlite:FILE, or redis://host:port/db")


def need_redis(address: str) -> None:
    """Raises DataError when the package `redis` is not installed, or the address is none of its."""
    from importlib.util import find_spec

    if find_spec("redis") is None:
        raise DataError("Redis needs the package `redis`", hint="pip install 'promptops[redis]'")
    import redis

    try:
        redis.ConnectionPool.from_url(address)
    except (ValueError, redis.RedisError) as error:
        raise DataError("not an address of Redis", why=str(error)[:200], hint="redis://host:port/db") from None
