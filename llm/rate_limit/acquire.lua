-- Takes a slot: GCRA on Redis's own clock, so that the clocks of the workers do not matter.
-- KEYS[1]: the rate limit, a hash. ARGV[1]: a JSON object with
--   urgent      true for a reader's call
--   tokens      the most tokens that this call can use
--   first_rate  calls a second, while the hash knows none
-- Returns {1, wait µs, now µs, waited 0|1, tokens granted so far}, or {0, ask again in µs}.
-- Times are µs since 1970: whole numbers below 2^53, exact in a double, but printed in full only by '%.0f'.
local MAX_AHEAD, MAX_URGENT_AHEAD, CATCH_UP, URGENT_LEAD = 300000, 10000000, 50000, 1000000
local SECOND, MINUTE, KEEP_MS = 1000000, 60000000, 3600000
local args = cjson.decode(ARGV[1])

local time = redis.call('TIME')
local now = time[1] * SECOND + time[2]
local held_field = args.urgent and 'held_urgent' or 'held'
local kept = redis.call('HMGET', KEYS[1], 'rate', 'next', held_field, 'tpm', 'used_until', 'granted')
local rate = tonumber(kept[1]) or args.first_rate
local next_slot = math.max(tonumber(kept[2]) or 0, now - CATCH_UP)
local held = tonumber(kept[3]) or 0
local tpm, used_until = tonumber(kept[4]), math.max(tonumber(kept[5]) or 0, now)
local granted = tonumber(kept[6]) or 0

-- The provider's bucket of tokens holds a minute's worth and is full again at `used_until`.
local enough_at, weight = 0, 0
if tpm then
  weight = math.min(args.tokens / tpm, 1) * MINUTE
  enough_at = used_until + weight - MINUTE
end

-- A reader does not stand behind the slots that bulk work has taken ahead of time.
local slot = math.max(held, enough_at, args.urgent and next_slot - URGENT_LEAD or next_slot)
local wait = math.max(0, slot - now)
local ahead = args.urgent and MAX_URGENT_AHEAD or MAX_AHEAD
if wait > ahead then
  return {0, math.ceil(wait - ahead + 1000)}
end
local after = math.max(held, enough_at, next_slot) + SECOND / rate
redis.call('HSET', KEYS[1], 'rate', tostring(rate), 'next', string.format('%.0f', after),
  'used_until', string.format('%.0f', used_until + weight), 'granted', string.format('%.0f', granted + args.tokens))
redis.call('PEXPIRE', KEYS[1], KEEP_MS)
return {1, math.floor(wait), now, next_slot > now and 1 or 0, granted + args.tokens}
