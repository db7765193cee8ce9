-- Decisions on limits, in the order in which they were asked for. The rules are those of
-- _limit_bucket.py; times are microseconds of this server's clock.
--
-- KEYS: the states, and the deadlines of reservations. ARGV[1]: a MessagePack list of operations
--   {"t", keys, demands, lease, lease_us, enforce}  take: {0, remaining, reset_us, wait_us, ...} for
--                                                   each demand, or {1, remaining, reset_us, ...}
--   {"r", keys, demands, lease, lease_us}           renew: {}
--   {"s", keys, demands, lease}                     settle: {}
-- each answered by an array; the reply is a MessagePack list of them. keys are places in KEYS. A demand is {state, deadlines, amount,
-- window_us, burst, cost, held}: state and deadlines are places in keys (0: none), burst is -1 where
-- it is the amount, and window_us is 0 for slots. A wait of -1 has no end; a time of -1 is a wait
-- for nothing.
--
-- A state is a hash: "s" holds the packed numbers, "e<n>" entry n of the log (its last time and its
-- amount), "l<lease>" a reservation (its amount, its entry and its number), "d" the rows of
-- _limit_dips.py. Deadlines, and slots, are sorted sets of leases by the time at which they run out.

local GRAINS = 512
local SPARE = 1000000 -- a clock that went back by less stands still; keys live longer by this
local MOST_ROWS = 128
local STATE, LEASE = ">dddddddddddd", ">ddd"

local time = redis.call("TIME")
local clock = time[1] * 1000000 + time[2]
local loaded, order = {}, {}
local places -- the keys of the operation at hand

local function state_key(demand) return KEYS[places[demand[1]]] end

local function deadlines_key(demand)
  return demand[2] > 0 and KEYS[places[demand[2]]] or nil
end

local function entry(b, n)
  if n == b.tail then return b.last, b.open end
  local packed = b.set[n] or redis.call("HGET", b.key, "e" .. n)
  if not packed then return 0, 0 end
  return struct.unpack(">dd", packed)
end

local function forget(b, n)
  b.set[n] = nil
  b.gone[#b.gone + 1] = "e" .. n
end

-- Take entries off that have come back.
local function expire(b)
  local horizon = b.now - b.window
  while b.open > 0 and b.oldest <= horizon do
    b.dirty = true
    if b.last <= horizon then
      for n = b.head, b.tail - 1 do forget(b, n) end
      -- A number is not used again: a reservation may still name an entry that has come back.
      b.tail = b.tail + 1
      b.head, b.open = b.tail, 0
    else
      local _, amount = entry(b, b.head)
      b.used = b.used - amount
      forget(b, b.head)
      b.head = b.head + 1
      b.oldest = entry(b, b.head)
    end
  end
  if b.open == 0 then b.used = 0 end
end

-- How far the debt has sunk since each reservation: rows of {number, least debt since}, as in
-- _limit_dips.py.
local function dips(b)
  if not b.rows then
    b.packed_rows = redis.call("HGET", b.key, "d")
    b.rows = b.packed_rows and cmsgpack.unpack(b.packed_rows) or {}
  end
  return b.rows
end

local function note_dip(b)
  local rows = dips(b)
  local first
  while #rows > 0 and rows[#rows][2] >= b.debt do first = table.remove(rows)[1] end
  if first then rows[#rows + 1] = {first, b.debt} end
end

local function number_of(b)
  local rows = dips(b)
  b.latest = b.latest + 1
  rows[#rows + 1] = {b.latest, b.debt}
  if #rows > MOST_ROWS then
    local kept = {}
    for i = 1, #rows, 2 do kept[#kept + 1] = rows[i] end
    b.rows = kept
  end
  return b.latest
end

local function give_back_debt(b, amount, number)
  local rows = dips(b)
  local place = #rows
  while place > 0 and rows[place][1] > number do place = place - 1 end
  if place == 0 then return end
  local back = math.max(0, math.min(amount * b.window, rows[place][2], b.debt))
  if back == 0 then return end
  b.debt = b.debt - back
  for i = place, #rows do rows[i][2] = rows[i][2] - back end
  while place > 1 and rows[place - 1][2] >= rows[place][2] do
    rows[place - 1][2] = rows[place][2]
    table.remove(rows, place)
    place = place - 1
  end
end

local function forget_dips(b)
  if not b.plain and #dips(b) > 0 and redis.call("ZCARD", b.deadlines) == 0 then b.rows = {} end
end

local function give_back(b, amount, n, number)
  if not b.plain then give_back_debt(b, amount, number) end
  if b.open == 0 or n < b.head or n > b.tail then return end
  local last, there = entry(b, n)
  amount = math.min(amount, there)
  b.used = b.used - amount
  if n < b.tail then
    b.set[n] = struct.pack(">dd", last, there - amount)
    return
  end
  b.open = there - amount
  -- An empty entry at the end would put off the time at which the limit is whole again.
  while b.open == 0 and b.head < b.tail do
    local before = b.tail - 1
    local last, amount = entry(b, before)
    forget(b, before)
    b.tail, b.first, b.last, b.open = before, 0, last, amount
  end
end

-- Let reservations come back whose lease has run out.
local function lapse(b)
  if b.lapse == 0 or b.lapse > b.now or not b.deadlines then return end
  b.dirty = true
  for _, lease in ipairs(redis.call("ZRANGEBYSCORE", b.deadlines, "-inf", b.now)) do
    local packed = redis.call("HGET", b.key, "l" .. lease)
    if packed then
      give_back(b, struct.unpack(LEASE, packed))
      redis.call("HDEL", b.key, "l" .. lease)
    end
  end
  redis.call("ZREMRANGEBYSCORE", b.deadlines, "-inf", b.now)
  forget_dips(b)
  local first = redis.call("ZRANGE", b.deadlines, 0, 0, "WITHSCORES")
  b.lapse = tonumber(first[2]) or 0
end

local function advance(b)
  if clock < b.stamp - SPARE then
    -- The clock was set back: all that was taken counts as taken now, and returns a window later.
    for n = b.head, b.tail - 1 do forget(b, n) end
    b.tail = b.tail + 1
    b.head, b.open, b.first, b.last, b.oldest = b.tail, b.used, clock, clock, clock
    b.stamp, b.dirty = clock, true
  end
  b.now = math.max(clock, b.stamp)
  expire(b)
  b.debt = math.max(0, b.debt - (b.now - b.stamp) * b.amount)
  b.stamp = b.now
  lapse(b)
end

local function load(demand)
  local key, window, amount, burst = state_key(demand), demand[4], demand[3], demand[5]
  if burst < 0 or amount == 0 then burst = amount end
  local b = loaded[key]
  if not b then
    b = {
      key = key, stamp = clock, used = 0, head = 0, tail = 0, first = 0, last = 0, open = 0,
      oldest = 0, debt = 0, lapse = 0, keep = 0, latest = 0, ends = 0, gone = {}, set = {},
      dirty = false,
    }
    loaded[key] = b
    order[#order + 1] = b
    local state = redis.call("HGET", key, "s")
    if state then
      b.stamp, b.used, b.head, b.tail, b.first, b.last, b.open, b.oldest, b.debt, b.lapse, b.keep,
        b.latest = struct.unpack(STATE, state)
    end
  end
  b.deadlines = deadlines_key(demand)
  b.amount, b.window = amount, window
  b.plain, b.brim = burst == amount, burst * window
  b.capacity = burst
  b.most = burst <= amount and amount or math.huge
  advance(b)
  return b
end

local function lacks(b, cost) return b.debt + cost * b.window - b.brim end

local function affords(b, cost)
  if cost == 0 then return true end
  if b.used + cost > b.most or cost > b.capacity then return false end
  return b.plain or lacks(b, cost) < b.amount
end

local function wait(b, cost)
  if affords(b, cost) then return 0 end
  if cost > b.capacity then return -1 end
  local ready, excess, n = b.now, b.used + cost - b.most, b.head
  while excess > 0 and n <= b.tail do
    local last, amount = entry(b, n)
    ready, excess, n = last + b.window, excess - amount, n + 1
  end
  if not b.plain then ready = math.max(ready, b.now + math.ceil(lacks(b, cost) / b.amount)) end
  return ready - b.now
end

local function whole_at(b)
  local ready = b.open > 0 and b.last + b.window or b.now
  if b.debt > 0 and b.amount > 0 then
    ready = math.max(ready, b.now + math.ceil(b.debt / b.amount))
  end
  return ready
end

local function add(b, cost)
  b.dirty = true
  if not b.plain then
    note_dip(b)
    b.debt = math.min(b.debt + cost * b.window, b.brim + b.amount * b.window)
  end
  if b.most == math.huge then return end
  b.used = b.used + cost
  if b.open > 0 and b.now - b.first <= b.window / GRAINS then
    b.last, b.open = b.now, b.open + cost
  else
    if b.open > 0 then
      b.set[b.tail] = struct.pack(">dd", b.last, b.open)
      b.tail = b.tail + 1
    end
    b.first, b.last, b.open = b.now, b.now, cost
  end
  if b.head == b.tail then b.oldest = b.last end
end

local function hold(b, lease, amount, deadline)
  local number = b.plain and 0 or number_of(b)
  redis.call("HSET", b.key, "l" .. lease, struct.pack(LEASE, amount, b.tail, number))
  redis.call("ZADD", b.deadlines, deadline, lease)
  if b.lapse == 0 or deadline < b.lapse then b.lapse = deadline end
  b.ends, b.held = math.max(b.ends, deadline), true
end

local function save(b)
  local ready = math.max(whole_at(b), b.ends)
  if b.packed_rows and #b.rows == 0 then b.gone[#b.gone + 1] = "d" end
  if #b.gone > 0 then redis.call("HDEL", b.key, unpack(b.gone)) end
  local prolong = ready + SPARE > b.keep
  if prolong then b.keep = ready + SPARE + math.floor(b.window / 8) end
  local fields = {"s", struct.pack(STATE, b.stamp, b.used, b.head, b.tail, b.first, b.last, b.open,
    b.oldest, b.debt, b.lapse, b.keep, b.latest)}
  if b.rows and #b.rows > 0 then
    fields[#fields + 1] = "d"
    fields[#fields + 1] = cmsgpack.pack(b.rows)
  end
  for n, packed in pairs(b.set) do
    fields[#fields + 1] = "e" .. n
    fields[#fields + 1] = packed
  end
  redis.call("HSET", b.key, unpack(fields))
  local until_ms = math.ceil(b.keep / 1000)
  if prolong then redis.call("PEXPIREAT", b.key, until_ms) end
  if b.held or (prolong and b.lapse > 0 and b.deadlines) then
    redis.call("PEXPIREAT", b.deadlines, until_ms)
  end
end

-- Slots.

local function latest(key)
  return tonumber(redis.call("ZRANGE", key, -1, -1, "WITHSCORES")[2])
end

-- Nothing is written before something is taken: a full server is to refuse that.
local function slots(demand)
  local key, amount = state_key(demand), demand[3]
  local used = redis.call("ZCOUNT", key, string.format("(%.0f", clock), "+inf")
  local b = {key = key, slots = true, amount = amount, used = used, wait = 0}
  if demand[6] > 0 and used >= amount then
    b.wait = -1
    if amount > 0 then
      local place = redis.call("ZCARD", key) - amount
      b.wait = tonumber(redis.call("ZRANGE", key, place, place, "WITHSCORES")[2]) - clock
    end
  end
  return b
end

local function occupy(b, lease, deadline)
  redis.call("ZADD", b.key, deadline, lease)
  redis.call("ZREMRANGEBYSCORE", b.key, "-inf", clock)
  redis.call("PEXPIREAT", b.key, math.ceil((latest(b.key) + SPARE) / 1000))
  b.used = b.used + 1
end

-- Operations.

local function take(demands, lease, lease_us, enforce)
  local found, admitted = {}, true
  for i, demand in ipairs(demands) do
    local b
    if demand[4] == 0 then
      b = slots(demand)
      admitted = admitted and b.wait == 0
    else
      b = load(demand)
      admitted = admitted and affords(b, demand[6])
    end
    found[i] = b
  end
  local reply = {admitted and 1 or 0}
  for i, demand in ipairs(demands) do
    local b, cost = found[i], demand[6]
    local waits = 0
    if not admitted then waits = b.slots and b.wait or b.slots == nil and wait(b, cost) end
    local reset = 0
    local left
    if b.slots then
      if cost > 0 and (admitted or not enforce) then occupy(b, lease, clock + lease_us) end
      if b.used > 0 then reset = latest(b.key) - clock end
      left = b.amount - b.used
    else
      if cost > 0 and (admitted or not enforce) then
        add(b, cost)
        if demand[7] then hold(b, lease, cost, b.now + lease_us) end
      end
      reset = whole_at(b) - b.now
      left = b.most - b.used
      if not b.plain then left = math.min(left, math.floor((b.brim - b.debt) / b.window)) end
    end
    reply[#reply + 1] = math.max(0, left)
    reply[#reply + 1] = reset
    if not admitted then reply[#reply + 1] = waits end
  end
  return reply
end

local function renew(demands, lease, lease_us)
  for _, demand in ipairs(demands) do
    local key, deadlines, deadline = state_key(demand), nil, clock + lease_us
    if demand[4] == 0 then
      deadlines = key
    else
      local b = load(demand)
      deadlines, deadline = b.deadlines, b.now + lease_us
      if redis.call("HEXISTS", key, "l" .. lease) == 1 then
        b.ends, b.held, b.dirty = math.max(b.ends, deadline), true, true
        b.lapse = math.min(b.lapse, deadline)
      end
    end
    local score = tonumber(redis.call("ZSCORE", deadlines, lease) or 0)
    if score > clock then
      redis.call("ZADD", deadlines, "XX", deadline, lease)
      if demand[4] == 0 then
        redis.call("PEXPIREAT", key, math.ceil((latest(key) + SPARE) / 1000))
      end
    end
  end
  return {}
end

local function settle(demands, lease)
  for _, demand in ipairs(demands) do
    if demand[4] == 0 then
      redis.call("ZREM", state_key(demand), lease)
    else
      local b, cost, reserved = load(demand), demand[6], 0
      local packed = redis.call("HGET", b.key, "l" .. lease)
      if packed then
        local n, number
        reserved, n, number = struct.unpack(LEASE, packed)
        redis.call("HDEL", b.key, "l" .. lease)
        redis.call("ZREM", b.deadlines, lease)
        b.dirty = true
        if cost < reserved then give_back(b, reserved - cost, n, number) end
        forget_dips(b)
      end
      if cost > reserved then add(b, cost - reserved) end
    end
  end
  return {}
end

local operations = {t = take, r = renew, s = settle}
local replies = {}
for i, operation in ipairs(cmsgpack.unpack(ARGV[1])) do
  places = operation[2]
  replies[i] = operations[operation[1]](operation[3], operation[4], operation[5], operation[6])
end
for _, b in ipairs(order) do
  if b.dirty then save(b) end
end
return cmsgpack.pack(replies)
