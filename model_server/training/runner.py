"""Watches over jobs inside the server: one child process at a time, oldest job first.

The database says what is to be done; this only starts children, kills those whose job was cancelled, and notices a
child that died without ending its job. A job that a stopped server left behind is simply unfinished, so the next
start takes it up again: the built-in engine from the beginning, lora from the state it saved last. Each child leads a
process group of its own, so that whatever it started ends with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from ..disk import EXIT_DISK_FULL, has_space
from ..engines.lora.train import tidy
from ..settings import Settings
from ..store import ENDED, PAUSED, Store

log = logging.getLogger("model_server")

MAX_STARTS = 5
_IDLE_SECONDS = 5.0
_SECONDS_TO_PAUSE = 30.0
_SECONDS_TO_STOP = 2.0
_ROOT = Path(__file__).resolve().parents[2]  # where `-m model_server` is found


class TrainingRunner:
    """Starts, watches and ends training children. `wake` and `cancel` may be called from any thread."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._child: asyncio.subprocess.Process | None = None
        self._job: str | None = None
        self._stopping = False
        self._pausing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs for as long as the server does; on leaving, the child is ended and its job left unfinished."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(self._work())
        try:
            yield
        finally:
            self._stopping = True
            await self._end_child()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def wake(self) -> None:
        """Says that there is a new job."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._woken.set)

    def cancel(self, job: str) -> None:
        """Kills the child that works on `job`, if there is one; the job itself has been ended already."""
        if self._loop and self._job == job:
            self._loop.call_soon_threadsafe(self._kill)
        else:
            tidy(self._settings.models / job)

    def pause(self, job: str) -> None:
        """Asks the child that works on `job`, if there is one, to keep what it has and end."""
        if self._loop and self._job == job:
            self._loop.call_soon_threadsafe(self._ask_to_end)

    def _ask_to_end(self) -> None:
        if self._loop and self._child and self._child.returncode is None:
            self._pausing = True
            self._child.terminate()
            child = self._child
            self._loop.call_later(_SECONDS_TO_PAUSE, lambda: self._kill(child))

    def _kill(self, child: asyncio.subprocess.Process | None = None) -> None:
        """Kills the child and all that it started."""
        child = child or self._child
        if child and child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)

    async def _end_child(self) -> None:
        """At the server's end: two seconds to keep what was learnt, then no more."""
        child = self._child
        if child and child.returncode is None:
            child.terminate()
            try:
                await asyncio.wait_for(child.wait(), _SECONDS_TO_STOP)
            except TimeoutError:
                self._kill(child)
                await child.wait()

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            try:
                for job in await run_in_threadpool(self._store.unfinished_jobs):
                    await self._train(job)
            except Exception:  # a locked database must not end the watch: the next round tries again
                log.exception("the job runner failed")
            try:
                await asyncio.wait_for(self._woken.wait(), _IDLE_SECONDS)
            except TimeoutError:
                continue

    async def _train(self, job: dict[str, Any]) -> None:
        if not await run_in_threadpool(has_space, self._settings.data):
            return
        begun = await run_in_threadpool(self._store.begin_job, job["id"])
        if begun is None:
            return
        if begun["tries"] > MAX_STARTS:
            await run_in_threadpool(
                self._fail, job["id"], f"The job was started {MAX_STARTS} times and never got on."
            )
            return
        if begun["tries"] > 1:
            message = (
                "Training begins again: it was stopped in the middle, by the server's end or a full disk."
            )
            await run_in_threadpool(self._store.add_event, job["id"], message, level="warn")
        code = await self._run_child(job["id"], begun["starts"])
        if code == EXIT_DISK_FULL:
            log.warning("the disk is full: the job %s waits for room", job["id"])
            return
        if code != 0 and not self._stopping and not self._pausing:
            await run_in_threadpool(
                self._fail, job["id"], f"The training process ended unexpectedly ({_why(code)})."
            )
        await run_in_threadpool(self._tidy, job["id"])

    async def _run_child(self, job: str, fence: int) -> int:
        """Runs the child to its end; returns its exit code, negative for a signal."""
        given = {
            "data": str(self._settings.data),
            "job": job,
            "fence": fence,
            "org": self._settings.org,
            "bases": {name: str(folder) for name, folder in self._settings.base_models.items()},
            "options": self._settings.training_options,
        }
        self._job, self._pausing = job, False
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "model_server.training.worker",
            json.dumps(given),
            cwd=_ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        if self._stopping:
            self._kill()
        # A cancel or a pause that came between the claim and this line found no child to end.
        row = await run_in_threadpool(self._store.job, job)
        if row and row["status"] in ("cancelled", PAUSED):
            self._pausing = row["status"] == PAUSED
            self._kill()
        try:
            return await self._child.wait()
        finally:
            self._job = None

    def _tidy(self, job: str) -> None:
        row = self._store.job(job)
        if row and row["status"] in ENDED:
            tidy(self._settings.models / job)

    def _fail(self, job: str, message: str) -> None:
        error = {"code": "server_error", "message": message, "param": None}
        self._store.end_job(job, "failed", message, error=json.dumps(error))


def _why(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
