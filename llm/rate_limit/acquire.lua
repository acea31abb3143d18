-- Takes a slot: GCRA on Redis's own clock, so that the clocks of the workers do not matter.
-- KEYS[1] the pace; ARGV: urgent 0|1, tokens of this call, first rate (calls a second)
-- Returns {1, wait µs, now µs, waited 0|1, tokens granted so far} or {0, ask again in µs}.
local AHEAD, URGENT_AHEAD, CATCH_UP = 300000, 10000000, 50000
local MINUTE, KEEP_MS = 60000000, 3600000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local urgent, tokens = ARGV[1] == '1', tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'rate', 'next', urgent and 'held_urgent' or 'held', 'tpm', 'used_until', 'granted')
local rate = tonumber(kept[1]) or tonumber(ARGV[3])
local next_slot = math.max(tonumber(kept[2]) or 0, now - CATCH_UP)
local held = tonumber(kept[3]) or 0
local tpm, used_until = tonumber(kept[4]), math.max(tonumber(kept[5]) or 0, now)
local granted = tonumber(kept[6]) or 0

-- The provider's bucket of tokens holds a minute's worth and is full again at `used_until`.
local enough_at, weight = 0, 0
if tpm then
  weight = math.min(tokens / tpm, 1) * MINUTE
  enough_at = used_until + weight - MINUTE
end

-- A reader does not stand behind the slots that bulk work has taken ahead of time.
local mine = math.max(held, enough_at, urgent and next_slot - 1000000 or next_slot)
local wait = math.max(0, mine - now)
local ahead = urgent and URGENT_AHEAD or AHEAD
if wait > ahead then
  return {0, math.ceil(wait - ahead + 1000)}
end
local after = math.max(held, enough_at, next_slot) + 1000000 / rate
redis.call('HSET', KEYS[1], 'rate', tostring(rate), 'next', string.format('%.0f', after),
  'used_until', string.format('%.0f', used_until + weight), 'granted', string.format('%.0f', granted + tokens))
redis.call('PEXPIRE', KEYS[1], KEEP_MS)
return {1, math.floor(wait), now, next_slot > now and 1 or 0, granted + tokens}
