-- Learns from an answer.
-- KEYS[1]: the rate limit, a hash. ARGV[1]: a JSON object with
--   limited         true if the answer was a 429
--   retry_after_us  what the 429 asked for, in µs            (absent: it did not say)
--   requests, requests_left, tokens, tokens_left: the limits a minute, and what is left of them (absent: not named)
--   taken_at        µs, when the permit was taken
--   waited          whether the permit had to wait
--   granted         tokens granted to all permits when this one was taken
--   first_rate      calls a second, while the hash knows none
-- Returns the rate, calls a second, as text.
-- Times are µs since 1970: whole numbers below 2^53, exact in a double, but printed in full only by '%.0f'.
local SHARE, CUT, MIN_RATE, MAX_RATE = 0.99, 0.8, 0.02, 1000
local FIRST_CUT, FIRST_CEILING = 0.5, 0.75
local SECOND, MINUTE, MAX_URGENT_HOLD, KEEP_MS, PAUSE = 1000000, 60000000, 60000000, 3600000, 300000
local args = cjson.decode(ARGV[1])

local time = redis.call('TIME')
local now = time[1] * SECOND + time[2]
local fields = {'rate', 'next', 'held', 'told', 'ceiling', 'cut_at', 'granted', 'used_until', 'held_urgent'}
local kept = redis.call('HMGET', KEYS[1], unpack(fields))
local rate = tonumber(kept[1]) or args.first_rate
local next_slot, held = math.max(tonumber(kept[2]) or 0, now), tonumber(kept[3]) or 0
-- `named`, kept as 'told': the share of the provider's own limit that is used, calls a second.
local named, ceiling, cut_at = tonumber(kept[4]), tonumber(kept[5]), tonumber(kept[6]) or 0
local granted, used_until = tonumber(kept[7]) or 0, math.max(tonumber(kept[8]) or 0, now)
local held_urgent = tonumber(kept[9]) or 0

local named_now = args.requests and args.requests / 60 * SHARE or named
if named_now and named_now ~= named then
  named, rate, ceiling = named_now, named_now, nil
end
if args.limited then
  -- A call that was under way at the last cut was made at the rate before it, and says nothing about the new rate.
  if args.taken_at > cut_at then
    -- The first 429 ends a doubling, so the limit lies anywhere between half of the rate and the whole of it.
    local is_first = not ceiling and not named
    ceiling = is_first and rate * FIRST_CEILING or rate
    rate, cut_at = math.max(rate * (is_first and FIRST_CUT or CUT), MIN_RATE), now
  end
  if args.retry_after_us then
    held = math.max(held, now + args.retry_after_us)
    -- Readers try again after a minute: one long hold would keep all of them waiting.
    held_urgent = math.max(held_urgent, now + math.min(args.retry_after_us, MAX_URGENT_HOLD))
  else
    next_slot = math.max(next_slot, now + PAUSE)
  end
elseif named then
  -- After a cut the rate is back at the named limit within about twenty seconds.
  rate = math.min(named, rate + named * 0.01 / rate)
elseif args.waited and args.taken_at > cut_at then
  -- No 429 yet: the rate doubles each second. After one: quickly up to below the ceiling, then slowly.
  local growth = not ceiling and rate or rate < ceiling * 0.9 and ceiling * 0.05 or ceiling * 0.005
  rate = math.min(rate + growth / rate, MAX_RATE)
end
if args.requests_left == 0 and not args.limited then
  next_slot = math.max(next_slot, now + SECOND / rate)
end

local values = {'rate', tostring(rate), 'next', string.format('%.0f', next_slot), 'held', string.format('%.0f', held),
  'held_urgent', string.format('%.0f', held_urgent), 'cut_at', string.format('%.0f', cut_at)}
local function keep(name, value)
  values[#values + 1], values[#values + 2] = name, value
end
if named then keep('told', tostring(named)) end
if ceiling then keep('ceiling', tostring(ceiling)) else redis.call('HDEL', KEYS[1], 'ceiling') end
if args.tokens then
  keep('tpm', tostring(args.tokens))
  if args.tokens_left then
    -- Counted by the provider, plus what was granted since this permit. Our estimates of earlier calls are dropped.
    local granted_since = math.max(0, granted - args.granted)
    used_until = now + (args.tokens - args.tokens_left + granted_since) / args.tokens * MINUTE
  end
  keep('used_until', string.format('%.0f', used_until))
end
redis.call('HSET', KEYS[1], unpack(values))
redis.call('PEXPIRE', KEYS[1], KEEP_MS)
return tostring(rate)
