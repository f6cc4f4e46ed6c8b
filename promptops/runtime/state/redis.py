"""State of many hosts, in Redis: reservations are one script each, so nothing comes between reading and counting."""

import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from promptops.runtime.state.base import BUCKETS, Denied, Entry, Grant, Hold, StateError, retry_after_s
from promptops.runtime.state.redis_link import RedisLink

if TYPE_CHECKING:
    import redis

_NOW = """
local now = ARGV[1]
if now == '' then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1000000
else
  now = tonumber(now)
end
"""
# ARGV: now, lease_s, pass_soft, id, then amount, limit, soft, window_s for each of the meters; the last key holds open grants.
_RESERVE = (
    _NOW
    + f"""
local BUCKETS = {BUCKETS}
local holds = #KEYS - 1
local totals, wanted, buckets = {{}}, {{}}, {{}}
for i = 1, holds do
  local key, at = KEYS[i], 4 + (i - 1) * 4
  local amount, limit, soft, window = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local bucket = math.floor(now * BUCKETS / window)
  buckets[i] = bucket
  if not totals[key] then
    local total, counts = 0, redis.call('HGETALL', key)
    for j = 1, #counts, 2 do
      if tonumber(counts[j]) < bucket - BUCKETS then
        redis.call('HDEL', key, counts[j])
      else
        total = total + tonumber(counts[j + 1])
      end
    end
    totals[key] = total
  end
  local used = totals[key] + (wanted[key] or 0)
  wanted[key] = (wanted[key] or 0) + amount
  local hard = used + amount > limit
  if hard or (ARGV[3] == '0' and soft and used + amount > soft) then
    return {{0, i - 1, string.format('%.0f', used), hard and 1 or 0, string.format('%.6f', now), redis.call('HGETALL', key)}}
  end
end
local answer = {{1}}
for i = 1, holds do
  local at = 4 + (i - 1) * 4
  local bucket = string.format('%.0f', buckets[i])
  redis.call('HINCRBY', KEYS[i], bucket, ARGV[at + 1])
  redis.call('EXPIRE', KEYS[i], math.ceil(tonumber(ARGV[at + 4]) * (BUCKETS + 1) / BUCKETS) + 1)
  answer[i + 1] = bucket
end
redis.call('ZREMRANGEBYSCORE', KEYS[#KEYS], '-inf', now)
redis.call('ZADD', KEYS[#KEYS], now + tonumber(ARGV[2]), ARGV[4])
return answer
"""
)
# ARGV: now, id, then bucket and correction for each of the meters.
_SETTLE = (
    _NOW
    + """
local open = redis.call('ZSCORE', KEYS[#KEYS], ARGV[2])
redis.call('ZREM', KEYS[#KEYS], ARGV[2])
if not open or tonumber(open) <= now then return 0 end
for i = 1, #KEYS - 1 do
  local bucket = ARGV[1 + i * 2]
  if redis.call('HEXISTS', KEYS[i], bucket) == 1 then redis.call('HINCRBY', KEYS[i], bucket, ARGV[2 + i * 2]) end
end
return 1
"""
)
# KEYS: meter. ARGV: now, window_s.
_USED = (
    _NOW
    + f"""
local total, counts, oldest = 0, redis.call('HGETALL', KEYS[1]), math.floor(now * {BUCKETS} / tonumber(ARGV[2])) - {BUCKETS}
for j = 1, #counts, 2 do
  if tonumber(counts[j]) >= oldest then total = total + tonumber(counts[j + 1]) end
end
return string.format('%.0f', total)
"""
)
_RESERVED = _NOW + "return redis.call('ZCOUNT', KEYS[1], string.format('(%.6f', now), '+inf')"
# KEYS: entry, its tags. ARGV: now, keep_s, value.
_PUT = (
    _NOW
    + """
local keep = tonumber(ARGV[2])
redis.call('DEL', KEYS[1])
if keep <= 0 then return 0 end
local ms = math.ceil(keep * 1000)
redis.call('HSET', KEYS[1], 'v', ARGV[3], 'a', string.format('%.6f', now), 'u', string.format('%.6f', now + keep))
redis.call('PEXPIRE', KEYS[1], ms)
for i = 2, #KEYS do
  redis.call('HSET', KEYS[1], KEYS[i], '')
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  redis.call('ZADD', KEYS[i], now + keep, KEYS[1])
  if redis.call('PTTL', KEYS[i]) < ms then redis.call('PEXPIRE', KEYS[i], ms) end
end
return 1
"""
)
# KEYS: tag. Takes away at most 200 entries, so that no other client waits long; answers (names taken, entries dropped).
_INVALIDATE = """
local names, dropped = redis.call('ZPOPMIN', KEYS[1], 200), 0
for i = 1, #names, 2 do
  if redis.call('HEXISTS', names[i], KEYS[1]) == 1 then dropped = dropped + redis.call('DEL', names[i]) end
end
return {#names / 2, dropped}
"""
_EXACT = 2**53


class RedisState:
    """Every key is under `{namespace}`, in one slot of a cluster. Time is the server's unless a `clock` is given. The server must
    not evict meters: `maxmemory-policy noeviction`.
    """

    blocks = True

    def __init__(
        self, url: str, *, namespace: str = "promptops", timeout_s: float = 0.05,
        clock: Callable[[], float] | None = None, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._prefix, self._clock = f"{{{namespace}}}:", clock
        self._link = RedisLink(url, timeout_s=timeout_s, monotonic=monotonic)

    def get(self, partition: str, key: str) -> Entry | None:
        name = self._entry(partition, key)

        def read(client: "redis.Redis") -> tuple[list[bytes | None], float]:
            pipeline = client.pipeline(transaction=False)
            pipeline.hmget(name, ["v", "a", "u"])
            pipeline.time()
            found, (seconds, microseconds) = pipeline.execute()
            return found, seconds + microseconds / 1e6

        (value, at, until), server_now = self._link.call(read)
        if value is None or at is None or until is None:
            return None
        now = server_now if self._clock is None else self._clock()
        return Entry(value=value, age_s=now - float(at)) if float(at) <= now < float(until) else None

    def put(self, partition: str, key: str, value: bytes, *, keep_s: float, tags: Sequence[str] = ()) -> None:
        self._run(
            _PUT, [self._entry(partition, key), *(self._name("t", tag) for tag in tags)], [f"{keep_s:.6f}", value]
        )

    def drop(self, partition: str, key: str) -> None:
        self._link.call(lambda client: client.delete(self._entry(partition, key)))

    def invalidate(self, tag: str) -> int:
        total = 0
        while True:
            taken: int
            dropped: int
            taken, dropped = self._run(_INVALIDATE, [self._name("t", tag)], [])
            total += dropped
            if not taken:
                return total

    def reserve(self, holds: Sequence[Hold], *, lease_s: float, pass_soft: bool = False) -> Grant | Denied:
        name = uuid.uuid4().hex
        arguments: list[Any] = [f"{lease_s:.6f}", int(pass_soft), name]
        for hold in holds:
            if not max(hold.limit, hold.soft or 0, hold.amount) < _EXACT:
                raise StateError(f"{hold.limit} is more than Redis counts exactly")
            arguments += [hold.amount, hold.limit, "" if hold.soft is None else hold.soft, hold.window_s]
        found = self._run(
            _RESERVE, [*(self._meter(hold.meter, hold.window_s) for hold in holds), self._open], arguments
        )
        if found[0] == 1:
            return Grant(id=name, holds=tuple(holds), buckets=tuple(int(bucket) for bucket in found[1:]))
        _, index, used, hard, now, counts = found
        hold, numbers = holds[index], [int(item) for item in counts]
        limit = hold.limit if hard or hold.soft is None else hold.soft
        wait_s = retry_after_s(float(now), hold.window_s, list(zip(numbers[::2], numbers[1::2], strict=True)),
                               int(used) + hold.amount - limit)  # fmt: skip
        return Denied(hold=hold, used=int(used), soft=not hard, retry_after_s=wait_s)

    def settle(self, grant: Grant, amounts: Sequence[int]) -> None:
        arguments: list[Any] = [grant.id]
        for hold, bucket, amount in zip(grant.holds, grant.buckets, amounts, strict=True):
            arguments += [bucket, amount - hold.amount]
        self._run(_SETTLE, [*(self._meter(hold.meter, hold.window_s) for hold in grant.holds), self._open], arguments)

    def used(self, meter: str, window_s: int) -> int:
        return int(self._run(_USED, [self._meter(meter, window_s)], [window_s]))

    def reserved(self) -> int:
        return int(self._run(_RESERVED, [self._open], []))

    def after_fork(self) -> None:
        self._link.after_fork()

    def close(self) -> None:
        self._link.close()

    @property
    def _open(self) -> str:
        return self._prefix + "open"

    def _meter(self, meter: str, window_s: int) -> str:
        return self._name(f"m:{window_s}", meter)

    def _entry(self, partition: str, key: str) -> str:
        raw = partition.encode("utf-8", "surrogatepass")
        return self._hashed("c", len(raw).to_bytes(8) + raw + key.encode("utf-8", "surrogatepass"))

    def _name(self, kind: str, text: str) -> str:
        return self._hashed(kind, text.encode("utf-8", "surrogatepass"))

    def _hashed(self, kind: str, raw: bytes) -> str:
        """Names are hashed: of any length and content, one key each, and no tenant is readable in the server."""
        return f"{self._prefix}{kind}:{hashlib.sha256(raw).hexdigest()}"

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        now = "" if self._clock is None else f"{self._clock():.6f}"
        return self._link.run(script, keys, [now, *arguments])
