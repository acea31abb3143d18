"""Database connections around slow calls, and a database that is locked, full or away for a while."""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

T = TypeVar("T")
logger = logging.getLogger(__name__)
AWAY = (OperationalError, InterfaceError)
"""What Django raises when a database cannot be written now: locked, full, restarting. Later it may be."""
FULL = (errno.ENOSPC, errno.EDQUOT)
PAUSE = 1.0  # seconds between two tries


def may_pass(error: BaseException | None) -> bool:
    """Whether the same request may well succeed later: the database is away, or a disk or quota is full."""
    return isinstance(error, AWAY) or (isinstance(error, OSError) and error.errno in FULL)


def release_connection() -> None:
    """Gives the thread's connection back before a call that may take minutes; the next query takes one anew.

    Inside a transaction there is nothing to give back.
    """
    if not connection.in_atomic_block:
        connection.close()


def release_scarce_connection() -> None:
    """The same where connections are few: SQLite's are files, dear to open and cheap to keep."""
    if connection.vendor != "sqlite":
        release_connection()


def write_when_free(write: Callable[[], T], *, seconds: float) -> T:
    """`write()`, and again while the database is away: what was paid for is kept in memory until then.

    `write` is one transaction that may be repeated. Raises its last error after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return write()
        except AWAY as error:
            if time.monotonic() > deadline or connection.in_atomic_block:
                raise
            logger.warning("a result waits for the database: %s", error)
            connection.close()
            time.sleep(PAUSE)
