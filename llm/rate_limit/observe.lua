-- Learns from an answer. KEYS[1] the pace; ARGV: 1 limited 2 retry-after µs (-1: none said) 3 requests a minute
-- (0: not said) 4 requests left (-1) 5 tokens a minute (0) 6 tokens left (-1) 7 taken at µs 8 waited 0|1
-- 9 tokens granted when it was taken 10 first rate
-- Returns the rate, calls a second, as text.
local SHARE, CUT, FLOOR, MOST = 0.99, 0.8, 0.02, 1000
local HOLD_URGENT = 60000000
local MINUTE, KEEP_MS, CAREFUL = 60000000, 3600000, 300000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limited, retry_after = ARGV[1] == '1', tonumber(ARGV[2])
local rpm, left, tpm, tokens_left = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local taken_at, waited, granted_then = tonumber(ARGV[7]), ARGV[8] == '1', tonumber(ARGV[9])
local names = {'rate', 'next', 'held', 'told', 'ceiling', 'cut_at', 'granted', 'used_until', 'held_urgent'}
local kept = redis.call('HMGET', KEYS[1], unpack(names))
local rate = tonumber(kept[1]) or tonumber(ARGV[10])
local next_slot, held = math.max(tonumber(kept[2]) or 0, now), tonumber(kept[3]) or 0
local told, ceiling, cut_at = tonumber(kept[4]), tonumber(kept[5]), tonumber(kept[6]) or 0
local held_urgent = tonumber(kept[9]) or 0
local granted, used_until = tonumber(kept[7]) or 0, math.max(tonumber(kept[8]) or 0, now)

local new = rpm > 0 and rpm / 60 * SHARE or told
if new and new ~= told then
  told, rate, ceiling = new, new, nil
end
if limited then
  -- Calls that were under way at the last cut say nothing new.
  if taken_at > cut_at then
    -- The first refusal ends a doubling: the limit lies anywhere between the half and the whole.
    local first = not ceiling and not told
    ceiling = first and rate * 0.75 or rate
    rate, cut_at = math.max(rate * (first and 0.5 or CUT), FLOOR), now
  end
  if retry_after >= 0 then
    held = math.max(held, now + retry_after)
    -- A reader looks every minute whether it is still so: one long hold would keep all of them waiting.
    held_urgent = math.max(held_urgent, now + math.min(retry_after, HOLD_URGENT))
  else
    next_slot = math.max(next_slot, now + CAREFUL)
  end
elseif told then
  -- After a cut, back to the limit that was named within about twenty seconds.
  rate = math.min(told, rate + told * 0.01 / rate)
elseif waited and taken_at > cut_at then
  -- Never refused yet: twice the pace every second. After that: quickly back to below the ceiling, then slowly.
  local growth = not ceiling and rate or rate < ceiling * 0.9 and ceiling * 0.05 or ceiling * 0.005
  rate = math.min(rate + growth / rate, MOST)
end
if left == 0 and not limited then
  next_slot = math.max(next_slot, now + 1000000 / rate)
end
local values = {'rate', tostring(rate), 'next', string.format('%.0f', next_slot),
  'held', string.format('%.0f', held), 'held_urgent', string.format('%.0f', held_urgent), 'cut_at', string.format('%.0f', cut_at)}
local function keep(name, value)
  values[#values + 1], values[#values + 2] = name, tostring(value)
end
if told then keep('told', told) end
if ceiling then keep('ceiling', ceiling) end
if tpm > 0 then
  keep('tpm', tpm)
  if tokens_left >= 0 then
    -- What the provider counted, and at most what was granted since this call: our guesses are not added up.
    local counted = now + (tpm - tokens_left + math.max(0, granted - granted_then)) / tpm * MINUTE
    used_until = counted
  end
  keep('used_until', string.format('%.0f', used_until))
end
if not ceiling then redis.call('HDEL', KEYS[1], 'ceiling') end
redis.call('HSET', KEYS[1], unpack(values))
redis.call('PEXPIRE', KEYS[1], KEEP_MS)
return tostring(rate)
