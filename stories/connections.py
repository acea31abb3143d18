"""Database connections around slow calls (floor 3)."""

from django.db import connection


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
