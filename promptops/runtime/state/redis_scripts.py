"""The Lua scripts of a state in Redis: each one step, so that nothing comes between reading and counting."""

from promptops.runtime.state.base import BUCKETS

NOW = """
local now = ARGV[1]
if now == '' then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1000000
else
  now = tonumber(now)
end
"""
# ARGV: now, lease_s, pass_soft, id, known memory, then amount, limit, soft, window_s for each of the meters. The last two keys hold
# open grants, and the id of the memory: a server that lost it is told what was counted before it grants again.
RESERVE = (
    NOW
    + f"""
local BUCKETS = {BUCKETS}
local holds = #KEYS - 2
local open, memory = KEYS[#KEYS - 1], redis.call('HMGET', KEYS[#KEYS], 'id', 'until')
if ARGV[5] ~= '' and memory[1] ~= ARGV[5] then return {{2}} end
if memory[2] and tonumber(memory[2]) > now then return {{3}} end
if not memory[1] then
  memory[1] = ARGV[4]
  redis.call('HSET', KEYS[#KEYS], 'id', ARGV[4])
end
local totals, wanted, buckets = {{}}, {{}}, {{}}
for i = 1, holds do
  local key, at = KEYS[i], 5 + (i - 1) * 4
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
local answer = {{1, memory[1]}}
for i = 1, holds do
  local at = 5 + (i - 1) * 4
  local bucket = string.format('%.0f', buckets[i])
  redis.call('HINCRBY', KEYS[i], bucket, ARGV[at + 1])
  redis.call('EXPIRE', KEYS[i], math.ceil(tonumber(ARGV[at + 4]) * (BUCKETS + 1) / BUCKETS) + 1)
  answer[i + 2] = bucket
end
redis.call('ZREMRANGEBYSCORE', open, '-inf', now)
redis.call('ZADD', open, now + tonumber(ARGV[2]), ARGV[4])
return answer
"""
)
# ARGV: now, id, then bucket and correction for each of the meters.
SETTLE = (
    NOW
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
# KEYS: meters, the last the id of the memory. ARGV: now, an id for a memory that has none, part, seconds to wait for the other
# processes, then window_s, bucket and amount for each of the meters. A part is counted once in a memory.
RECOUNT = (
    NOW
    + f"""
local memory = KEYS[#KEYS]
redis.call('HSETNX', memory, 'id', ARGV[2])
redis.call('HSETNX', memory, 'until', now + tonumber(ARGV[4]))
if redis.call('HSETNX', memory, ARGV[3], 1) == 1 then
  for i = 1, #KEYS - 1 do
    local window, bucket = tonumber(ARGV[2 + i * 3]), ARGV[3 + i * 3]
    if tonumber(bucket) >= math.floor(now * {BUCKETS} / window) - {BUCKETS} then
      redis.call('HINCRBY', KEYS[i], bucket, ARGV[4 + i * 3])
      redis.call('EXPIRE', KEYS[i], math.ceil(window * ({BUCKETS} + 1) / {BUCKETS}) + 1)
    end
  end
end
return redis.call('HGET', memory, 'id')
"""
)
# KEYS: meter. ARGV: now, window_s.
USED = (
    NOW
    + f"""
local total, counts, oldest = 0, redis.call('HGETALL', KEYS[1]), math.floor(now * {BUCKETS} / tonumber(ARGV[2])) - {BUCKETS}
for j = 1, #counts, 2 do
  if tonumber(counts[j]) >= oldest then total = total + tonumber(counts[j + 1]) end
end
return string.format('%.0f', total)
"""
)
RESERVED = NOW + "return redis.call('ZCOUNT', KEYS[1], string.format('(%.6f', now), '+inf')"
# KEYS: entry. ARGV: now.
GET = (
    NOW
    + """
local found = redis.call('HMGET', KEYS[1], 'v', 'a', 'u')
if not found[1] then return false end
return {found[1], found[2], found[3], string.format('%.6f', now)}
"""
)
# KEYS: entry, its tags. ARGV: now, keep_s, value.
PUT = (
    NOW
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
INVALIDATE = """
local names, dropped = redis.call('ZPOPMIN', KEYS[1], 200), 0
for i = 1, #names, 2 do
  if redis.call('HEXISTS', names[i], KEYS[1]) == 1 then dropped = dropped + redis.call('DEL', names[i]) end
end
return {#names / 2, dropped}
"""
# KEYS: reports. ARGV: now, host, process, then place, age and seconds left of each. Answers place, host, process, age, left of the others.
BREAKERS = (
    NOW
    + """
local all, out = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local report = cjson.decode(all[i + 1])
  if report[3] == ARGV[3] or report[5] <= now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    out[#out + 1] = {report[1], report[2], report[3], string.format('%.3f', now - report[4]), string.format('%.3f', report[5] - now)}
  end
end
for i = 4, #ARGV, 3 do
  local at, left = now - tonumber(ARGV[i + 1]), now + tonumber(ARGV[i + 2])
  redis.call('HSET', KEYS[1], ARGV[3] .. ARGV[i], cjson.encode({ARGV[i], ARGV[2], ARGV[3], at, left}))
end
if #ARGV > 3 then redis.call('EXPIRE', KEYS[1], 3600) end
return out
"""
)
