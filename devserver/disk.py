"""The folder of a copy on its disk: keeps it private, and says whether the disk has room."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PRIVATE_UMASK = 0o077
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
PROBE_BYTES = 256 * 1024
# What a copy writes. Another folder or file beside them is not ours to change.
OURS = ("site.sqlite3*", "files", "logs", "model_server", "static", "run.*", "beat-schedule*")


def tighten(data_dir: Path) -> None:
    """Takes from other users what earlier versions let them read. Links and other users' files are left alone."""
    for path in _everything(data_dir):
        with suppress(OSError):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~PRIVATE_UMASK & 0o777)


def _everything(data_dir: Path) -> Iterator[Path]:
    for pattern in OURS:
        for top in data_dir.glob(pattern):
            yield top
            if top.is_dir() and not top.is_symlink():
                for folder, folders, files in os.walk(top):
                    yield from (Path(folder, name) for name in [*folders, *files])


def has_room(folder: Path) -> bool:
    """Whether the disk takes a little more, found by writing: the count of free blocks does not show a quota."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error.errno not in NO_ROOM
    return True
