"""Hands a task to the workers; gives up within seconds.

Redis is only a hint: the database holds what is to be done, and the sweeper publishes what was left behind.
"""

import logging
import time
from functools import cache
from typing import Any

from celery import Task, current_app
from kombu.exceptions import LimitExceeded, OperationalError
from kombu.pools import ProducerPool, Producers
from redis.exceptions import RedisError

from llm.outage import outage_of

logger = logging.getLogger(__name__)
TIMEOUT = 2.0  # seconds that a page waits for Redis, or for a connection to it that others hold
CONNECTIONS = 10


def publish(task: "Task[Any, Any]", *keys: Any) -> bool:
    """Sends `task(*keys)` to its queue. False when Redis is away; the first call that finds out logs it."""
    url, began = task.app.conf.broker_url, time.monotonic()
    outage = outage_of(url)
    if not outage.may_ask():
        return False
    try:
        with _producers(url).acquire(block=True, timeout=TIMEOUT) as producer:
            if outage.seen_since(began):  # by those who held the connections while we waited for one
                return False
            task.apply_async(args=tuple(str(key) for key in keys), retry=False, producer=producer)
    except (OperationalError, LimitExceeded, RedisError, OSError) as error:
        outage.begin()
        logger.warning("Redis is away, %s waits for the sweeper: %s", task.name, error)
        return False
    outage.end()
    return True


@cache
def _producers(url: str) -> ProducerPool:
    """Connections to the broker for messages alone, tried once: a worker's own may wait longer than a page."""
    options = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT, "max_retries": 0}
    connection = current_app.connection_for_write(url, transport_options=options)
    producers: ProducerPool = Producers(limit=CONNECTIONS)[connection]
    return producers
