-- Learns from how a call ended.
--   answered       true if the provider took the call
--   limited        true if it answered 429
--   at_once        true if that 429 said that too many calls were under way at once
--   retry_after_us what the 429 asked for, in µs             (absent: it did not say)
--   requests, requests_left, tokens, tokens_left: the limits a minute, and what is left of them (absent: not named)
--   taken_at       µs, when the permit was taken
--   waited         whether the permit had to wait
--   granted        tokens granted to all permits when this one was taken
--   number         of the call
--   first_rate, requests_set, calls_set, now: as in acquire.lua
-- Returns the rate, calls a second, as text.
local MAX_URGENT_HOLD, MIN_GROWTH, STEADY_CALLS = 60000000, 30000000, 450
local CAP_CUT = 0.75

redis.call('ZREM', KEYS[3], string.format('%.0f', args.number))
local now_named = args.requests and args.requests / 60 * SHARE
if now_named and now_named ~= named and not args.requests_set then
  named, rate = now_named, now_named
  keep('peak', nil)
  keep('told', named)
  keep('rate', rate)
end
local is_stale = args.taken_at <= (state.cut_at or 0)

-- Too many calls were under way at once. If more were tried than were taken before, it was one too many. Else those that
-- were granted before this one and have not ended yet were taken, or a few more that ended meanwhile.
local function cap_calls()
  local most = most_calls()
  if most and most > state.cap then
    keep('cap', most - 1)
  else
    local taken = 0
    for _, number in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
      if tonumber(number) < args.number then taken = taken + 1 end
    end
    keep('cap', math.max(taken, math.floor((state.cap or 0) * CAP_CUT), 1))
  end
  if not most then keep('peak', nil) end
  keep('cap_answers', 0)
  keep('blocked', nil)
  keep('probed_at', nil)
  keep('cut_at', now)
end

-- Bulk work stops. One call at a time then asks whether the provider takes calls again.
local function refuse()
  local pause = state.blocked and math.min((state.pause or PAUSE) * 2, MAX_PAUSE) or PAUSE
  if not state.blocked then
    keep('blocked', now)
  end
  keep('pause', pause)
  keep('probe_at', now + (args.retry_after_us or pause))
  keep('probed_at', nil)
  keep('cut_at', now)
end

-- No refusal yet: the rate doubles each second. After one: slowly near the rate that was taken, then ever faster.
local function grow()
  if not state.peak then
    keep('rate', math.min(rate + 1, MAX_RATE))
    return
  end
  local grown = (state.grown or 0) + math.min(now - (state.grown_at or now), SECOND)
  local span = math.max(MIN_GROWTH, STEADY_CALLS / state.peak * SECOND)
  keep('grown', grown)
  keep('grown_at', now)
  keep('rate', math.min(math.max(rate, state.peak * (1 + (grown / span) ^ 3)), MAX_RATE))
end

if args.limited and args.at_once then
  -- The refused call itself waits as long as it was asked to. The others go on as soon as one of them ends.
  if not is_stale and not args.calls_set then cap_calls() end
elseif args.limited then
  if args.retry_after_us then
    keep('held', math.max(state.held or 0, now + args.retry_after_us))
    -- Readers try again after a minute: one long hold would keep all of them waiting.
    keep('held_urgent', math.max(state.held_urgent or 0, now + math.min(args.retry_after_us, MAX_URGENT_HOLD)))
  end
  if not is_stale then refuse() end
elseif args.answered then
  if state.cap then keep('cap_answers', (state.cap_answers or 0) + 1) end
  redis.call('HINCRBY', KEYS[2], string.format('%.0f', math.floor(args.taken_at / SECOND)), 1)
  if state.blocked and args.taken_at > state.blocked then
    reopen()
  elseif named then
    -- After a cut the rate is back at the named limit within about twenty seconds.
    keep('rate', math.min(named, rate + named * 0.01 / rate))
  elseif args.waited and not is_stale and not state.blocked then
    grow()
  end
  if args.requests_left == 0 then
    keep('next', math.max(state.next or 0, now + SECOND / (state.rate or rate)))
  end
end
if args.tokens then
  keep('tpm', args.tokens)
  if args.tokens_left then
    -- Counted by the provider, plus what was granted since this permit. Our estimates of earlier calls are dropped.
    local granted_since = math.max(0, (state.granted or 0) - args.granted)
    keep('used_until', now + (args.tokens - args.tokens_left + granted_since) / args.tokens * MINUTE)
  end
end
save()
return tostring(state.rate or rate)
