"""One pace per endpoint and model, shared by all workers through Redis.

    turn = take_turn(place, "gpt-4o-mini", tokens=2400, seconds=10)    waits its turn, or raises `TooSoon`
    …                                                                  the call
    tell(turn, rates=answer.rates)                                     what the answer said of the limit
    tell(turn, limited=True, retry_after=2.0)                          … or that it was a 429

A limit that the provider names is kept just below; where it names none, the pace grows until a 429 and
falls by a part. A 429 with `Retry-After` stops everyone for that long, readers for a minute at most. Readers
(`urgent`) go before bulk work: they take the next slot at once, and bulk work waits the longer. When Redis is away
a process goes on alone at half its last pace: the limiter makes nobody wait for ever, and loses nothing that matters.
"""

from llm.rate_limit.permits import TooSoon, Turn, take_turn, tell

__all__ = ["TooSoon", "Turn", "take_turn", "tell"]
