"""Flags of many hosts, in Redis: one key with the document that a flags file holds."""

from collections.abc import Callable
from typing import Any

from promptops.runtime.flags import parse_flags
from promptops.runtime.state.base import StateError
from promptops.runtime.state.redis_link import RedisLink

_SWAP = """
local now = redis.call('GET', KEYS[1])
if (now or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RedisFlags:
    """Every process that reads the server follows within a second; a server that hangs leaves the last state in force."""

    def __init__(self, url: str, *, namespace: str = "", timeout_s: float = 0.25) -> None:
        self._link = RedisLink(url, timeout_s=timeout_s, pause_s=0.0)  # one thread looks, four times a second
        self._name = str(self._link.address)
        self._key = f"{{{namespace or self._link.address.namespace}}}:flags"

    def __str__(self) -> str:
        return self._name

    def read(self) -> bytes:
        raw = self._read()
        if raw is None:
            raise FileNotFoundError(2, "no flags are there", self._name)
        return raw

    def change(self, edit: Callable[[bytes | None], bytes]) -> None:
        """As `FlagFile.change`: an editor that comes between makes `edit` run again on what it wrote."""
        while not self._swapped(edit):
            continue

    def _swapped(self, edit: Callable[[bytes | None], bytes]) -> bool:
        old = self._read()
        new = edit(old)
        parse_flags(new)
        return bool(self._do(lambda: self._link.run(_SWAP, [self._key], [old or b"", new])))

    def _read(self) -> bytes | None:
        found: bytes | None = self._do(lambda: self._link.call(lambda client: client.get(self._key)))
        return found

    def _do(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except StateError as error:
            raise OSError(5, str(error), self._name) from error
