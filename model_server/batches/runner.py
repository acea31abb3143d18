"""Watches over batches inside the server: one child process at a time, oldest batch first.

As with training, the database says what is to be done: a batch that a stopped server left behind is unfinished, and
the next start begins it again; nothing of it was handed out, because its files are recorded at its end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from ..disk import EXIT_DISK_FULL, has_space
from ..settings import Settings
from .store import BatchStore

log = logging.getLogger("model_server")

MAX_STARTS = 5
_IDLE_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parents[2]  # where `-m model_server` is found


class BatchRunner:
    """Starts and watches the children. `wake` may be called from any thread."""

    def __init__(self, store: BatchStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs for as long as the server does; on leaving, the child is ended and its batch left unfinished."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(self._work())
        try:
            yield
        finally:
            self._stopping = True
            self._kill()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._child:
                await self._child.wait()

    def wake(self) -> None:
        """Says that there is a new batch."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._woken.set)

    def _kill(self) -> None:
        if self._child and self._child.returncode is None:
            self._child.kill()

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            try:
                for batch in await run_in_threadpool(self._store.unfinished_batches):
                    await self._answer(batch["id"])
            except Exception:  # a locked database must not end the watch: the next round tries again
                log.exception("the batch runner failed")
            try:
                await asyncio.wait_for(self._woken.wait(), _IDLE_SECONDS)
            except TimeoutError:
                continue

    async def _answer(self, batch: str) -> None:
        if not await run_in_threadpool(has_space, self._settings.data):
            return
        fence = await run_in_threadpool(self._store.begin_batch, batch)
        if fence is None:
            return
        code = 0 if fence > MAX_STARTS else await self._run_child(batch, fence)
        if self._stopping or code == EXIT_DISK_FULL:
            return
        if fence > MAX_STARTS or code:
            message = f"The batch was started {fence} times and did not end (exit code {code})."
            error = {"code": "server_error", "message": message, "line": None, "param": None}
            errors = json.dumps({"object": "list", "data": [error]})
            await run_in_threadpool(lambda: self._store.change_batch(batch, status="failed", errors=errors))

    async def _run_child(self, batch: str, fence: int) -> int:
        """Runs the child to its end; returns its exit code, negative for a signal."""
        rate = self._settings.mistake_rate
        given: dict[str, Any] = {
            "data": str(self._settings.data),
            "batch": batch,
            "fence": fence,
            "mistake_rate": rate,
        }
        given["base_models"] = list(self._settings.base_models)
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "model_server.batches.worker",
            json.dumps(given),
            cwd=_ROOT,
            stdin=asyncio.subprocess.DEVNULL,
        )
        if self._stopping:
            self._kill()
        return await self._child.wait()
