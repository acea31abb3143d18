"""Hands a task to the workers; gives up within seconds (floor 1).

Redis is only a hint: the database holds what is to be done, and the sweeper publishes what was left behind.
"""

import logging
from typing import Any

from celery import Task
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def publish(task: Task, *keys: Any) -> bool:
    """Sends `task(*keys)` to its queue. False, with a line in the log, when Redis is away."""
    try:
        task.apply_async(args=tuple(str(key) for key in keys), retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("Redis is away, %s waits for the sweeper: %s", task.name, error)
        return False
    return True
