"""Changes many stories that this process writes by one statement each.

The ORM has no way to give each row a value of its own under a condition of its own, and one update per
story costs twenty times as much (bench/stream.py). A row changes only while it is being written under our
fence; those that did are returned. Text goes on only where the row is as long as we know it to be.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from stories.models import Story

APPEND = """
WITH slice (id, fence, start, piece, size) AS (VALUES %s)
UPDATE stories_story SET text = stories_story.text || slice.piece, length = slice.start + slice.size
FROM slice
WHERE stories_story.id = slice.id AND stories_story.state = 'writing' AND stories_story.fence = slice.fence
  AND stories_story.length = slice.start
RETURNING stories_story.id
"""
RENEW = """
WITH mine (id, fence, until) AS (VALUES %s)
UPDATE stories_story SET lease_until = mine.until
FROM mine
WHERE stories_story.id = mine.id AND stories_story.state = 'writing' AND stories_story.fence = mine.fence
RETURNING stories_story.id
"""


def append(slices: Sequence[tuple[Story, str]], *, offset: int | None = None) -> set[UUID]:
    """Appends each text to its story, at `offset` or where the story ends as far as we know; which were ours."""
    starts = [len(story.text) if offset is None else offset for story, _ in slices]
    return _update(
        APPEND,
        [
            (_key(story), story.fence, start, text, len(text))
            for (story, text), start in zip(slices, starts, strict=True)
        ],
    )


def renew(stories: Sequence[Story], *, until: datetime) -> set[UUID]:
    """Keeps the leases of the stories; which of them are still ours."""
    time = connection.ops.adapt_datetimefield_value(until)
    ordered = sorted(stories, key=lambda story: story.pk)
    return _update(RENEW, [(_key(story), story.fence, time) for story in ordered])


def _key(story: Story) -> Any:
    return Story._meta.pk.get_db_prep_value(story.pk, connection)


def _update(statement: str, values: Sequence[tuple[Any, ...]]) -> set[UUID]:
    if not values:
        return set()
    row = f"({', '.join(['%s'] * len(values[0]))})"
    with connection.cursor() as cursor:
        cursor.execute(statement % ", ".join([row] * len(values)), [one for value in values for one in value])
        return {key if isinstance(key, UUID) else UUID(key) for (key,) in cursor.fetchall()}
