"""Reads the rows that viewers ask for, a few queries at a time however many they are."""

import asyncio
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.utils import timezone

from stories.live.viewer import Snapshot
from stories.models import Story

T = TypeVar("T")
THREADS = 4  # for what sockets do in the database: one slow query must not hold up all of them
COLUMNS = (
    *("attempt_name", "fence", "state", "text", "edited_text", "end_reason", "created_at", "run_id"),
    *("next_try_at", "error"),
)
WORTH_SAYING = 10  # seconds: who waits less need not read why


def take_snapshots(keys: Iterable[UUID]) -> dict[UUID, Snapshot]:
    """The rows of the stories, read anew; a story that is gone is missing."""
    return {row.pk: _snapshot(row) for row in Story.objects.filter(pk__in=list(keys)).only(*COLUMNS)}


def _snapshot(row: Story) -> Snapshot:
    return Snapshot(
        attempt=row.text_name,
        fence=row.fence,
        state=row.state,
        text=row.final_text,
        reason=row.end_reason,
        position=queue_position(row) if row.state == Story.State.QUEUED else None,
        wait=seconds_to_wait(row),
    )


def queue_position(story: Story) -> int:
    """1 for the story that is next. Runs have a queue of their own."""
    ahead = Story.objects.filter(state=Story.State.QUEUED, created_at__lt=story.created_at)
    return ahead.filter(run__isnull=story.run_id is None).count() + 1


def seconds_to_wait(story: Story) -> int:
    """How long a queued story must still wait because its model's provider asked for it; 0: not for that."""
    if story.state != Story.State.QUEUED or not story.error or story.next_try_at is None:
        return 0
    seconds = math.ceil((story.next_try_at - timezone.now()).total_seconds())
    return seconds if seconds >= WORTH_SAYING else 0


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="sockets-database")


async def in_database(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)` on a thread that sockets share, with a connection of its own."""
    call = database_sync_to_async(function, thread_sensitive=False, executor=_threads())
    result: T = await call(*arguments)
    return result


class SnapshotReader:
    """Reads for all viewers of one event loop: who asks while a read runs shares the next one."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, asyncio.Future[Snapshot | None]] = {}
        self._working: asyncio.Task[None] | None = None

    async def read(self, pk: UUID) -> Snapshot | None:
        """The row as it is after this call began; None if there is no such story."""
        if pk not in self._waiting:
            self._waiting[pk] = asyncio.get_running_loop().create_future()
        future = self._waiting[pk]
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await asyncio.shield(future)

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            try:
                rows = await in_database(take_snapshots, list(batch))
            except Exception as error:
                for future in batch.values():
                    future.set_exception(error)
            else:
                for pk, future in batch.items():
                    future.set_result(rows.get(pk))


@cache
def _readers() -> WeakKeyDictionary[asyncio.AbstractEventLoop, SnapshotReader]:
    return WeakKeyDictionary()


async def take_snapshot(pk: UUID) -> Snapshot | None:
    """The story's row, read anew; None if there is no such story."""
    return await _readers().setdefault(asyncio.get_running_loop(), SnapshotReader()).read(pk)
