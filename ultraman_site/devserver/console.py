"""One readable log of all processes: on the terminal with coloured names, and in DATA_DIR/logs/run.log."""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

WIDTH = 8
KEPT_LOGS = 5
COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)
DIM, RED, BOLD = 2, 31, 1


class Console:
    """Lines of many threads, one at a time. The terminal may go away; the file keeps everything."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "run.log"
        _rotate(self._path)
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._colours: dict[str, int] = {}
        self._terminal_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._file.close()

    def line(self, name: str, text: str, *, loud: bool = False) -> None:
        """A line of the process `name`; `loud` is for what the supervisor itself must be heard saying."""
        with self._lock:
            if self._file.closed:
                return
            self._file.write(f"{time.strftime('%H:%M:%S')} {name:<{WIDTH}} | {text}\n")
            prefix = self._paint(f"{name:<{WIDTH}} |", self._colour(name))
            self._show(f"{prefix} {self._paint(text, RED) if loud else text}\n")

    def plain(self, text: str) -> None:
        """A line of its own, without name or colour."""
        with self._lock:
            self._file.write(text + "\n")
            self._show(text + "\n")

    def _show(self, text: str) -> None:
        if not self._terminal_open:
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except UnicodeEncodeError:
            sys.stdout.write(text.encode("ascii", "backslashreplace").decode("ascii"))
            sys.stdout.flush()
        except OSError:
            # The reader of our output is gone: the site lives on, and python must not trip at exit either.
            self._terminal_open = False
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _colour(self, name: str) -> int:
        return self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])

    def _paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text


def _rotate(path: Path) -> None:
    """run.log of the last start becomes run.log.1, and so on."""
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = path.with_name(f"run.log.{number}")
        if older.exists():
            older.replace(path.with_name(f"run.log.{number + 1}"))
    if path.exists():
        path.replace(path.with_name("run.log.1"))
