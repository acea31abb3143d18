"""A file appears whole or not at all: it is written under another name in the same folder, then renamed."""

import os
import tempfile
from pathlib import Path

PREFIX = ".writing-"


def write_file(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replaces `path` by a file of these bytes, which are on the disk before the old ones go. Raises `OSError`.

    `mode`: its permissions; without one, those that the umask leaves to any new file. On an error the old
    file stays as it was, and nothing lies beside it.
    """
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=PREFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~_umask() if mode is None else mode)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The umask of this process, which can only be read by setting it."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
