-- Operations on cached answers, each a list whose first element is its letter; all key names are
-- places in KEYS. An entry is the time at which it was made and how long it is fresh, as two
-- doubles of milliseconds, and then what the caller wants kept. Every partition has an index: a
-- sorted set of its entries by when they run out; and one sorted set has all partitions.

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function read(key)
  local value = redis.call("GET", KEYS[key])
  if not value or #value < 16 then
    return false, 0, 0
  end
  local made, fresh = struct.unpack(">dd", value)
  return value, now - made, fresh
end

local function release(key, owner)
  if key > 0 and redis.call("GET", KEYS[key]) == owner then
    redis.call("DEL", KEYS[key])
  end
end

local operations = {}

-- get, {entries} -> {{value, age}, ...}
function operations.g(entries)
  local found = {}
  for at, key in ipairs(entries) do
    local value, age = read(key)
    found[at] = {value, age}
  end
  return found
end

-- claim, entry, lease, owner, lease ms, oldest ms or -1 -> {value, age, leased}
function operations.c(entry, lease, owner, lease_ms, oldest)
  local value, age, fresh = read(entry)
  if value and age <= fresh and (oldest < 0 or age <= oldest) then
    return {value, age, 0}
  end
  return {value, age, operations.t(lease, owner, lease_ms)}
end

-- take, lease, owner, lease ms -> leased
function operations.t(lease, owner, lease_ms)
  return redis.call("SET", KEYS[lease], owner, "NX", "PX", lease_ms) and 1 or 0
end

-- renew, lease, owner, lease ms
function operations.r(lease, owner, lease_ms)
  if redis.call("GET", KEYS[lease]) == owner then
    redis.call("PEXPIRE", KEYS[lease], lease_ms)
  end
  return 1
end

-- release, lease, owner
function operations.x(lease, owner)
  release(lease, owner)
  return 1
end

-- set, {{entry, index, scope, member, fresh ms, keep ms, blob}, ...}, age ms, scopes, lease or 0, owner
function operations.s(entries, age, scopes, lease, owner)
  for _, one in ipairs(entries) do
    local entry, index, scope, member, fresh, keep, blob = unpack(one)
    local left = math.floor(keep - age)
    if left > 0 then
      local gone = now + left
      redis.call("SET", KEYS[entry], struct.pack(">dd", now - age, fresh) .. blob, "PX", left)
      redis.call("ZREMRANGEBYSCORE", KEYS[index], "-inf", now)
      redis.call("ZADD", KEYS[index], gone, member)
      if redis.call("PTTL", KEYS[index]) < left then
        redis.call("PEXPIRE", KEYS[index], left)
      end
      local known = redis.call("ZSCORE", KEYS[scopes], scope)
      if not known or tonumber(known) < gone then
        redis.call("ZREMRANGEBYSCORE", KEYS[scopes], "-inf", now)
        redis.call("ZADD", KEYS[scopes], gone, scope)
        if redis.call("PTTL", KEYS[scopes]) < left then
          redis.call("PEXPIRE", KEYS[scopes], left)
        end
      end
    end
  end
  release(lease, owner)
  return 1
end

-- delete, {entries} -> how many there were
function operations.d(entries)
  local gone = 0
  for _, key in ipairs(entries) do
    gone = gone + redis.call("DEL", KEYS[key])
  end
  return gone
end

-- Sorted sets are walked with ZSCAN: by rank, what others write between two steps moves what is
-- still to come. It may give a member twice. The cursor stays a text: not every number fits it.

-- list partitions, scopes, cursor, count -> {next cursor, {scope, ...}}; after the last step it is 0
function operations.l(scopes, cursor, count)
  local page = redis.call("ZSCAN", KEYS[scopes], cursor, "COUNT", count)
  local found = {}
  for at = 1, #page[2], 2 do
    if tonumber(page[2][at + 1]) >= now then
      found[#found + 1] = page[2][at]
    end
  end
  return {page[1], found}
end

-- count, {indexes} -> how many entries they have
function operations.n(indexes)
  local total = 0
  for _, index in ipairs(indexes) do
    total = total + redis.call("ZCOUNT", KEYS[index], now, "+inf")
  end
  return total
end

-- purge, index, where entries begin, cursor, count, wanted, older than ms or -1
-- -> {next cursor, purged}; wanted is {namespace, model, writer}, with false for any
function operations.p(index, start, cursor, count, wanted, older)
  local page = redis.call("ZSCAN", KEYS[index], cursor, "COUNT", count)
  local purged = 0
  for at = 1, #page[2], 2 do
    local member = page[2][at]
    local parts = cmsgpack.unpack(member)
    local fits = true
    for place = 1, 3 do
      if wanted[place] and wanted[place] ~= parts[place + 1] then
        fits = false
      end
    end
    local key = start .. parts[1]
    if fits and older >= 0 then
      local made = redis.call("GETRANGE", key, 0, 7)
      fits = #made == 8 and now - struct.unpack(">d", made) > older
    end
    if fits then
      purged = purged + redis.call("DEL", key)
      redis.call("ZREM", KEYS[index], member)
    end
  end
  return {page[1], purged}
end

local answers = {}
for at, operation in ipairs(cmsgpack.unpack(ARGV[1])) do
  answers[at] = operations[operation[1]](unpack(operation, 2))
end
return answers
