-- What both scripts know of a rate limit, and how it goes on after a refusal. Put in front of each of them.
-- KEYS[1]: the limit, a hash. KEYS[2]: its answers, a hash of counts by second. KEYS[3]: its calls under way, a sorted
-- set by the time at which each is given up. ARGV[1]: a JSON object with the arguments of the script.
-- Times are µs since 1970: whole numbers below 2^53, exact in a double, but printed in full only by '%.0f'.
local SECOND, MINUTE, KEEP_MS = 1000000, 60000000, 3600000
local SHARE, CUT, MIN_RATE, MAX_RATE = 0.99, 0.8, 0.02, 1000
local PAUSE, MAX_PAUSE, GRACE, CAP_STEADY = 300000, 5000000, 1000000, 15
local args = cjson.decode(ARGV[1])
local now = args.now
if not now then
  local time = redis.call('TIME')
  now = time[1] * SECOND + time[2]
end

local state = {}
local kept = redis.call('HGETALL', KEYS[1])
for place = 1, #kept, 2 do
  state[kept[place]] = tonumber(kept[place + 1])
end
local rate = state.rate or args.requests_set and args.requests_set / 60 * SHARE or args.first_rate
-- `named`, kept as 'told': the share that is used of a limit that an answer named, or that was set, calls a second.
local named = args.requests_set and args.requests_set / 60 * SHARE or state.told
local changed = {}

local function keep(name, value)
  state[name] = value
  changed[name] = value or false
end

local function save()
  for name, value in pairs(changed) do
    if value then
      local whole = value == math.floor(value)
      redis.call('HSET', KEYS[1], name, whole and string.format('%.0f', value) or tostring(value))
    else
      redis.call('HDEL', KEYS[1], name)
    end
  end
  for place = 1, 3 do
    redis.call('PEXPIRE', KEYS[place], KEEP_MS)
  end
end

-- How many calls may be under way at once, nil if that is not known: as many as were last taken, and more after many
-- answers without a refusal.
local function most_calls()
  if args.calls_set or not state.cap then return args.calls_set end
  return math.floor(state.cap * (1 + ((state.cap_answers or 0) / (CAP_STEADY * state.cap)) ^ 3))
end

-- Calls that were taken in so many seconds before the last refusal, and in how many of them any were made or refused.
local function count_answers(horizon)
  local last, answers, seconds = math.floor(state.cut_at / SECOND), 0, 0
  local rows = redis.call('HGETALL', KEYS[2])
  for place = 1, #rows, 2 do
    local second = tonumber(rows[place])
    if second <= last - 60 then
      redis.call('HDEL', KEYS[2], rows[place])
    elseif second <= last and second > last - horizon then
      answers, seconds = answers + rows[place + 1], seconds + 1
    end
  end
  return answers, seconds
end

-- The provider takes calls again: from now on as many a second as it took, on average, while it was asked.
local function reopen()
  local refused_for = now - state.blocked
  for second = math.max(math.ceil(state.blocked / SECOND), math.floor(now / SECOND) - 60), math.floor(now / SECOND) do
    redis.call('HSETNX', KEYS[2], string.format('%.0f', second), 0)
  end
  -- A minute's limit refuses for long, and what it took in a minute is what it allows. A bucket refuses for a moment.
  local is_moment = refused_for < 2 * SECOND
  local answers, seconds = count_answers(is_moment and 10 or 60)
  local took = (answers + redis.call('ZCARD', KEYS[3])) / math.max(seconds, 1)
  local least = is_moment and rate * CUT or MIN_RATE
  rate = math.max(math.min(took * SHARE, rate), least, MIN_RATE)
  if named then rate = math.min(named, math.max(rate, named * CUT)) end
  keep('rate', rate)
  keep('peak', rate)
  keep('grown', 0)
  keep('blocked', nil)
  keep('probed_at', nil)
end
