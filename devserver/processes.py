"""One child process of the supervisor: its start in a group of its own, its output, its end."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from devserver.console import Console, relay
from devserver.reaper import send
from ultraman_site.environment import BASE_DIR

Command = Sequence[str]


class Reaper:
    """The supervisor's end of the pipe to `reaper.py`; `held` is the lock that it shares."""

    def __init__(self, held: IO[str]) -> None:
        script = Path(__file__).with_name("reaper.py")
        self._process = subprocess.Popen(  # noqa: S603  (our own file)
            [sys.executable, "-I", str(script)],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=[held.fileno()],
        )

    def add(self, group: int) -> None:
        self._tell(group)

    def remove(self, group: int) -> None:
        self._tell(-group)

    def close(self) -> None:
        """Lets it go, after all children have ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, number: int) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # Someone killed the reaper; the supervisor still ends its children itself.
            return


class Child:
    """A running process; `started` is on the monotonic clock."""

    def __init__(
        self, name: str, command: Command, *, environment: Mapping[str, str], console: Console, reaper: Reaper
    ) -> None:
        self.name = name
        self.started = time.monotonic()
        self._console, self._reaper = console, reaper
        self._reaped = False
        self._process = subprocess.Popen(  # noqa: S603  (from services.py)
            command,
            cwd=BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        reaper.add(self._process.pid)
        self._reader = threading.Thread(target=self._relay, name=f"log of {name}", daemon=True)
        self._reader.start()

    def _relay(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            relay(output, lambda text, cut: self._console.line(self.name, text, cut=cut))

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> int | None:
        """None while it runs, then its exit code (-9: by signal 9); what it started is ended with it."""
        code = self._process.poll()
        if code is not None and not self._reaped:
            self._reaped = True
            send(self.pid, signal.SIGKILL)
            self._reaper.remove(self.pid)
        return code

    def send(self, number: int) -> None:
        send(self.pid, number)

    def drain(self) -> None:
        """Lets its last lines reach the log."""
        self._reader.join(timeout=1)


def end_all(children: Iterable[Child], *, grace: float) -> None:
    """SIGTERM to all at once, SIGKILL to those that still run after `grace` seconds."""
    left = [child for child in children if child.ended() is None]
    for child in left:
        child.send(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [child for child in left if child.ended() is None]
    for child in left:
        child.send(signal.SIGKILL)
    while left:
        time.sleep(0.02)
        left = [child for child in left if child.ended() is None]


def describe(code: int) -> str:
    """`exit code 1`, `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def python(*arguments: str) -> tuple[str, ...]:
    """A command line of this interpreter."""
    return (sys.executable, *arguments)
