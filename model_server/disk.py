"""A full disk: how it is recognised, and the exit code of a child that met one.

Jobs and batches wait until there is space again: they do not fail because of a full disk.
"""

from __future__ import annotations

import errno
import sqlite3
import tempfile
from pathlib import Path

EXIT_DISK_FULL = 75  # exit code of a child; sysexits.h, "temporary failure"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")
_PROBE_BYTES = 256 * 1024


class DiskFull(OSError):
    """The disk is full."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "No space left on device")


def is_full(error: BaseException) -> bool:
    """Whether an error means a full disk; libraries in other languages say so in the message only."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    if isinstance(error, sqlite3.Error) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
        return True
    return says_full(str(error))


def says_full(text: str) -> bool:
    """Whether a log or a message mentions a full disk."""
    return any(words in text.lower() for words in _WORDS)


def has_space(folder: Path) -> bool:
    """Whether a small file can be written; it is tried, as the number of free blocks does not show a quota."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return not is_full(error)
    return True
