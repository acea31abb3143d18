"""Turns: who may call when. See the package for the use, the two scripts for the arithmetic."""

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from llm.circuit_breaker import breaker_of
from llm.rate_headers import NOTHING, Rates

logger = logging.getLogger(__name__)
FIRST_RATE = 8.0  # calls a second, until something is known
ALONE_SHARE = 0.5  # of the last pace, when Redis cannot say what the others do
REDIS_TIMEOUT = 1.0
CONNECTIONS = 4
LONGEST_HOLD = 600.0
LONGEST_URGENT_HOLD = 60.0  # as in observe.lua
NEAR = 0.985  # of a named limit: the scripts keep 0.99 of it
MICRO = 1_000_000
SCRIPTS = Path(__file__).parent


class TooSoon(Exception):
    """No turn in the time given; ask again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no turn for {seconds:.1f} s")
        self.seconds = seconds


@dataclass(frozen=True)
class Turn:
    """A slot that was taken. Times are Redis's, in µs; `taken_at` None: taken without Redis."""

    pace: "Pace" = field(repr=False)
    taken_at: int | None = None
    waited: bool = False
    granted: int = 0


@dataclass
class Pace:
    """What this process knows about one endpoint and model."""

    key: str
    line: threading.Lock = field(default_factory=threading.Lock)
    rate: float = FIRST_RATE
    told: int | None = None  # requests a minute, as the provider named it last
    free_at: float = 0.0  # for turns without Redis, time.monotonic()
    held_until: float = 0.0
    held_urgent_until: float = 0.0


@cache
def pace_of(place: str, model: str) -> Pace:
    """The pace of `model` at the base URL `place`."""
    return Pace("pace:" + hashlib.sha256(f"{place}\n{model}".encode()).hexdigest()[:32])


@cache
def _server(url: str) -> tuple[Any, Any]:
    """The scripts on the Redis at `url`; both are loaded anew after a flush."""
    # Once again at once, for a connection that a restart broke; more would keep a story waiting.
    once = Retry(NoBackoff(), 1)
    # A few connections for hundreds of threads: each question takes Redis less than a millisecond.
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=REDIS_TIMEOUT,
        socket_timeout=REDIS_TIMEOUT,
        socket_connect_timeout=REDIS_TIMEOUT,
        retry=once,
    )
    server = redis.Redis(connection_pool=pool)
    take, tell = ((SCRIPTS / name).read_text("utf-8") for name in ("acquire.lua", "observe.lua"))
    return server.register_script(take), server.register_script(tell)


def take_turn(place: str, model: str, *, tokens: int = 0, seconds: float, urgent: bool = False) -> Turn:
    """Waits for a slot and returns at its moment. Raises `TooSoon` if there is none within `seconds`.

    `tokens`: the most this call can use. The calling thread sleeps: it should hold nothing that others need.
    """
    pace = pace_of(place, model)
    deadline = time.monotonic() + seconds
    if urgent:
        turn, wait = _ask_until(pace, tokens, deadline, urgent=True)
    else:
        # One thread of a process asks at a time; the others wait in line instead of asking again and again.
        with _in_line(pace, deadline):
            turn, wait = _ask_until(pace, tokens, deadline, urgent=False)
    time.sleep(wait)
    return turn


@contextmanager
def _in_line(pace: Pace, deadline: float) -> Iterator[None]:
    if not pace.line.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise TooSoon(1 / pace.rate)
    try:
        yield
    finally:
        pace.line.release()


def _ask_until(pace: Pace, tokens: int, deadline: float, *, urgent: bool) -> tuple[Turn, float]:
    """A turn and the seconds until its slot; sleeps while slots are too far ahead."""
    while True:
        turn, wait = _ask(pace, tokens, urgent=urgent)
        if turn is not None:
            return turn, wait
        if time.monotonic() + wait > deadline:
            raise TooSoon(wait)
        time.sleep(wait)


def _ask(pace: Pace, tokens: int, *, urgent: bool) -> tuple[Turn | None, float]:
    reply = _run(0, pace, [int(urgent), tokens, FIRST_RATE])
    if reply is None:
        return _alone(pace, urgent=urgent)
    if not reply[0]:
        return None, reply[1] / MICRO
    return Turn(pace, taken_at=reply[2], waited=bool(reply[3]), granted=reply[4]), reply[1] / MICRO


def _alone(pace: Pace, *, urgent: bool) -> tuple[Turn | None, float]:
    """A slot by this process's own clock."""
    now = time.monotonic()
    mine = max(now, pace.free_at, pace.held_urgent_until if urgent else pace.held_until)
    if mine - now > 1 / (pace.rate * ALONE_SHARE) + 1:
        return None, mine - now
    pace.free_at = mine + 1 / (pace.rate * ALONE_SHARE)
    return Turn(pace), mine - now


def tell(
    turn: Turn, *, rates: Rates = NOTHING, limited: bool = False, retry_after: float | None = None
) -> None:
    """Learns from the answer to a turn's call: the limits it named, or that it was a 429."""
    pace = turn.pace
    hold = None if retry_after is None else min(retry_after, LONGEST_HOLD)
    if limited:
        now, seconds = time.monotonic(), 1.0 if hold is None else hold
        pace.held_until = max(pace.held_until, now + seconds)
        pace.held_urgent_until = max(pace.held_urgent_until, now + min(seconds, LONGEST_URGENT_HOLD))
    if turn.taken_at is None or (not limited and _is_known(turn, rates)):
        return
    reply = _run(
        1,
        pace,
        [
            *(int(limited), -1 if hold is None else int(hold * MICRO)),
            *(rates.requests or 0, -1 if rates.requests_left is None else rates.requests_left),
            *(rates.tokens or 0, -1 if rates.tokens_left is None else rates.tokens_left),
            *(turn.taken_at, int(turn.waited), turn.granted, FIRST_RATE),
        ],
    )
    if reply is not None:
        pace.rate = float(reply)
        pace.told = rates.requests or pace.told


def _is_known(turn: Turn, rates: Rates) -> bool:
    """Whether an answer says nothing new: most do, and each question to Redis costs a story a millisecond."""
    if rates == NOTHING:
        return not turn.waited
    at_limit = rates.requests is not None and turn.pace.rate >= rates.requests / 60 * NEAR
    return at_limit and rates.requests == turn.pace.told and rates.requests_left != 0 and rates.tokens is None


def _run(script: int, pace: Pace, values: list[Any]) -> Any:
    """The script's reply, or None while Redis is away."""
    breaker = breaker_of(settings.REDIS_URL)
    if not breaker.allows():
        return None
    try:
        reply = _server(settings.REDIS_URL)[script](keys=[pace.key], args=values)
    except (redis.RedisError, OSError) as error:
        breaker.record_failure()
        logger.warning("Redis is away, this process keeps a pace of its own: %s", error)
        return None
    breaker.record_success()
    return reply


def forget() -> None:
    """Everything this process has learnt, and that Redis was away."""
    breaker_of(settings.REDIS_URL).record_success()
    pace_of.cache_clear()
