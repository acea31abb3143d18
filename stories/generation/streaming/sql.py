"""Changes many stories that this process writes by one statement each.

The ORM has no way to give each row a value of its own under a condition of its own, and one update per
story costs twenty times as much (bench/stream.py). A row is changed only while it is being written under our
fence, and text is appended only to a row that is as long as we know it to be. Each function returns the keys of the
rows that it changed.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from stories.models import Story

APPEND = """
WITH chunk (id, fence, start, piece, size) AS (VALUES %s)
UPDATE stories_story SET text = stories_story.text || chunk.piece, length = chunk.start + chunk.size
FROM chunk
WHERE stories_story.id = chunk.id AND stories_story.state = 'writing' AND stories_story.fence = chunk.fence
  AND stories_story.length = chunk.start
RETURNING stories_story.id
"""
RENEW = """
WITH mine (id, fence, until) AS (VALUES %s)
UPDATE stories_story SET lease_until = mine.until
FROM mine
WHERE stories_story.id = mine.id AND stories_story.state = 'writing' AND stories_story.fence = mine.fence
RETURNING stories_story.id
"""


def append(chunks: Sequence[tuple[Story, str]], *, offset: int | None = None) -> set[UUID]:
    """Appends each text to its story at `offset`, by default where the story ends as far as we know."""
    starts = [len(story.text) if offset is None else offset for story, _ in chunks]
    return _update(
        APPEND,
        [
            (_key(story), story.fence, start, text, len(text))
            for (story, text), start in zip(chunks, starts, strict=True)
        ],
    )


def renew(stories: Sequence[Story], *, until: datetime) -> set[UUID]:
    """Renews the leases of the stories; the keys of those that are still ours."""
    time = connection.ops.adapt_datetimefield_value(until)
    ordered = sorted(stories, key=lambda story: story.pk)
    return _update(RENEW, [(_key(story), story.fence, time) for story in ordered])


def _key(story: Story) -> object:
    return Story._meta.pk.get_db_prep_value(story.pk, connection)


# Any: the values of a statement, as the database takes them.
def _update(statement: str, values: Sequence[tuple[Any, ...]]) -> set[UUID]:
    if not values:
        return set()
    row = f"({', '.join(['%s'] * len(values[0]))})"
    with connection.cursor() as cursor:
        cursor.execute(statement % ", ".join([row] * len(values)), [one for value in values for one in value])
        return {key if isinstance(key, UUID) else UUID(key) for (key,) in cursor.fetchall()}
