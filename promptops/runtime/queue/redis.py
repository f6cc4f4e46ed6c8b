"""A queue in a Redis stream, for workers on many hosts; every step is one script."""

from collections.abc import Sequence
from typing import Any

from promptops.runtime.queue.base import MAX_JOBS, MAX_PAYLOAD_BYTES, MAX_TRIES, REMEMBER_S, Counts, Job, JobState
from promptops.runtime.state.base import StateError
from promptops.runtime.state.redis_link import RedisLink

_GROUP, _WORKER = "workers", "promptops"
_IDLE_MS = 86_400_000
"""A pending entry may be taken again once it was idle for a day; leases set how idle it is counted to be."""
# KEYS: the id of this key, stream. ARGV: most jobs, key, payload.
_PUT = """
local known = redis.call('GET', KEYS[1])
if known then return known end
local kept = redis.call('XLEN', KEYS[2])
if kept >= tonumber(ARGV[1]) then return redis.error_reply('FULL ' .. kept) end
local id = redis.call('XADD', KEYS[2], '*', 'k', ARGV[2], 'p', ARGV[3])
redis.call('SET', KEYS[1], id)
return id
"""
_TO_DEAD = f"""
local function bury(id, fields, tries, reason)
  redis.call('XADD', KEYS[3], '*', 'k', fields[2], 'p', fields[4], 'n', tries, 'r', reason, 'i', id)
  redis.call('XACK', KEYS[1], '{_GROUP}', id)
  redis.call('XDEL', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
"""
# KEYS: stream, reasons, dead. ARGV: milliseconds counted as idle, most, tries allowed.
_TAKE = (
    _TO_DEAD
    + f"""
if redis.call('EXISTS', KEYS[1]) == 0 then return {{}} end
redis.pcall('XGROUP', 'CREATE', KEYS[1], '{_GROUP}', '0')
local most, out, cursor = tonumber(ARGV[2]), {{}}, '0-0'
local function hand(id, fields, tries)
  redis.call('XCLAIM', KEYS[1], '{_GROUP}', '{_WORKER}', 0, id, 'IDLE', ARGV[1], 'JUSTID')
  redis.call('HDEL', KEYS[2], id)
  out[#out + 1] = {{id, fields[2], fields[4], tries}}
end
repeat
  local found = redis.call('XAUTOCLAIM', KEYS[1], '{_GROUP}', '{_WORKER}', {_IDLE_MS}, cursor, 'COUNT', most - #out)
  cursor = found[1]
  for _, entry in ipairs(found[2]) do
    local tries = redis.call('XPENDING', KEYS[1], '{_GROUP}', entry[1], entry[1], 1)[1][4]
    if tries > tonumber(ARGV[3]) then
      bury(entry[1], entry[2], tries - 1, 'its workers did not come back')
    else
      hand(entry[1], entry[2], tries)
    end
  end
until cursor == '0-0' or #out >= most
if #out < most then
  local fresh = redis.call('XREADGROUP', 'GROUP', '{_GROUP}', '{_WORKER}', 'COUNT', most - #out, 'STREAMS', KEYS[1], '>')
  if fresh then
    for _, entry in ipairs(fresh[1][2]) do hand(entry[1], entry[2], 1) end
  end
end
return out
"""
)
# KEYS: stream, reasons, the id of this key. ARGV: id, milliseconds to remember.
_DONE = f"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.pcall('XACK', KEYS[1], '{_GROUP}', ARGV[1])
  redis.call('XDEL', KEYS[1], ARGV[1])
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return 1
"""
# KEYS: stream, reasons, dead. ARGV: id, tries, milliseconds counted as idle, reason, tries allowed.
_AGAIN = (
    _TO_DEAD
    + f"""
local pending = redis.call('XPENDING', KEYS[1], '{_GROUP}', ARGV[1], ARGV[1], 1)[1]
if not pending or pending[4] ~= tonumber(ARGV[2]) then return 0 end
if pending[4] >= tonumber(ARGV[5]) then
  bury(ARGV[1], redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1][2], pending[4], ARGV[4])
else
  redis.call('XCLAIM', KEYS[1], '{_GROUP}', '{_WORKER}', 0, ARGV[1], 'IDLE', ARGV[3], 'JUSTID')
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
end
return 1
"""
)
# KEYS: stream, reasons, dead. Answers jobs, jobs ever handed out and not finished, of these given back, dead.
_COUNTS = f"""
local pending = redis.pcall('XPENDING', KEYS[1], '{_GROUP}')
local count = (pending.err and 0) or pending[1]
return {{redis.call('XLEN', KEYS[1]), count, redis.call('HLEN', KEYS[2]), redis.call('XLEN', KEYS[3])}}
"""
# KEYS: stream, reasons, dead, the id of this key. ARGV: id.
_REMOVE = f"""
redis.pcall('XACK', KEYS[1], '{_GROUP}', ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('XDEL', KEYS[1], ARGV[1]) end
redis.call('HDEL', KEYS[2], ARGV[1])
for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '-', '+')) do
  if entry[2][10] == ARGV[1] then redis.call('XDEL', KEYS[3], entry[1]) end
end
return redis.call('DEL', KEYS[4])
"""
# KEYS: stream, reasons, dead. ARGV: most. Answers id, key, payload, tries, state, reason of each.
_JOBS = f"""
local out = {{}}
for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', ARGV[1])) do
  local f = entry[2]
  out[#out + 1] = {{f[10], f[2], f[4], tonumber(f[6]), 'dead', f[8]}}
end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])) do
  local pending = redis.pcall('XPENDING', KEYS[1], '{_GROUP}', entry[1], entry[1], 1)
  local one = (not pending.err) and pending[1] or nil
  local reason = redis.call('HGET', KEYS[2], entry[1])
  out[#out + 1] = {{entry[1], entry[2][2], entry[2][4], one and one[4] or 0, (one and not reason) and 'taken' or 'waiting', reason or ''}}
end
local t = redis.call('TIME')
return {{tonumber(t[1]) * 1000, out}}
"""


class RedisQueue:
    """As durable as the server: with `appendonly yes`, what `put` returned for survives it. Leases are at most a day."""

    blocks = True

    def __init__(self, url: str, *, namespace: str = "", max_jobs: int = MAX_JOBS, timeout_s: float = 1.0) -> None:
        self._link = RedisLink(url, timeout_s=timeout_s)
        self._prefix, self._max_jobs = f"{{{namespace or self._link.address.namespace}}}:queue", max_jobs

    def put(self, key: str, payload: bytes) -> str:
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise StateError(f"a job of {len(payload)} bytes is more than {MAX_PAYLOAD_BYTES}")
        raw = key.encode("utf-8", "surrogatepass")
        try:
            found: bytes = self._link.run(_PUT, [self._known(raw), self._prefix], [self._max_jobs, raw, payload])
        except StateError as error:
            if "FULL" in str(error):
                raise StateError(f"the queue is full: {str(error).rpartition(' ')[2]} jobs") from error
            raise
        return found.decode()

    def take(self, *, lease_s: float, most: int = 1) -> tuple[Job, ...]:
        rows = self._link.run(_TAKE, self._keys, [_idle_ms(lease_s), most, MAX_TRIES])
        return tuple(_job([*row, b"taken", b""], None) for row in rows)

    def done(self, job: Job) -> None:
        raw = job.key.encode("utf-8", "surrogatepass")
        self._link.run(_DONE, [*self._keys[:2], self._known(raw)], [job.id, int(REMEMBER_S * 1000)])

    def again(self, job: Job, *, after_s: float, reason: str) -> None:
        text = reason[:500].encode("utf-8", "replace")
        self._link.run(_AGAIN, self._keys, [job.id, job.tries, _idle_ms(after_s), text, MAX_TRIES])

    def counts(self) -> Counts:
        kept, pending, back, dead = (int(item) for item in self._link.run(_COUNTS, self._keys, []))
        return Counts(waiting=kept - pending + back, taken=pending - back, dead=dead)

    def jobs(self, most: int) -> tuple[Job, ...]:
        now_ms, rows = self._link.run(_JOBS, self._keys, [most])
        found = sorted((_job(row, now_ms) for row in rows), key=lambda job: [int(part) for part in job.id.split("-")])
        return tuple(found[:most])

    def remove(self, job: Job) -> None:
        self._link.run(_REMOVE, [*self._keys, self._known(job.key.encode("utf-8", "surrogatepass"))], [job.id])

    def close(self) -> None:
        self._link.close()

    @property
    def _keys(self) -> list[str]:
        return [self._prefix, f"{self._prefix}:again", f"{self._prefix}:dead"]

    def _known(self, key: bytes) -> str:
        import hashlib

        return f"{self._prefix}:key:{hashlib.sha256(key).hexdigest()}"


def _idle_ms(wait_s: float) -> int:
    """How idle an entry must be counted to be so that it may be taken again in `wait_s` seconds."""
    return max(0, _IDLE_MS - int(wait_s * 1000))


def _job(row: Sequence[Any], now_ms: int | None) -> Job:
    raw_id, key, payload, tries, state, reason = row
    name = raw_id.decode()
    made_ms = int(name.partition("-")[0])
    import time

    now = time.time() * 1000 if now_ms is None else now_ms
    states: dict[bytes, JobState] = {b"taken": "taken", b"waiting": "waiting", b"dead": "dead"}
    return Job(id=name, key=key.decode("utf-8", "surrogatepass"), payload=payload, tries=int(tries), waited_s=max(0.0, (now - made_ms) / 1000),
               state=states[state], reason=reason.decode("utf-8", "replace"), lease=str(tries))  # fmt: skip
