-- One step of a semantic index; all of it happens, or nothing.
--
-- KEYS[1]  what every key begins with, up to and with the hash tag
-- ARGV[1]  the step: add, drop, touch, learn or clean
--
-- p<partition>  vector set of ids                  u<partition>  ids by last use
-- e<id>         hash: the entry                    names         "id partition", all of score 0
-- ends          "id partition" by expiry           uses          "id partition" by last use

local start = KEYS[1]
local step = ARGV[1]

local function drop(member)
  local id, partition = string.match(member, "^(%S+) (%S+)$")
  local vectors = start .. "p" .. partition
  redis.call("VREM", vectors, id)
  if redis.call("VCARD", vectors) == 0 then
    redis.call("DEL", vectors)
  end
  redis.call("ZREM", start .. "u" .. partition, id)
  redis.call("ZREM", start .. "names", member)
  redis.call("ZREM", start .. "ends", member)
  redis.call("ZREM", start .. "uses", member)
  return redis.call("DEL", start .. "e" .. id)
end

local function clean(now)
  for _, member in ipairs(redis.call("ZRANGEBYSCORE", start .. "ends", "-inf", now, "LIMIT", 0, 100)) do
    drop(member)
  end
end

local function lives(entry, now)
  local expires = redis.call("HGET", entry, "expires")
  return expires and (expires == "inf" or tonumber(expires) > tonumber(now))
end

if step == "add" then
  local id, partition, expires, last_used = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
  local most_in_partition, most, now, vector = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9]
  local member = id .. " " .. partition
  local evicted = 0
  clean(now)
  for _, old in ipairs(redis.call("ZRANGEBYLEX", start .. "names", "[" .. id .. " ", "(" .. id .. "!")) do
    drop(old)
  end
  while redis.call("ZCARD", start .. "u" .. partition) >= most_in_partition do
    drop(redis.call("ZRANGE", start .. "u" .. partition, 0, 0)[1] .. " " .. partition)
    evicted = evicted + 1
  end
  while most > 0 and redis.call("ZCARD", start .. "uses") >= most do
    drop(redis.call("ZRANGE", start .. "uses", 0, 0)[1])
    evicted = evicted + 1
  end
  redis.call("VADD", start .. "p" .. partition, "FP32", vector, id, "NOQUANT")
  redis.call("HSET", start .. "e" .. id, unpack(ARGV, 10))
  redis.call("ZADD", start .. "u" .. partition, last_used, id)
  redis.call("ZADD", start .. "names", 0, member)
  redis.call("ZADD", start .. "uses", last_used, member)
  if expires ~= "inf" then
    -- By how long it has left: the clock of whoever asks may not be that of Redis.
    local left = math.max(1, math.ceil((tonumber(expires) - tonumber(now)) * 1000))
    redis.call("PEXPIRE", start .. "e" .. id, string.format("%.0f", left))
    redis.call("ZADD", start .. "ends", expires, member)
  end
  return evicted
end

if step == "drop" then
  local dropped = 0
  for place = 2, #ARGV do
    dropped = dropped + drop(ARGV[place])
  end
  return dropped
end

if step == "touch" then
  local id, now = ARGV[2], ARGV[3]
  local entry = start .. "e" .. id
  if not lives(entry, now) then
    return 0
  end
  local partition = redis.call("HGET", entry, "partition")
  redis.call("HINCRBY", entry, "uses", 1)
  if tonumber(now) > tonumber(redis.call("HGET", entry, "last_used")) then
    redis.call("HSET", entry, "last_used", now)
  end
  redis.call("ZADD", start .. "u" .. partition, "XX", "GT", now, id)
  redis.call("ZADD", start .. "uses", "XX", "GT", now, id .. " " .. partition)
  return 1
end

if step == "learn" then
  local entry = start .. "e" .. ARGV[2]
  if redis.call("HGET", entry, "version") ~= ARGV[3] or not lives(entry, ARGV[5]) then
    return 0
  end
  redis.call("HSET", entry, "learning", ARGV[4])
  redis.call("HINCRBY", entry, "version", 1)
  return 1
end

clean(ARGV[2])
return 0
