"""One rate limit per endpoint and model, shared by all workers through Redis.

    permit = acquire(place, "gpt-4o-mini", tokens=2400, seconds=10)    sleeps until its slot, or raises `TooSoon`
    …                                                                  the call
    observe(permit, rates=answer.rates)                                the answer named these limits
    observe(permit, limited=True, retry_after=2.0)                     … or was a 429

How the rate changes while the provider names no limit (`observe.lua`):

    rate             429
     |               /|
     |  doubles     / |                                       429
     |  each       /  |. . . . . . . . . . . . . ______-------|. . . . . . . . . .  ceiling
     |  second    /   |                  _______/             |               ____
     |           /    | x 1/2     ______/   +0.5 % of the     | x 4/5    ____/
     |         _/     |______----/          ceiling a second  |____-----/
     |  8 ____/         +5 % of the ceiling a second
     +------------------------------------------------------------------------------> time

    The ceiling is 3/4 of the rate that the first 429 refused, and after a later 429 the refused rate itself. The rate
    grows fast up to 9/10 of it.

    It grows  only by answers to permits that had to wait: a rate that is not used up says nothing.
    It is cut once for all the calls that were under way: a 429 to a permit from before the last cut changes nothing.
    It holds  when the answers name a limit: at 99 % of that limit. After a 429 a cut rate is back there within about
              twenty seconds.

A 429 with `Retry-After` also stops every call for that long: bulk work for ten minutes at most, readers for one. A 429
without it stops bulk work for 0.3 s.

Who gets the next slot (`acquire.lua`, GCRA on the clock of Redis):

    now         next    + 1/rate
     |           |       |       |
     +---r-------b-------b-------b----> time

    b  Bulk work takes the slot at `next`, and `next` moves on by 1/rate. If that slot is more than 0.3 s away, it takes
       none and asks again later.
    r  A reader's call (`urgent`) may take a slot one second before `next`, which mostly means now. `next` moves on by
       1/rate all the same, so the limit is kept and bulk work waits the longer.

When Redis is away, each process goes on alone at half of the rate that it knew last. What Redis holds may be lost at
any time: the rate is then learnt anew.
"""

from llm.rate_limit.permits import Permit, TooSoon, acquire, observe

__all__ = ["Permit", "TooSoon", "acquire", "observe"]
