"""Enqueues tasks for the workers, and gives up within seconds.

A message in Redis is only a hint. The database holds what is to be done, and the sweeper enqueues what was missed.
"""

import logging
import time
from functools import cache
from typing import Any

from celery import Task, current_app
from kombu.exceptions import LimitExceeded, OperationalError
from kombu.pools import ProducerPool, Producers
from redis.exceptions import RedisError

from llm.circuit_breaker import breaker_of

logger = logging.getLogger(__name__)
MAX_SECONDS = 2.0  # that a page waits for Redis, or for a connection to it that other threads hold
CONNECTIONS = 10


# Any: a task of any signature; its keys are sent as text.
def enqueue(task: "Task[Any, Any]", *keys: object) -> bool:
    """Sends `task(*keys)` to its queue. Returns False when Redis is away; each failed try is logged."""
    url, began = task.app.conf.broker_url, time.monotonic()
    breaker = breaker_of(url)
    if not breaker.allows():
        return False
    try:
        with _producers(url).acquire(block=True, timeout=MAX_SECONDS) as producer:
            if breaker.failed_since(began):  # in a thread that held a connection while we waited for one
                return False
            task.apply_async(args=tuple(str(key) for key in keys), retry=False, producer=producer)
    except (OperationalError, LimitExceeded, RedisError, OSError) as error:
        breaker.record_failure()
        logger.warning("Redis is away, %s waits for the sweeper: %s", task.name, error)
        return False
    breaker.record_success()
    return True


@cache
def _producers(url: str) -> ProducerPool:
    """Connections that only send messages, and try once. A worker's own connections may wait longer than a page."""
    options = {"socket_timeout": MAX_SECONDS, "socket_connect_timeout": MAX_SECONDS, "max_retries": 0}
    connection = current_app.connection_for_write(url, transport_options=options)
    producers: ProducerPool = Producers(limit=CONNECTIONS)[connection]
    return producers
