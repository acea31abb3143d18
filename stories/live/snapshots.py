"""Reads the rows that viewers ask for. Viewers that ask at the same time share a query."""

import asyncio
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache
from typing import TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from stories.live.viewer import Snapshot
from stories.models import Attempt, Story

T = TypeVar("T")
THREADS = 4  # for the database work of sockets, so that one slow query does not hold up all of them
COLUMNS = (
    *("attempt_name", "fence", "state", "text", "edited_text", "end_reason", "created_at", "run_id"),
    *("next_try_at", "error"),
)
MIN_WAIT = 10  # seconds; a viewer is not told of a shorter wait


def take_snapshots(keys: Iterable[UUID]) -> dict[UUID, Snapshot]:
    """The rows of the stories, read anew; a story that is gone is missing."""
    rows = with_thinking(Story.objects.filter(pk__in=list(keys)).only(*COLUMNS))
    return {row.pk: _snapshot(row) for row in rows}


def _snapshot(row: Story) -> Snapshot:
    return Snapshot(
        attempt=row.text_name,
        fence=row.fence,
        state=row.state,
        text=row.final_text,
        reason=row.end_reason,
        position=queue_position(row) if row.state == Story.State.QUEUED else None,
        wait=seconds_to_wait(row),
        thinking=_seconds_since(row.thinking_since),
    )


def queue_position(story: Story) -> int:
    """1 for the story that is next. Runs have a queue of their own."""
    ahead = Story.objects.filter(state=Story.State.QUEUED, created_at__lt=story.created_at)
    return ahead.filter(run__isnull=story.run_id is None).count() + 1


def seconds_to_wait(story: Story) -> int:
    """Seconds until a queued story's model is asked again, because its provider asked for a pause; else 0."""
    if story.state != Story.State.QUEUED or not story.error or story.next_try_at is None:
        return 0
    seconds = math.ceil((story.next_try_at - timezone.now()).total_seconds())
    return seconds if seconds >= MIN_WAIT else 0


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="sockets-database")


def seconds_of_thinking(story: Story) -> int | None:
    """Seconds since the model began to think, which it still does; None if it does not."""
    if story.state != Story.State.WRITING:
        return None
    return _seconds_since(with_thinking(Story.objects.filter(pk=story.pk)).get().thinking_since)


def with_thinking(stories: QuerySet[Story]) -> QuerySet[Story]:
    """Annotates `thinking_since`: since when the model thinks that has not written anything yet, else null."""
    calls = Attempt.objects.filter(
        story=OuterRef("pk"), fence=OuterRef("fence"), state__in=Attempt.OPEN, first_text_at__isnull=True
    )
    # By its name as a word: the class declares it, which django-stubs takes for a second attribute.
    return stories.annotate(**{"thinking_since": Subquery(calls.values("first_thought_at")[:1])})


def _seconds_since(moment: datetime | None) -> int | None:
    return None if moment is None else max(0, int((timezone.now() - moment).total_seconds()))


# Any: whatever the function takes.
async def in_database(function: Callable[..., T], *arguments: object) -> T:
    """`function(*arguments)` on a thread that sockets share, with a connection of its own."""
    call = database_sync_to_async(function, thread_sensitive=False, executor=_threads())
    result: T = await call(*arguments)
    return result


class SnapshotLoader:
    """Loads rows for all viewers of one event loop. All who ask while a query runs share the next one."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, asyncio.Future[Snapshot | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def read(self, pk: UUID) -> Snapshot | None:
        """The row as it is after this call began; None if there is no such story."""
        if pk not in self._waiting:
            self._waiting[pk] = asyncio.get_running_loop().create_future()
        future = self._waiting[pk]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
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
def _loaders() -> WeakKeyDictionary[asyncio.AbstractEventLoop, SnapshotLoader]:
    return WeakKeyDictionary()


async def take_snapshot(pk: UUID) -> Snapshot | None:
    """The story's row, read anew; None if there is no such story."""
    return await _loaders().setdefault(asyncio.get_running_loop(), SnapshotLoader()).read(pk)
