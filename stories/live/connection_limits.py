"""How many sockets one address may hold, and how many messages one client may send.

The sockets of an address are counted over all web processes, in Redis: one sorted set per address, a member
per socket, its score the time until which it counts. A socket that is never dismissed, because its process was killed,
stops counting at that time. While Redis is away everyone is admitted: there are no publications to relay then.
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
MAX_SECONDS = 1.0  # that a viewer waits until its socket is counted
COUNTED_SECONDS = 60  # a living socket is admitted again before that
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, "redis.asyncio.Redis[bytes]"] = WeakKeyDictionary()


class FixedWindow:
    """A rate limit: at most `limit` messages in each window of `seconds`."""

    def __init__(self, limit: int, *, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._count, self._began_at = 0, time.monotonic()

    def allows(self) -> bool:
        """Counts one message; False if it is one too many in this window."""
        now = time.monotonic()
        if now - self._began_at >= self._seconds:
            self._count, self._began_at = 0, now
        self._count += 1
        return self._count <= self._limit


async def admit(address: str, socket: str) -> bool:
    """Counts this socket for another minute; False if the address already holds `ADDRESS_SOCKETS` others."""
    now, name = time.time(), _name(address)
    try:
        async with asyncio.timeout(MAX_SECONDS), _redis().pipeline(transaction=True) as pipe:
            pipe.zremrangebyscore(name, 0, now)
            pipe.zadd(name, {socket: now + COUNTED_SECONDS})
            pipe.expire(name, COUNTED_SECONDS * 2)
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
    """Stops counting a socket that is closed."""
    try:
        async with asyncio.timeout(MAX_SECONDS):
            await _redis().zrem(_name(address), socket)
    except (RedisError, OSError, TimeoutError) as error:
        logger.warning("a closed socket counts on for a minute, Redis is away: %s", error or "no answer")


def _name(address: str) -> str:
    return f"sockets:{addresses.name_address(address)}"


def _redis() -> "redis.asyncio.Redis[bytes]":
    """The client of the running loop: a few connections, shared by all its sockets."""
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        # Any: the kind of connection does not matter.
        pool: redis.asyncio.ConnectionPool[Any] = redis.asyncio.BlockingConnectionPool.from_url(
            settings.REDIS_URL, max_connections=4, timeout=5
        )
        _pools[loop] = redis.asyncio.Redis(connection_pool=pool)
    return _pools[loop]
