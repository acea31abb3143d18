-- Takes a slot: GCRA on Redis's own clock, so that the clocks of the workers do not matter.
--   urgent         true for a reader's call
--   tokens         the most tokens that this call can use
--   lease_us       after how long a call counts as ended although nobody said so
--   first_rate     calls a second, while the hash knows none
--   requests_set, calls_set: a limit a minute, and of calls at once, that the site's settings name (absent: none)
--   now            µs, in a simulation (absent: the clock)
-- Returns {1, wait µs, now µs, waited 0|1, tokens granted so far, number of the call}, or {0, ask again in µs}.
local MAX_AHEAD, MAX_URGENT_AHEAD, CATCH_UP, URGENT_LEAD = 300000, 10000000, 50000, 1000000
local ASK_AGAIN, READER_WAITS = 50000, 200000

redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now))
local under_way = redis.call('ZCARD', KEYS[3])
if state.blocked and state.probed_at and now - state.probed_at >= GRACE then
  -- A refusal comes at once, so a probe that was not refused for a second is being answered.
  reopen()
end

local cap = most_calls()
local reader_waits = not args.urgent and (state.reader_until or 0) > now
if cap and (under_way >= cap or reader_waits) then
  if args.urgent then keep('reader_until', now + READER_WAITS) end
  save()
  return {0, ASK_AGAIN}
end

local next_slot = math.max(state.next or 0, now - CATCH_UP)
local held = (args.urgent and state.held_urgent or not args.urgent and state.held) or 0
local used_until = math.max(state.used_until or 0, now)
if state.blocked then
  -- A reader waits for no longer than the pause, whatever bulk work was asked to wait.
  local soon = (state.cut_at or 0) + (state.pause or PAUSE)
  held = math.max(held, args.urgent and math.min(state.probe_at or 0, soon) or state.probe_at or 0)
end

-- The provider's bucket of tokens holds a minute's worth and is full again at `used_until`.
local enough_at, weight = 0, 0
if state.tpm then
  weight = math.min(args.tokens / state.tpm, 1) * MINUTE
  enough_at = used_until + weight - MINUTE
end

-- A reader does not stand behind the slots that bulk work has taken ahead of time.
local slot = math.max(held, enough_at, args.urgent and next_slot - URGENT_LEAD or next_slot)
local wait = math.max(0, slot - now)
local ahead = args.urgent and MAX_URGENT_AHEAD or state.blocked and 0 or MAX_AHEAD
if wait > ahead then
  save()
  return {0, math.ceil(wait - ahead) + (ahead > 0 and 1000 or 0)}
end
if state.blocked then
  -- One call at a time finds out whether the provider takes calls again.
  keep('probed_at', now + wait)
  keep('probe_at', now + wait + math.max(state.pause or PAUSE, GRACE))
end
local number, granted = (state.calls or 0) + 1, (state.granted or 0) + args.tokens
keep('rate', rate)
keep('next', math.max(held, enough_at, next_slot) + SECOND / rate)
keep('used_until', used_until + weight)
keep('granted', granted)
keep('calls', number)
redis.call('ZADD', KEYS[3], string.format('%.0f', now + wait + args.lease_us), string.format('%.0f', number))
save()
return {1, math.floor(wait), now, next_slot > now and 1 or 0, granted, number}
