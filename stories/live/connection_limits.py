"""How many sockets one address may hold, and how much one client may say.

The sockets of an address are counted over all web processes, in Redis: one sorted set per address, a member
per socket, its score the time until which it counts. A socket that is never dismissed (its process was
killed) leaves by itself. Redis being away admits everyone: without it there are no hints to abuse either.
"""

import asyncio
import logging
import time
from typing import Any
from weakref import WeakKeyDictionary

import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError

from stories.values import addresses

logger = logging.getLogger(__name__)
PATIENCE = 1.0  # seconds that a viewer waits for being counted
COUNTS_FOR = 60  # seconds; a living socket is admitted anew before that
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, "redis.asyncio.Redis[bytes]"] = WeakKeyDictionary()


class Allowance:
    """At most `most` takes in each window of `seconds`."""

    def __init__(self, most: int, *, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._taken, self._since = 0, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        if now - self._since >= self._seconds:
            self._taken, self._since = 0, now
        self._taken += 1
        return self._taken <= self._most


async def admit(address: str, socket: str) -> bool:
    """Counts this socket for a minute more; False if the address already holds `ADDRESS_SOCKETS` others."""
    now, name = time.time(), _name(address)
    try:
        async with asyncio.timeout(PATIENCE), _redis().pipeline(transaction=True) as pipe:
            pipe.zremrangebyscore(name, 0, now)
            pipe.zadd(name, {socket: now + COUNTS_FOR})
            pipe.expire(name, COUNTS_FOR * 2)
            pipe.zcard(name)
            count = (await pipe.execute())[-1]
    except (RedisError, OSError, TimeoutError) as error:
        logger.warning("sockets are not counted, Redis is away: %s", error or "no answer")
        return True
    if count > settings.ADDRESS_SOCKETS:
        await dismiss(address, socket)
        return False
    return True


async def dismiss(address: str, socket: str) -> None:
    """The socket is closed and counts no more."""
    try:
        async with asyncio.timeout(PATIENCE):
            await _redis().zrem(_name(address), socket)
    except (RedisError, OSError, TimeoutError) as error:
        logger.warning("a closed socket counts on for a minute, Redis is away: %s", error or "no answer")


def _name(address: str) -> str:
    return f"sockets:{addresses.name_address(address)}"


def _redis() -> "redis.asyncio.Redis[bytes]":
    """The client of the running loop: a few connections, shared by all its sockets."""
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        pool: redis.asyncio.ConnectionPool[Any] = redis.asyncio.BlockingConnectionPool.from_url(
            settings.REDIS_URL, max_connections=4, timeout=5
        )
        _pools[loop] = redis.asyncio.Redis(connection_pool=pool)
    return _pools[loop]
