"""Runs the two Lua scripts on Redis. Each takes the keys of a rate limit and one JSON object with named fields."""

import json
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from llm.circuit_breaker import breaker_of

logger = logging.getLogger(__name__)
TIMEOUT = 1.0  # seconds
CONNECTIONS = 4
FOLDER = Path(__file__).parent
Name = Literal["acquire", "observe"]
Argument = float | bool | None


def run(name: Name, key: str, arguments: Mapping[str, Argument]) -> Any:  # Any: each script has its own reply
    """The script's reply, or None while Redis is away. An argument of None is left out: the script reads nil."""
    breaker = breaker_of(settings.REDIS_URL)
    if not breaker.allows():
        return None
    said = json.dumps({field: value for field, value in arguments.items() if value is not None})
    try:
        reply = _scripts(settings.REDIS_URL)[name](keys=keys_of(key), args=[said])
    except (redis.RedisError, OSError) as error:
        breaker.record_failure()
        logger.warning("Redis is away, this process keeps a rate limit of its own: %s", error)
        return None
    breaker.record_success()
    return reply


@cache
def _scripts(url: str) -> dict[Name, Script]:
    """The scripts on the Redis at `url`. Each is loaded again when Redis has lost it."""
    # One retry without a pause mends a connection that a restart of Redis broke. More would keep a story waiting.
    retry = Retry(NoBackoff(), 1)
    # A few connections serve hundreds of threads: a script takes Redis less than a millisecond.
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=TIMEOUT,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=retry,
    )
    server = redis.Redis(connection_pool=pool)
    names: tuple[Name, ...] = ("acquire", "observe")
    return {name: server.register_script(source(name)) for name in names}


def keys_of(key: str) -> list[str]:
    """The keys of a rate limit: what is known, the answers by second, the calls under way."""
    return [key, f"{key}:answers", f"{key}:calls"]


def source(name: Name) -> str:
    """The text of a script, with what both know in front of it."""
    return "".join((FOLDER / f"{part}.lua").read_text("utf-8") for part in ("state", name))
