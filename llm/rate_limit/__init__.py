"""One rate limit per endpoint and model, shared by all workers through Redis.

    permit = acquire(place, "gpt-4o-mini", tokens=2400, seconds=10)    sleeps until its slot, or raises `TooSoon`
    …                                                                  the call
    observe(permit, rates=answer.rates)                                the answer named these limits
    observe_error(permit, error)                                       … or the call failed, perhaps with a 429
    release(permit)                                                    … or it was not made

How the rate changes while the provider names no limit (`observe.lua`):

    rate          429                                                            429
     |            /|                                                            __/|
     |  doubles  / |                                                         __/   |
     |  each    /  |          taken, on average                 __________---      |          _____
     |  second /   |          before the refusal  _______-------                   |___------/
     |        /    |        . . . . . . . . . . ./                                 |
     |     __/     | stops, and asks by one call at a time                         |
     |  8_/        |________|____|______________|
     +------------------------------------------------------------------------------> time

    A 429 is one event, however many calls meet it: bulk work stops, and one call at a time asks whether the provider
    takes calls again, after 0.3 s, 0.6 s … 5 s, or when its `Retry-After` has passed. A call that is not refused within
    a second is being answered.

    It then goes on at 99 % of what was taken, on average, before the last refusal: in ten seconds, if it refused for a
    moment only (a bucket), else in a minute (a limit of the sliding minute, or of the clock's, which takes hundreds of
    calls at once and then none for long). From there the rate grows slowly at first and then ever faster; after half a
    minute it has doubled (the shape is that of CUBIC, RFC 9438).

    It grows  only by answers to permits that had to wait: a rate that is not used up says nothing.
    It holds  when the answers name a limit, or the site's settings do: at 99 % of that limit.

A 429 that speaks of calls at once (`cap`) says nothing about a rate. As many calls as were taken may then be under way;
after fifteen times as many answers twice as many, unless one is refused. A call counts as under way until `observe`,
or until its lease ends, should its worker have died.

A 429 with `Retry-After` also stops every call for that long: bulk work for ten minutes at most, readers for one.

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

from llm.rate_limit.permits import Permit, TooSoon, acquire, observe, observe_error, release

__all__ = ["Permit", "TooSoon", "acquire", "observe", "observe_error", "release"]
