"""Events in a Redis stream, for services on many hosts: bounded, written once each, and never waited for by a request (extra `redis`)."""

import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from promptops.core.errors import DataError
from promptops.runtime.state.base import StateError
from promptops.runtime.state.redis_address import is_redis, parse_redis
from promptops.runtime.state.redis_link import RedisLink
from promptops.runtime.telemetry.events import KEEP_DAYS
from promptops.runtime.telemetry.outbox import DAY_S, Outbox

if TYPE_CHECKING:
    import redis

__all__ = ["EventStream", "EventsStream", "is_redis", "shown_address", "stream_key"]

MAX_EVENTS = 1_000_000
_TOLD_MS = 600_000
_PAGE = 2000
# KEYS: stream, the mark of this batch. ARGV: milliseconds the mark is kept, most events, milliseconds an event is kept (0: no limit), lines.
_ADD = """
if not redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then return 0 end
for place = 4, #ARGV do redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'e', ARGV[place]) end
if ARGV[3] ~= '0' then
  local t = redis.call('TIME')
  redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', tonumber(t[1]) * 1000 - tonumber(ARGV[3])))
end
return #ARGV - 3
"""
# KEYS: stream. ARGV: after which entry, how many. Answers their number, the id of the last one, how many were ever added (-1: unknown), the ids if asked for, and the lines as one text.
_READ = """
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
local lines, ids = {}, {}
for place, entry in ipairs(found) do
  lines[place] = entry[2][2]
  if ARGV[3] == '1' then ids[place] = entry[1] end
end
local added, info = -1, redis.pcall('XINFO', 'STREAM', KEYS[1])
if not info.err then
  for place = 1, #info, 2 do
    if info[place] == 'entries-added' then added = info[place + 1] end
  end
end
local last = ARGV[1]
if #found > 0 then last = found[#found][1] end
return {#found, last, added, ids, table.concat(lines)}
"""


def shown_address(address: str) -> str:
    """An address without a password in it."""
    scheme, separator, rest = address.partition("://")
    if not is_redis(address):
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"
    try:
        return str(parse_redis(address))
    except DataError:
        return f"{scheme}://"


def stream_key(namespace: str) -> str:
    return f"{{{namespace}}}:events"


class EventsStream(Outbox):
    """An Observer that writes to a Redis stream. A daemon thread sends; a request only hands its reply over.

    The stream holds about `max_events` (Redis removes whole blocks of old ones) and nothing older than `keep_days` (0: no limit). While the server
    is away, events wait in memory, then are dropped and counted; a batch whose answer was lost is sent again and added once. `content` and `mask`
    as in EventsFile.
    """

    def __init__(
        self, url: str, *, namespace: str = "", salt: str = "", content: bool = False, mask: bool = True, max_events: int = MAX_EVENTS,
        keep_days: float = KEEP_DAYS, timeout_s: float = 1.0, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        super().__init__(salt=salt, content=content, mask=mask, clock=clock)
        self._link = RedisLink(url, timeout_s=timeout_s, connections=2)
        self._key = stream_key(namespace or self._link.address.namespace)
        self._max_events, self._keep_ms = max_events, round(keep_days * DAY_S * 1000)
        self._sent: tuple[list[bytes], str] = ([], "")

    def _send(self, lines: list[bytes]) -> None:
        if self._sent[0] is not lines:  # the same batch keeps its mark, so that it is added once
            self._sent = (lines, f"{self._key}:batch:{secrets.token_hex(8)}")
        self._link.run(_ADD, [self._key, self._sent[1]], [_TOLD_MS, self._max_events, self._keep_ms, *lines])

    def _end(self) -> None:
        self._link.close()


class EventStream:
    """Reads the events of a Redis stream from its beginning, and goes on from where it stopped."""

    def __init__(self, url: str, *, namespace: str = "", timeout_s: float = 5.0) -> None:
        self._link = RedisLink(url, timeout_s=timeout_s, connections=2)
        self._key = stream_key(namespace or self._link.address.namespace)
        self._last = b"0"
        self._added: int | None = None
        self.lost = 0
        """Events that were added since the first look and removed before they were read, as far as the server counts them (Redis 7)."""

    def exists(self) -> bool:
        """Raises StateError when the server does not answer."""
        return bool(self._link.call(lambda client: client.exists(self._key)))

    def lines(self) -> Iterator[bytes]:
        """All events that are there, whatever was read before."""
        for page, _ in self._pages(ids=False):
            yield from page

    def unread(self) -> Iterator[bytes]:
        """Events that came since the last call, each once. Raises StateError; what was not read comes with the next call."""
        read = 0
        while True:
            page, last, added, _ = self._read(self._last, ids=False)
            yield from page
            self._last = last
            read += len(page)
            if len(page) < _PAGE:
                break
        if added is not None and self._added is not None:
            self.lost += max(0, added - self._added - read)
        self._added = added

    def remove(self, is_gone: Callable[[bytes], bool]) -> int:
        """Delete the events that a predicate says yes to, which sees them in order; how many. Raises StateError."""
        removed = 0
        for page, ids in self._pages(ids=True):
            gone = [name for name, line in zip(ids, page, strict=True) if is_gone(line)]
            if gone:
                removed += int(self._link.call(partial(self._delete, gone)))
        return removed

    def _delete(self, ids: list[bytes], client: "redis.Redis") -> Any:
        return client.xdel(self._key, *ids)

    def _pages(self, *, ids: bool) -> Iterator[tuple[list[bytes], list[bytes]]]:
        last = b"0"
        while True:
            page, last, _, names = self._read(last, ids=ids)
            yield page, names
            if len(page) < _PAGE:
                return

    def _read(self, after: bytes, *, ids: bool) -> tuple[list[bytes], bytes, int | None, list[bytes]]:
        """(lines, id of the last one, how many were ever added if the server knows, ids)."""
        many, last, added, names, text = self._link.run(_READ, [self._key], [after, _PAGE, int(ids)])
        page = text.split(b"\n")[:-1]
        if len(page) != many:
            raise StateError(f"{self._key} holds what is no event")
        return page, last, added if added >= 0 else None, names

    def close(self) -> None:
        self._link.close()
