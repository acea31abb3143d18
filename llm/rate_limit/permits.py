"""Permits to call a provider: `acquire` one before the call, `observe` the answer after it (drawn in the package)."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from django.conf import settings

from llm.circuit_breaker import breaker_of
from llm.errors import TryAgainLater
from llm.rate_headers import NOTHING, Rates
from llm.rate_limit import scripts
from llm.rate_limit.limits import FIRST_RATE, MAX_HOLD, RateLimit, rate_limit_of
from llm.rate_limit.scripts import Argument

LEASE = 180.0  # seconds; a whole answer takes two minutes at most
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
    free at once. `granted`: the tokens that all permits together had been granted by then. `number` names the call.
    """

    limit: RateLimit = field(repr=False)
    taken_at: int | None = None
    waited: bool = False
    granted: int = 0
    number: int = 0


def acquire(
    place: str,
    model: str,
    *,
    tokens: int = 0,
    seconds: float,
    urgent: bool = False,
    lease: float = LEASE,
) -> Permit:
    """Sleeps until a slot and returns its permit. Raises `TooSoon` if no slot is due within `seconds`.

    `tokens`: the most that this call can use. `lease`: the seconds after which the call counts as ended, unless
    `observe` or `release` said so before. The calling thread should hold nothing that others need.
    """
    limit = rate_limit_of(place, model)
    deadline = time.monotonic() + seconds
    wish = {"urgent": urgent, "tokens": tokens, "lease_us": int(lease * MICRO)} | _settings(place)
    if urgent:
        permit, wait = _reserve_until(limit, wish, deadline)
    else:
        # One bulk thread of a process asks Redis at a time. The others wait for it here.
        with _queue(limit, deadline):
            permit, wait = _reserve_until(limit, wish, deadline)
    time.sleep(wait)
    return permit


def _settings(place: str) -> dict[str, Argument]:
    """The limits of an endpoint that the site's settings name."""
    known = [one for one in settings.LLM_ENDPOINTS.values() if one.base_url == place]
    requests, calls = (known[0].requests, known[0].calls) if known else (None, None)
    return {"first_rate": FIRST_RATE, "requests_set": requests, "calls_set": calls}


@contextmanager
def _queue(limit: RateLimit, deadline: float) -> Iterator[None]:
    if not limit.queue.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise TooSoon(1 / limit.rate)
    try:
        yield
    finally:
        limit.queue.release()


def _reserve_until(limit: RateLimit, wish: Mapping[str, Argument], deadline: float) -> tuple[Permit, float]:
    """A permit and the seconds until its slot. Sleeps and asks again while the next slot is too far away.

    A call of this process that ends may have made room, so bulk work then asks at once.
    """
    while True:
        limit.call_ended.clear()
        permit, wait = _reserve(limit, wish)
        if permit is not None:
            return permit, wait
        if time.monotonic() + wait > deadline:
            raise TooSoon(wait)
        if wish["urgent"]:
            time.sleep(wait)
        else:
            limit.call_ended.wait(wait)


def _reserve(limit: RateLimit, wish: Mapping[str, Argument]) -> tuple[Permit | None, float]:
    """A permit and the seconds until its slot; or None and the seconds until asking again."""
    reply = scripts.run("acquire", limit.key, wish)
    if reply is None:
        is_taken, wait = limit.reserve_alone(urgent=bool(wish["urgent"]))
        return (Permit(limit) if is_taken else None), wait
    is_taken, wait_us, *more = reply
    if not is_taken:
        return None, wait_us / MICRO
    now, waited, granted, number = more
    permit = Permit(limit, now, bool(waited), granted, number)
    return permit, wait_us / MICRO


def observe(
    permit: Permit,
    *,
    rates: Rates = NOTHING,
    limited: bool = False,
    at_once: bool = False,
    retry_after: float | None = None,
    answered: bool = True,
) -> None:
    """Learns from how the permit's call ended: the limits that an answer named, or that it was a 429.

    `at_once`: the 429 said that too many calls were under way at once. `answered`: False for a call that ended without
    a word of its provider about its limits. To be called once for each permit: until then its call counts as under way.
    """
    limit = permit.limit
    hold = None if retry_after is None else min(retry_after, MAX_HOLD)
    if limited:
        limit.hold(1.0 if hold is None else hold)
    if permit.taken_at is None:
        return
    arguments = {
        "answered": answered and not limited,
        "limited": limited,
        "at_once": at_once,
        "retry_after_us": None if hold is None else int(hold * MICRO),
        "requests": rates.requests or None,
        "requests_left": rates.requests_left,
        "tokens": rates.tokens or None,
        "tokens_left": rates.tokens_left,
        "taken_at": permit.taken_at,
        "waited": permit.waited,
        "granted": permit.granted,
        "number": permit.number,
    } | _settings(limit.place)
    reply = scripts.run("observe", limit.key, arguments)
    if reply is not None:
        limit.rate = float(reply)
    limit.call_ended.set()


def observe_error(permit: Permit, error: Exception) -> None:
    """Learns from a call that failed: what its 429 said; of all else only that the call ended."""
    if isinstance(error, TryAgainLater) and error.status == HTTPStatus.TOO_MANY_REQUESTS:
        observe(
            permit,
            limited=True,
            retry_after=error.retry_after,
            rates=error.rates,
            at_once=error.at_once,
        )
    else:
        release(permit)


def release(permit: Permit) -> None:
    """The permit's call was not made, or ended without a word about limits."""
    observe(permit, answered=False)


def forget() -> None:
    """Forgets all that this process has learnt, also that Redis was away. For tests."""
    breaker_of(settings.REDIS_URL).record_success()
    rate_limit_of.cache_clear()
