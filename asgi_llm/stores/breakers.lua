-- Breakers of many targets. The rules are those of _circuit.py; times are microseconds of this
-- server's clock.
--
-- KEYS: the hash of those that are not closed, and the windows of the others. ARGV[1]: a
-- MessagePack list of operations, each with places in KEYS: {name, hash, terms, ...}, where terms are
-- {slice, failures, minimum_calls, rate, cool_down, max_cool_down, jitter, trial}:
--   {"y", hash, terms, {window, target, calls, ...}}                             count answers
--   {"f", hash, terms, window, target, lease, calls, counts, cool_down, random}  a call failed
--   {"c", hash, terms, window, target, lease}                                    claim a trial
--   {"s", hash, terms, window, target, lease}                                    it went well
--   {"r", hash, terms, window, target, lease}                                    no outcome
-- "y" is answered by {target, wait, busy, ...} for all that are not closed: until the cool-down
-- ends, and until the trial under way is given up. The others by {outcome, wait, busy}: 0 closed,
-- 1 not closed, 2 the lease was given. The reply is a MessagePack list of them.

local SLICES = 10
local FORGET = 3600000000
local MOST_TRIPS = 32

local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]

local function unpacked_open(packed)
  local trips, closed_at, until_, lease, lease_until = unpack(cmsgpack.unpack(packed))
  if now >= until_ + FORGET then return nil end
  return {open = true, trips = trips, closed_at = closed_at, until_ = until_, lease = lease,
          lease_until = lease_until, slices = {}}
end

local function load(hash, window, target)
  local packed = redis.call("HGET", hash, target)
  local circuit
  if packed then
    circuit = unpacked_open(packed)
  else
    packed = redis.call("GET", window)
    if packed then
      local trips, closed_at, slices = unpack(cmsgpack.unpack(packed))
      circuit = {trips = trips, closed_at = closed_at, slices = slices}
    end
  end
  circuit = circuit or {trips = 0, closed_at = 0, slices = {}}
  circuit.hash, circuit.window, circuit.target = hash, window, target
  return circuit
end

local function save(c, terms)
  if c.open then
    redis.call("HSET", c.hash, c.target,
      cmsgpack.pack({c.trips, c.closed_at, c.until_, c.lease, c.lease_until}))
    redis.call("DEL", c.window)
    local keep = math.ceil((c.until_ - now + FORGET) / 1000)
    redis.call("PEXPIRE", c.hash, math.max(keep, redis.call("PTTL", c.hash)))
  else
    redis.call("HDEL", c.hash, c.target)
    local keep = math.max(SLICES * terms[1], terms[6])
    redis.call("SET", c.window, cmsgpack.pack({c.trips, c.closed_at, c.slices}),
      "PX", math.ceil(keep / 1000))
  end
end

-- slices: {number, calls, failures, number, ...}
local function count(c, terms, calls, failures)
  local number = math.floor(now / terms[1])
  local slices, size = c.slices, #c.slices
  if size > 0 and slices[size - 2] >= number then
    slices[size - 1] = slices[size - 1] + calls
    slices[size] = slices[size] + failures
    return
  end
  local kept = {}
  for at = 1, size, 3 do
    if slices[at] > number - SLICES then
      for field = at, at + 2 do kept[#kept + 1] = slices[field] end
    end
  end
  kept[#kept + 1], kept[#kept + 2], kept[#kept + 3] = number, calls, failures
  c.slices = kept
end

local function open(c, terms, tripped, cool_down, random)
  if tripped then
    c.trips = math.min(c.trips + 1, MOST_TRIPS)
    local whole = math.min(terms[5] * 2 ^ (c.trips - 1), terms[6])
    cool_down = math.max(cool_down, math.floor(whole * (1 - terms[7] * random)))
  end
  c.until_ = now + cool_down
end

local function fail(c, terms, lease, calls, counts, cool_down, random)
  if c.open then
    if lease ~= "" and lease == c.lease then
      c.lease = ""
      open(c, terms, counts, cool_down, random)
    elseif cool_down > 0 then
      c.until_ = math.max(c.until_, now + cool_down)
    end
    return
  end
  local one = counts and 1 or 0
  count(c, terms, calls + one, one)
  local total, failed = 0, 0
  for at = 1, #c.slices, 3 do
    total, failed = total + c.slices[at + 1], failed + c.slices[at + 2]
  end
  local tripped = counts and failed >= terms[2] and total >= terms[3] and failed >= terms[4] * total
  if tripped or cool_down > 0 then
    if now - c.closed_at >= terms[6] then c.trips = 0 end
    c.open, c.lease, c.lease_until, c.slices = true, "", 0, {}
    open(c, terms, tripped, cool_down, random)
  end
end

local function claim(c, terms, lease)
  if not c.open or now < c.until_ or (c.lease ~= "" and now < c.lease_until) then return false end
  c.lease, c.lease_until = lease, now + terms[8]
  return true
end

local function standing(c)
  local busy = c.lease ~= "" and math.max(0, c.lease_until - now) or 0
  return math.max(0, c.until_ - now), busy
end

local function count_and_list(hash, terms, answers)
  for at = 1, #answers, 3 do
    local c = load(hash, KEYS[answers[at]], answers[at + 1])
    if not c.open then
      count(c, terms, answers[at + 2], 0)
      save(c, terms)
    end
  end
  local found = redis.call("HGETALL", hash)
  local reply = {}
  for at = 1, #found, 2 do
    local c = unpacked_open(found[at + 1])
    if c then
      local wait, busy = standing(c)
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = found[at], wait, busy
    else
      redis.call("HDEL", hash, found[at])
    end
  end
  return reply
end

local function run(operation)
  local name, hash, terms = operation[1], KEYS[operation[2]], operation[3]
  if name == "y" then return count_and_list(hash, terms, operation[4]) end
  local c = load(hash, KEYS[operation[4]], operation[5])
  local lease, given = operation[6], false
  if name == "f" then
    fail(c, terms, lease, operation[7], operation[8], operation[9], operation[10])
    save(c, terms)
  elseif name == "c" then
    given = claim(c, terms, lease)
    if given then save(c, terms) end
  elseif c.open and lease == c.lease then
    c.lease = ""
    if name == "s" then c.open, c.closed_at = nil, now end
    save(c, terms)
  end
  if not c.open then return {0, 0, 0} end
  return {given and 2 or 1, standing(c)}
end

local replies = {}
for place, operation in ipairs(cmsgpack.unpack(ARGV[1])) do replies[place] = run(operation) end
return cmsgpack.pack(replies)
