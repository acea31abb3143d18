"""Database connections around slow calls, and a database that is locked, full or away for a while."""

import errno
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection, transaction

T = TypeVar("T")
logger = logging.getLogger(__name__)
AWAY = (OperationalError, InterfaceError)
"""What Django raises when a database cannot be written now, but perhaps later: it is locked, full or restarting."""
FULL = (errno.ENOSPC, errno.EDQUOT)
PAUSE = 1.0  # seconds between two tries


def may_pass(error: BaseException | None) -> bool:
    """Whether the same request may succeed later: the database is away, or a disk or quota is full."""
    return isinstance(error, AWAY) or (isinstance(error, OSError) and error.errno in FULL)


def release_connection() -> None:
    """Closes the thread's connection before a call that may take minutes; the next query opens a new one.

    Does nothing inside a transaction.
    """
    if not connection.in_atomic_block:
        connection.close()


def release_scarce_connection() -> None:
    """As `release_connection`, but not for SQLite, whose connections are slow to open and cheap to keep."""
    if connection.vendor != "sqlite":
        release_connection()


def write_when_free(write: Callable[[], T], *, seconds: float) -> T:
    """Calls `write`, and repeats it while the database is away, so that a result that was paid for is not lost.

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


def write_what_can_be(writes: Sequence[Callable[[], bool]], *, what: str) -> bool:
    """The result of the first of `writes` that succeeds; False if none does, and then the sweeper ends `what`.

    Each is done whole or not at all. Raises the errors of a database that is away, which concern everybody.
    """
    for write in writes:
        try:
            with transaction.atomic():
                return write()
        except AWAY:
            raise
        except Exception:
            logger.exception("%s could not be stored", what)
    return False
