"""Whether this site can do its work: database, Redis, and the processes that must be alive."""

import redis
from django.conf import settings
from django.db import DatabaseError

from stories.operations.heartbeats import silent_processes

TIMEOUT = 2.0


def find_missing() -> list[str]:
    """What is not there, by name: `database`, `redis`, or a silent process; [] when all is well."""
    return _missing_from_database() + _missing_redis()


def _missing_from_database() -> list[str]:
    try:
        return silent_processes()
    except DatabaseError:
        return ["database"]


def _missing_redis() -> list[str]:
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        ) as server:
            server.ping()
    except (redis.RedisError, OSError):
        return ["redis"]
    return []
