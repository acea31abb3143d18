"""One readable log of all processes: on the terminal with coloured names, and in DATA_DIR/logs/run.log."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from devserver.logfile import LogFile
from devserver.terminal import Terminal, standard_output
from ultraman_site.log_lines import MAX_CHARACTERS, one_line

WIDTH = 8
COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)
DIM, RED, BOLD = 2, 31, 1
PIECE_BYTES = 4 * MAX_CHARACTERS  # a character has four bytes at most


class Console:
    """Writes lines of many threads, one at a time; never waits for the terminal, raises no error of either place."""

    def __init__(self, folder: Path, *, log: LogFile | None = None, terminal: Terminal | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = log or LogFile(folder / "run.log")
        self._terminal = terminal or standard_output()
        self._lock = threading.Lock()
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._colours: dict[str, int] = {}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            self._log.close()
            self._terminal.close()

    def line(self, name: str, text: str, *, loud: bool = False, cut: int = 0) -> None:
        """A line of the process `name`; `loud` paints it red, for what the supervisor must be seen to say.

        `cut` characters of it were left out before.
        """
        text = one_line(text, cut=cut)
        with self._lock:
            prefix = self._paint(f"{name:<{WIDTH}} |", self._colour(name))
            self._put(
                f"{time.strftime('%H:%M:%S')} {name:<{WIDTH}} | {text}\n",
                f"{prefix} {self._paint(text, RED) if loud else text}\n",
            )

    def plain(self, text: str) -> None:
        """A line of its own, without name or colour."""
        with self._lock:
            self._put(text + "\n", text + "\n")

    def _put(self, written: str, shown: str) -> None:
        if not self._closed:
            self._log.write(written.encode("utf-8", "backslashreplace"))
            self._terminal.show(shown)

    def _colour(self, name: str) -> int:
        return self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])

    def _paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text


def relay(stream: IO[bytes], say: Callable[[str, int], None]) -> None:
    """Reads a process's output to its end; says each line that is not blank, with the number of characters cut off it.

    A line without an end takes no more memory than one piece.
    """
    while piece := stream.readline(PIECE_BYTES):
        cut = 0
        while not piece.endswith(b"\n") and (more := stream.readline(PIECE_BYTES)):
            cut += len(more.decode("utf-8", "replace").rstrip("\r\n"))
            if more.endswith(b"\n"):
                break
        if text := piece.decode("utf-8", "replace").rstrip():
            say(text, cut)
