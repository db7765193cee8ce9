-- Budgets, in the order in which they were asked for. The rules are those of budgets_memory.py; times
-- are microseconds of this server's clock. An amount is two numbers, whole USD and the pico-USD
-- beyond them, since a double alone is exact to 9,007 USD only.
--
-- KEYS: the accounts, and the deadlines of their leases. ARGV[1]: a MessagePack list of operations
--   {"t", demands, lease, usd, pico, lease_us, enforce}
--       reserve: {admitted, place or -1, spent usd, pico, reserved usd, pico, end, ...}
--   {"r", demands, lease, lease_us}             renew: {}
--   {"s", demands, lease, usd, pico, keep_us}   settle: {before usd, pico, after usd, pico, ...}
--   {"q", demands}                              look: {spent usd, pico, reserved usd, pico, end, ...}
-- A demand is {account, deadlines, limit usd, limit pico, hard, part_us, before, start, end, after}:
-- account and deadlines are places in KEYS; part_us is 0 but for rolling periods; the rest is where
-- periods begin by the clock of whoever asks, of which this server's clock picks one.
--
-- An account is a hash: "s" holds the packed numbers, "p<time>" what was spent in a part of a rolling
-- period, "l<lease>" a reservation (its period, its amount, and whether it is settled). Deadlines are
-- a sorted set of leases by the time at which they run out.

local PICO = 1000000000000
local PARTS = 720
local SPARE_MS = 3600000
local STATE, HOLD, AMOUNT = ">dddddddd", ">dddd", ">dd"

local time = redis.call("TIME")
local clock = time[1] * 1000000 + time[2]

local function plus(usd, pico, more_usd, more_pico)
  pico = pico + more_pico
  usd = usd + more_usd
  if pico >= PICO then return usd + 1, pico - PICO end
  return usd, pico
end

local function minus(usd, pico, less_usd, less_pico)
  pico = pico - less_pico
  usd = usd - less_usd
  if pico < 0 then return usd - 1, pico + PICO end
  return usd, pico
end

local function part(at) return string.format("p%.0f", at) end

local function period(demand)
  local length = demand[6]
  if length > 0 then
    local start = math.floor(clock / length) * length
    return start, start + length
  end
  if clock < demand[8] then return demand[7], demand[8] end
  if clock < demand[9] then return demand[8], demand[9] end
  return demand[9], demand[10]
end

-- Begin a new period. A clock that went back does not bring the old one back.
local function roll(a, start, finish)
  local last = a.start
  a.start, a.finish, a.changed = start, finish, true
  if a.length == 0 then
    a.spent_usd, a.spent_pico, a.held_usd, a.held_pico = 0, 0, 0, 0
    return
  end
  local horizon = start - PARTS * a.length
  while a.first < horizon and a.first <= last do
    local packed = redis.call("HGET", a.key, part(a.first))
    if packed then
      local usd, pico = struct.unpack(AMOUNT, packed)
      a.spent_usd, a.spent_pico = minus(a.spent_usd, a.spent_pico, usd, pico)
      redis.call("HDEL", a.key, part(a.first))
    end
    a.first = a.first + a.length
  end
  if a.first > last then a.first = start end
end

local function counts(a, start) return a.length > 0 or start == a.start end

local function lapse(a)
  a.changed = true
  for _, lease in ipairs(redis.call("ZRANGEBYSCORE", a.deadlines, "-inf", clock)) do
    local packed = redis.call("HGET", a.key, "l" .. lease)
    if packed then
      local start, usd, pico = struct.unpack(HOLD, packed)
      if counts(a, start) then
        a.held_usd, a.held_pico = minus(a.held_usd, a.held_pico, usd, pico)
      end
      redis.call("HDEL", a.key, "l" .. lease)
    end
    redis.call("ZREM", a.deadlines, lease)
  end
  local first = redis.call("ZRANGE", a.deadlines, 0, 0, "WITHSCORES")
  a.lapse = tonumber(first[2] or 0)
end

-- What this changes is to be saved by who asked for it, also where that changes nothing itself.
local function load(demand)
  local a = {key = KEYS[demand[1]], deadlines = KEYS[demand[2]], length = demand[6]}
  local start, finish = period(demand)
  local packed = redis.call("HGET", a.key, "s")
  if packed then
    a.start, a.finish, a.first, a.spent_usd, a.spent_pico, a.held_usd, a.held_pico, a.lapse =
      struct.unpack(STATE, packed)
    if start > a.start then roll(a, start, finish) end
    if a.lapse > 0 and a.lapse <= clock then lapse(a) end
  else
    a.start, a.finish, a.first, a.lapse = start, finish, start, 0
    a.spent_usd, a.spent_pico, a.held_usd, a.held_pico = 0, 0, 0, 0
  end
  return a
end

local function save(a)
  redis.call("HSET", a.key, "s", struct.pack(STATE, a.start, a.finish, a.first, a.spent_usd,
    a.spent_pico, a.held_usd, a.held_pico, a.lapse))
  local ends = a.finish
  if a.length > 0 then ends = a.start + (PARTS + 1) * a.length end
  if ends < 9000000000000000 then
    local left_ms = math.ceil(math.max(ends - clock, 0) / 1000) + SPARE_MS
    redis.call("PEXPIRE", a.key, left_ms)
    redis.call("PEXPIRE", a.deadlines, left_ms)
  end
end

local function hold(a, lease, start, usd, pico, settled, deadline)
  redis.call("HSET", a.key, "l" .. lease, struct.pack(HOLD, start, usd, pico, settled))
  redis.call("ZADD", a.deadlines, deadline, lease)
  if a.lapse == 0 or deadline < a.lapse then a.lapse = deadline end
end

local function status(a, reply)
  reply[#reply + 1] = a.spent_usd
  reply[#reply + 1] = a.spent_pico
  reply[#reply + 1] = a.held_usd
  reply[#reply + 1] = a.held_pico
  reply[#reply + 1] = a.finish
end

local function has_room(a, demand, usd, pico)
  if usd == 0 and pico == 0 then return true end
  usd, pico = plus(a.spent_usd, a.spent_pico, usd, pico)
  usd, pico = plus(usd, pico, a.held_usd, a.held_pico)
  return usd < demand[3] or (usd == demand[3] and pico <= demand[4])
end

local function reserve(demands, lease, usd, pico, lease_us, enforce)
  local found, place = {}, -1
  for i, demand in ipairs(demands) do
    local a = load(demand)
    found[i] = a
    if place < 0 and demand[5] and not has_room(a, demand, usd, pico) then place = i - 1 end
  end
  local reply = {place < 0 and 1 or 0, place}
  for _, a in ipairs(found) do
    status(a, reply)
    if place < 0 or not enforce then
      a.held_usd, a.held_pico = plus(a.held_usd, a.held_pico, usd, pico)
      hold(a, lease, a.start, usd, pico, 0, clock + lease_us)
      save(a)
    elseif a.changed then
      save(a)
    end
  end
  return reply
end

local function renew(demands, lease, lease_us)
  for _, demand in ipairs(demands) do
    local a = load(demand)
    local packed = redis.call("HGET", a.key, "l" .. lease)
    if packed then
      local start, usd, pico, settled = struct.unpack(HOLD, packed)
      if settled == 0 then hold(a, lease, start, usd, pico, 0, clock + lease_us) end
    end
    save(a)
  end
  return {}
end

local function spend(a, usd, pico)
  a.spent_usd, a.spent_pico = plus(a.spent_usd, a.spent_pico, usd, pico)
  if a.length > 0 and (usd > 0 or pico > 0) then
    local packed = redis.call("HGET", a.key, part(a.start))
    if packed then
      local had_usd, had_pico = struct.unpack(AMOUNT, packed)
      usd, pico = plus(usd, pico, had_usd, had_pico)
    end
    redis.call("HSET", a.key, part(a.start), struct.pack(AMOUNT, usd, pico))
  end
end

local function settle(demands, lease, usd, pico, keep_us)
  local reply = {}
  for _, demand in ipairs(demands) do
    local a = load(demand)
    reply[#reply + 1] = a.spent_usd
    reply[#reply + 1] = a.spent_pico
    local packed = redis.call("HGET", a.key, "l" .. lease)
    local start, settled = a.start, 0
    if packed then
      local held_usd, held_pico
      start, held_usd, held_pico, settled = struct.unpack(HOLD, packed)
      if settled == 0 and counts(a, start) then
        a.held_usd, a.held_pico = minus(a.held_usd, a.held_pico, held_usd, held_pico)
      end
    end
    if settled == 0 then
      if counts(a, start) then spend(a, usd, pico) end
      -- It stays for a while, so that a caller without an answer may settle it again.
      hold(a, lease, start, 0, 0, 1, clock + keep_us)
    end
    save(a)
    reply[#reply + 1] = a.spent_usd
    reply[#reply + 1] = a.spent_pico
  end
  return reply
end

local function look(demands)
  local reply = {}
  for _, demand in ipairs(demands) do
    local a = load(demand)
    status(a, reply)
    if a.changed then save(a) end
  end
  return reply
end

local operations = {t = reserve, r = renew, s = settle, q = look}
local replies = {}
for i, operation in ipairs(cmsgpack.unpack(ARGV[1])) do
  replies[i] = operations[operation[1]](unpack(operation, 2))
end
return replies
