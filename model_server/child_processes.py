"""Child processes, one at a time for each queue of tasks: the server starts and watches them, each child does one task.

    the server: ChildRunner                                    the child: run_child(), Lease
    claims the oldest unfinished task, and        ── JSON ──►  does the task; before each of its writes it
    starts its child with the fence of the claim               checks that the task is still its own
    reads the exit code: 0, EXIT_DISK_FULL, ...   ◄── code ──

The database says what is to be done. A task whose server or child was killed is merely unfinished: the next round
claims it again under a higher fence, and an older child that still runs loses its lease.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .disk import EXIT_DISK_FULL, has_space, is_full

log = logging.getLogger("model_server")

MAX_STARTS = 5
_IDLE_SECONDS = 5.0
_SECONDS_TO_STOP = 2.0
_ROOT = Path(__file__).resolve().parents[1]  # where `-m model_server` is found


@dataclass(frozen=True)
class Claim:
    """A task that was given to a new child. `starts` counts those since the task last made progress."""

    task: str
    fence: int
    starts: int


class ChildRunner(ABC):
    """Starts, watches and ends the children of one queue. `wake` may be called from any thread."""

    module: ClassVar[str]  # what a child runs

    def __init__(self, data: Path) -> None:
        self._data = data
        self._child: asyncio.subprocess.Process | None = None
        self._task: str | None = None  # the one that the child works on
        self._stopping = False
        self._ended_by_us = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    # What each queue says for itself; these methods block and run in threads.

    @abstractmethod
    def unfinished(self) -> list[str]:
        """The ids of the tasks that a child may work on, oldest first."""

    @abstractmethod
    def claim(self, task: str) -> Claim | None:
        """Gives the task to a new child; None if it has ended meanwhile."""

    @abstractmethod
    def argument(self, claim: Claim) -> dict[str, Any]:
        """What the child needs to know besides `data` and `fence`."""

    @abstractmethod
    def fail(self, claim: Claim, code: int | None) -> None:
        """Ends the task as failed: its child ended with exit code `code`, or (None) it was started too often."""

    def is_wanted(self, task: str) -> bool:
        """Whether the task is still to be done, asked once its child runs."""
        return True

    def after_end(self, task: str) -> None:  # noqa: B027 - a queue may have nothing to do here
        """Called after each child, but not after a full disk."""

    # Running

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs for as long as the server does; at the end the child is ended, and its task left unfinished."""
        self._loop = asyncio.get_running_loop()
        watch = asyncio.ensure_future(self._watch())
        try:
            yield
        finally:
            self._stopping = True
            await self._end_child()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            await self._end_child()  # one that was just being started

    def wake(self) -> None:
        """Says that there is a new task."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._woken.set)

    async def _watch(self) -> None:
        while True:
            self._woken.clear()
            try:
                for task in await asyncio.to_thread(self.unfinished):
                    await self._do(task)
            except Exception:  # such as a locked database: the next round tries again
                log.exception("%s failed", type(self).__name__)
            try:
                await asyncio.wait_for(self._woken.wait(), _IDLE_SECONDS)
            except TimeoutError:
                continue

    async def _do(self, task: str) -> None:
        if not await asyncio.to_thread(has_space, self._data):
            return
        claim = await asyncio.to_thread(self.claim, task)
        if claim is None:
            return
        if claim.starts > MAX_STARTS:
            await asyncio.to_thread(self.fail, claim, None)
            return
        code = await self._run_child(claim)
        if code == EXIT_DISK_FULL:
            log.warning("the disk is full: %s waits until there is space", task)
            return
        if code != 0 and not self._ended_by_us:
            await asyncio.to_thread(self.fail, claim, code)
        await asyncio.to_thread(self.after_end, task)

    async def _run_child(self, claim: Claim) -> int:
        """Runs the child to its end; returns its exit code, negative for a signal.

        Each child leads a process group of its own, so that whatever it started can be ended with it.
        """
        argument = {"data": str(self._data), "fence": claim.fence} | self.argument(claim)
        self._task, self._ended_by_us = claim.task, False
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self.module, json.dumps(argument)),
            cwd=_ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            # A cancel, a pause or the server's end between the claim and this line found no child to end.
            if self._stopping or not await asyncio.to_thread(self.is_wanted, claim.task):
                self._kill(self._child)
            return await self._child.wait()
        finally:
            self._task = None

    # Ending

    def works_on(self, task: str) -> bool:
        """Whether a child works on the task now."""
        return self._loop is not None and self._task == task

    def kill(self, task: str) -> None:
        """Kills the child that works on the task, if there is one; from any thread."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._kill_task, task)

    def terminate(self, task: str, *, seconds: float) -> None:
        """Asks the child that works on the task to end, and kills it after so many seconds; from any thread."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._terminate_task, task, seconds)

    def _kill_task(self, task: str) -> None:
        if self._task == task:
            self._kill(self._child)

    def _terminate_task(self, task: str, seconds: float) -> None:
        child = self._child
        if self._task == task and self._loop and child and child.returncode is None:
            self._ended_by_us = True
            child.terminate()
            self._loop.call_later(seconds, lambda: self._kill(child))

    def _kill(self, child: asyncio.subprocess.Process | None) -> None:
        """Kills a child and all that it started."""
        if child and child.returncode is None:
            self._ended_by_us = True
            os.killpg(child.pid, signal.SIGKILL)

    async def _end_child(self) -> None:
        """At the server's end: the child has two seconds to save its state."""
        child = self._child
        if child and child.returncode is None:
            self._ended_by_us = True
            child.terminate()
            try:
                await asyncio.wait_for(child.wait(), _SECONDS_TO_STOP)
            except TimeoutError:
                self._kill(child)
                await child.wait()


# The child's side


class LeaseLost(Exception):
    """The task is no longer this child's to do."""


class Lease:
    """A child's right to do its task; it is lost when the server is gone or a newer child has the task."""

    def __init__(self, *, check_seconds: float) -> None:
        self._server = os.getppid()
        self._check_seconds = check_seconds
        self._checked_at = float("-inf")

    def is_due(self) -> bool:
        """Whether it is time for a check; at most once in `check_seconds`."""
        now = time.monotonic()
        if now - self._checked_at < self._check_seconds:
            return False
        self._checked_at = now
        return True

    def check(self, write: Callable[[], bool]) -> None:
        """Runs `write`, a change of the task's row under the child's fence. Raises LeaseLost if it changed nothing."""
        if os.getppid() != self._server or not write():
            raise LeaseLost


def run_child(arguments: Sequence[str], work: Callable[[dict[str, Any]], None]) -> None:
    """The main function of a child: calls `work` with the decoded argument; a full disk gives EXIT_DISK_FULL.

    The child ignores Ctrl-C, as the server ends its children itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work(json.loads(arguments[0]))
    except Exception as error:
        if not is_full(error):
            raise
        sys.exit(EXIT_DISK_FULL)
