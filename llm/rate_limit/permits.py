"""Permits to call a provider: `acquire` one before the call, `observe` the answer after it (drawn in the package)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.conf import settings

from llm.circuit_breaker import breaker_of
from llm.rate_headers import NOTHING, Rates
from llm.rate_limit import scripts
from llm.rate_limit.limits import FIRST_RATE, MAX_HOLD, RateLimit, rate_limit_of

NEAR = 0.985  # of a named limit; observe.lua keeps 0.99 of it
MICRO = 1_000_000  # µs in a second


class TooSoon(Exception):
    """No slot is due in the time given; ask again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no permit for {seconds:.1f} s")
        self.seconds = seconds


@dataclass(frozen=True)
class Permit:
    """A slot that was taken for one call.

    `taken_at`: µs on the clock of Redis, None if the slot was taken without Redis. `waited`: whether the slot was not
    free at once. `granted`: the tokens that all permits together had been granted by then.
    """

    limit: RateLimit = field(repr=False)
    taken_at: int | None = None
    waited: bool = False
    granted: int = 0


def acquire(place: str, model: str, *, tokens: int = 0, seconds: float, urgent: bool = False) -> Permit:
    """Sleeps until a slot and returns its permit. Raises `TooSoon` if no slot is due within `seconds`.

    `tokens`: the most that this call can use. The calling thread should hold nothing that others need.
    """
    limit = rate_limit_of(place, model)
    deadline = time.monotonic() + seconds
    if urgent:
        permit, wait = _reserve_until(limit, tokens, deadline, urgent=True)
    else:
        # One bulk thread of a process asks Redis at a time. The others wait for it here.
        with _queue(limit, deadline):
            permit, wait = _reserve_until(limit, tokens, deadline, urgent=False)
    time.sleep(wait)
    return permit


@contextmanager
def _queue(limit: RateLimit, deadline: float) -> Iterator[None]:
    if not limit.queue.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise TooSoon(1 / limit.rate)
    try:
        yield
    finally:
        limit.queue.release()


def _reserve_until(limit: RateLimit, tokens: int, deadline: float, *, urgent: bool) -> tuple[Permit, float]:
    """A permit and the seconds until its slot. Sleeps and asks again while the next slot is too far away."""
    while True:
        permit, wait = _reserve(limit, tokens, urgent=urgent)
        if permit is not None:
            return permit, wait
        if time.monotonic() + wait > deadline:
            raise TooSoon(wait)
        time.sleep(wait)


def _reserve(limit: RateLimit, tokens: int, *, urgent: bool) -> tuple[Permit | None, float]:
    """A permit and the seconds until its slot; or None and the seconds until asking again."""
    arguments = {"urgent": urgent, "tokens": tokens, "first_rate": FIRST_RATE}
    reply = scripts.run("acquire", limit.key, arguments)
    if reply is None:
        is_taken, wait = limit.reserve_alone(urgent=urgent)
        return (Permit(limit) if is_taken else None), wait
    is_taken, wait_us, *more = reply
    if not is_taken:
        return None, wait_us / MICRO
    now, waited, granted = more
    return Permit(limit, taken_at=now, waited=bool(waited), granted=granted), wait_us / MICRO


def observe(
    permit: Permit, *, rates: Rates = NOTHING, limited: bool = False, retry_after: float | None = None
) -> None:
    """Learns from the answer to the permit's call: the limits that it named, or that it was a 429."""
    limit = permit.limit
    hold = None if retry_after is None else min(retry_after, MAX_HOLD)
    if limited:
        limit.hold(1.0 if hold is None else hold)
    if permit.taken_at is None or (not limited and _says_nothing_new(permit, rates)):
        return
    arguments = {
        "limited": limited,
        "retry_after_us": None if hold is None else int(hold * MICRO),
        "requests": rates.requests or None,
        "requests_left": rates.requests_left,
        "tokens": rates.tokens or None,
        "tokens_left": rates.tokens_left,
        "taken_at": permit.taken_at,
        "waited": permit.waited,
        "granted": permit.granted,
        "first_rate": FIRST_RATE,
    }
    reply = scripts.run("observe", limit.key, arguments)
    if reply is not None:
        limit.rate = float(reply)
        limit.named = rates.requests or limit.named


def _says_nothing_new(permit: Permit, rates: Rates) -> bool:
    """Whether Redis need not hear of an answer. That is so for most, and each script costs a story a millisecond."""
    if rates == NOTHING:
        return not permit.waited
    at_limit = rates.requests is not None and permit.limit.rate >= rates.requests / 60 * NEAR
    is_known = rates.requests == permit.limit.named and rates.tokens is None
    return at_limit and is_known and rates.requests_left != 0


def forget() -> None:
    """Forgets all that this process has learnt, also that Redis was away. For tests."""
    breaker_of(settings.REDIS_URL).record_success()
    rate_limit_of.cache_clear()
