"""A full disk: how it is recognised, and what a child says that could not go on for want of room.

What was ordered waits then, and is taken up again when there is room: a full disk is no fault of a job.
"""

from __future__ import annotations

import errno
import sqlite3
import tempfile
from pathlib import Path

EXIT_DISK_FULL = 75  # a child's exit code: sysexits.h, "temporary failure"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")
_PROBE_BYTES = 256 * 1024


class DiskFull(OSError):
    """The disk is full."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "No space left on device")


def is_full(error: BaseException) -> bool:
    """Whether the disk was full; libraries in other languages say so in words only."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    if isinstance(error, sqlite3.Error) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
        return True
    return says_full(str(error))


def says_full(text: str) -> bool:
    """Whether a log or a message tells of a full disk."""
    return any(words in text.lower() for words in _WORDS)


def has_space(folder: Path) -> bool:
    """Whether the disk takes a little more, found by trying: a quota is not to be seen in its free blocks."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return not is_full(error)
    return True
