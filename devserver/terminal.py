"""Our standard output, a terminal or a file: a thread of its own writes it, so that nobody waits for it.

A paused terminal or a pipe that nobody reads would otherwise stop every process of the site at its next line.
"""

import os
import queue
import sys
import threading
import time
from contextlib import suppress

from devserver.disk import NO_ROOM

MAX_WAITING = 10_000  # lines
CLOSING_SECONDS = 2.0
ROOM_SECONDS = 0.5  # between two tries while there is no room


class Terminal:
    """Lines for our standard output, in order. A full queue drops lines; the next line says how many."""

    def __init__(self, handle: int, *, encoding: str) -> None:
        self._handle, self._encoding = handle, encoding
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._lost = 0
        self._closing = False
        self._writer = threading.Thread(target=self._write_all, name="terminal", daemon=True)
        self._writer.start()

    def show(self, line: str) -> None:
        """Never blocks."""
        said = f"--- {self._lost} lines before this one could not be shown ---\n" if self._lost else ""
        try:
            self._lines.put_nowait(said + line)
        except queue.Full:
            self._lost += 1
        else:
            self._lost = 0

    def close(self) -> None:
        """Shows what waits, as far as that takes no more than a moment."""
        self._closing = True
        with suppress(queue.Full):
            self._lines.put_nowait(None)
        self._writer.join(CLOSING_SECONDS)

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line.encode(self._encoding, "backslashreplace"))
            except OSError:
                self._give_up()
                return

    def _write(self, data: bytes) -> None:
        """Writes all of it; on a full disk (`make run > file`) it waits for room."""
        while data:
            try:
                data = data[os.write(self._handle, data) :]
            except OSError as error:
                if error.errno not in NO_ROOM or self._closing:
                    raise
                time.sleep(ROOM_SECONDS)

    def _give_up(self) -> None:
        """Writes to nowhere from now on: our reader is gone, the site goes on, and Python exits without an error."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._handle)
            os.close(nowhere)


def standard_output() -> Terminal:
    """Our standard output as a terminal."""
    return Terminal(sys.stdout.fileno(), encoding=sys.stdout.encoding or "utf-8")
