"""run.log: written line by line, bounded by rotation, and harmless to the site when the disk is full."""

import os
from contextlib import suppress
from pathlib import Path

KEPT_LOGS = 5
MAX_BYTES = 10 * 1024 * 1024


class LogFile:
    """One log and its older pieces, `<name>.1` the newest of them. A line that cannot be written is counted."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._most_bytes = path, max_bytes
        self._handle = -1
        self._size = 0
        self._whole = True  # whether the last line was written to its end
        self.lost = 0
        with suppress(OSError):
            rotate(path)

    def write(self, line: bytes) -> None:
        """Writes a whole line. On an error the line is lost, and the next written one says how many were."""
        said = (
            f"--- {self.lost} lines before this one could not be written ---\n".encode() if self.lost else b""
        )
        if not self._whole:
            said = b"\n" + said
        try:
            self._open()
            self._write(said + line)
        except OSError:
            self.lost += 1
            self.close()  # the next line opens it anew, wherever it then lies
            return
        self.lost = 0

    def close(self) -> None:
        """Lets go of the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _open(self) -> None:
        if self._handle >= 0 and self._size >= self._most_bytes:
            self.close()
            rotate(self._path)
        if self._handle < 0:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._handle).st_size

    def _write(self, data: bytes) -> None:
        """Writes all of it. Raises OSError; the part of a line that a full disk took stays as a line of its own."""
        while data:
            written = os.write(self._handle, data)
            self._size += written
            self._whole = written == len(data)
            data = data[written:]


def rotate(path: Path) -> None:
    """`path` becomes `<path>.1`, that one `<path>.2`, and so on; the oldest goes."""
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))
