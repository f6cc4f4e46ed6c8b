"""Questions that replicas share so that each can answer similar ones: their rows in Redis, and a bounded log of what changed.

The rows are the snapshot, kept current by every change, a hash for each tenant; the log names rows and never holds a text. A
replica that begins reads all rows, then follows the log; one that fell behind the log reads all rows again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptops.runtime.state.redis_link import RedisLink
from promptops.runtime.state.redis_scripts import NOW

if TYPE_CHECKING:
    import redis

MAX_ROWS = 100_000
LOG_ROWS = 20_000
_BATCH = 500
_REGISTRY_S = 30 * 86_400
# KEYS: index by expiry, log. ARGV: now, prefix of the hashes, most rows, most of the log, who, then tenant, field, seconds (0: forget), row.
_CHANGE = (
    NOW
    + """
local longest = 0
local function forget(names, step)
  for i = 1, #names, step do
    redis.call('HDEL', ARGV[2] .. string.sub(names[i], 1, 32), string.sub(names[i], 33))
    redis.call('ZREM', KEYS[1], names[i])
  end
end
for i = 6, #ARGV, 4 do
  local tenant, field, keep, rows = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[2] .. ARGV[i]
  if keep > 0 then
    local ms = math.ceil(keep * 1000)
    redis.call('HSET', rows, field, string.format('%.3f', now + keep) .. '|' .. ARGV[i + 3])
    redis.call('ZADD', KEYS[1], now + keep, tenant .. field)
    if redis.call('PTTL', rows) < ms then redis.call('PEXPIRE', rows, ms) end
    longest = math.max(longest, ms)
  else
    forget({tenant .. field}, 1)
  end
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'w', ARGV[5], 't', tenant, 'f', field)
end
forget(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 200), 1)
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[3])
if over > 0 then forget(redis.call('ZRANGE', KEYS[1], 0, math.min(over, 1000) - 1), 1) end
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < longest then redis.call('PEXPIRE', key, longest) end
end
return 1
"""
)
# KEYS: the hash of each row. ARGV: now, the field of each.
_ROWS = (
    NOW
    + """
local found = {string.format('%.6f', now)}
for i = 1, #KEYS do found[i + 1] = redis.call('HGET', KEYS[i], ARGV[i + 1]) end
return found
"""
)
# KEYS: hash of a tenant, log. ARGV: tenant.
_FORGET_TENANT = """
local found = redis.call('HLEN', KEYS[1])
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('XADD', KEYS[2], '*', 'w', '', 't', ARGV[1], 'f', '') end
return found
"""
# KEYS: index by expiry, log. ARGV: prefix of the hashes. Takes away at most 500 rows; answers how many.
_FORGET_ALL = """
local names, found = redis.call('ZPOPMIN', KEYS[1], 500), 0
for i = 1, #names, 2 do
  found = found + redis.call('HDEL', ARGV[1] .. string.sub(names[i], 1, 32), string.sub(names[i], 33))
end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('XADD', KEYS[2], '*', 'w', '', 't', '', 'f', '') end
return #names / 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that was answered: `tenant`, `partition` and `key` are 32 hex digits each; it is kept for `keep_s` more seconds."""

    tenant: str
    partition: str
    key: str
    keep_s: float
    answer: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A question that is forgotten; without a partition all of the tenant, without a tenant all."""

    tenant: str = ""
    partition: str = ""
    key: str = ""


class Behind(Exception):  # noqa: N818 - not an error: the log was shortened faster than it was read
    """The log does not reach back to what was read last."""


class RedisQuestions:
    """Shared questions of one release. Methods raise StateError; texts are in the hashes of their tenant only."""

    def __init__(
        self, link: RedisLink, namespace: str, release: str, *, spread: bool, who: str, clock: Any = None, max_rows: int = MAX_ROWS, max_log: int = LOG_ROWS,
    ) -> None:  # fmt: skip
        self._link, self._release, self._who, self._clock = link, release, who, clock
        self._max_rows, self._max_log = max_rows, max_log
        self._registry = f"{{{namespace}}}:questions"
        home = f"{{{namespace}:{release}}}" if spread else f"{{{namespace}}}"
        self._rows, self._index, self._log = (f"{home}:q:{release}:{kind}" for kind in ("t:", "until", "log"))

    def announce(self, tags: Sequence[str]) -> None:
        """Let `forget` find this release by the tags of its prompt."""

        def work(client: "redis.Redis") -> None:
            client.hset(self._registry, self._release, "\n".join(tags))
            client.expire(self._registry, _REGISTRY_S)

        self._link.call(work)

    def change(self, changes: "Sequence[Question | Gone]") -> None:
        """Keep and forget rows, in this order; all replicas hear of it."""
        arguments: list[Any] = [self._now, self._rows, self._max_rows, self._max_log, self._who]
        for item in changes:
            row = f"{item.answer}|{item.text}".encode("utf-8", "surrogatepass") if isinstance(item, Question) else b""
            arguments += [
                item.tenant,
                item.partition + item.key,
                f"{item.keep_s:.3f}" if isinstance(item, Question) else 0,
                row,
            ]
        self._link.run(_CHANGE, [self._index, self._log], arguments)

    def end(self) -> str:
        """The place in the log after which nothing has happened yet."""
        found: list[Any] = self._link.call(lambda client: client.xrevrange(self._log, count=1))
        return found[0][0].decode() if found else "0-0"

    def all(self) -> Iterator[list[Question]]:
        """All rows in portions, those kept longest first."""
        start = 0
        while True:
            names = self._names(start)
            if not names:
                return
            yield self._read([(name[:32].decode(), name[32:].decode()) for name in names])
            start += len(names)

    def _names(self, start: int) -> list[bytes]:
        found: list[bytes] = self._link.call(lambda client: client.zrevrange(self._index, start, start + _BATCH - 1))
        return found

    def since(self, place: str) -> tuple[str, list[Question | Gone]]:
        """What others changed after a place in the log, and the next place. Raises Behind."""
        found: list[Any] = self._link.call(lambda client: client.xrange(self._log, min=place, count=_BATCH + 1))
        if found and place != "0-0":
            if found[0][0].decode() != place:
                raise Behind
            found = found[1:]
        if not found:
            return place, []
        rows = [(item[b"t"].decode(), item[b"f"].decode()) for _, item in found if item[b"w"].decode() != self._who]
        read = {(item.tenant, item.partition + item.key): item for item in self._read([row for row in rows if row[1]])}
        changes = [
            read.get((tenant, name)) or Gone(tenant=tenant, partition=name[:32], key=name[32:]) for tenant, name in rows
        ]
        return found[-1][0].decode(), changes

    def forget_tenant(self, tenant: str) -> int:
        """Forget all of a tenant; how many rows there were."""
        found: int = self._link.run(_FORGET_TENANT, [self._rows + tenant, self._log], [tenant])
        return found

    def forget_all(self) -> None:
        while self._link.run(_FORGET_ALL, [self._index, self._log], [self._rows]):
            continue

    @property
    def _now(self) -> str:
        return "" if self._clock is None else f"{self._clock():.6f}"

    def _read(self, names: "Sequence[tuple[str, str]]") -> list[Question]:
        if not names:
            return []
        now, *rows = self._link.run(
            _ROWS, [self._rows + tenant for tenant, _ in names], [self._now, *(name for _, name in names)]
        )
        found = []
        for (tenant, name), row in zip(names, rows, strict=True):
            if row is None:
                continue
            try:
                until, answer, text = row.decode("utf-8", "surrogatepass").split("|", 2)
                keep_s = float(until) - float(now)
            except ValueError:
                continue  # a cache is never worth an error
            if keep_s > 0:
                found.append(
                    Question(tenant=tenant, partition=name[:32], key=name[32:], keep_s=keep_s, answer=answer, text=text)
                )
        return found


def forget(link: RedisLink, namespace: str, tag: str, *, spread: bool) -> None:
    """Forget the shared questions of a tenant (`tenant:HASH`) or of releases with this tag."""
    registry: dict[bytes, bytes] = link.call(lambda client: client.hgetall(f"{{{namespace}}}:questions"))
    kind, _, name = tag.partition(":")
    for release, tags in registry.items():
        questions = RedisQuestions(link, namespace, release.decode(), spread=spread, who="")
        if kind == "tenant":
            questions.forget_tenant(name)
        elif tag in tags.decode("utf-8", "surrogatepass").split("\n"):
            questions.forget_all()
