"""Stories in pages: newest first, or best liked first.

Paged by key, never by offset: the last page of a long list costs what the first one does, and no story is met twice.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import Q, TextChoices
from django.db.models.functions import Left, Length
from django.utils.translation import gettext_lazy as _

from stories.models import Story
from stories.models.stories import FINAL_TEXT, StoryQuerySet

PAGE = 20
SHOWN = 240


@dataclass(frozen=True)
class Page:
    """Some stories, each with `beginning` (its first characters) and `size` (all of them).

    `next_cursor` is "" on the last page.
    """

    stories: Sequence[Story]
    next_cursor: str


class Order(TextChoices):
    NEWEST = "newest", _("最新")
    LIKED = "liked", _("最受喜欢")


@dataclass(frozen=True)
class Cursor:
    """Where a page ended: its last story's key in the order of the pages. `str()` is how an address holds it."""

    likes: int
    created_at: datetime
    pk: uuid.UUID

    def __str__(self) -> str:
        return f"{self.likes}_{self.created_at.isoformat()}_{self.pk}"


def read_page(
    stories: StoryQuerySet, *, after: str = "", size: int = PAGE, order: str = Order.NEWEST
) -> Page:
    """The `size` stories that come after the cursor of another page; an unreadable cursor gives the first page.

    Likes change while one reads: a story that gains or loses some between two pages may move across their edge.
    """
    by_likes = ["-likes"] if order == Order.LIKED else []
    rows = stories.order_by(*by_likes, "-created_at", "-pk").annotate(
        beginning=Left(FINAL_TEXT, SHOWN), size=Length(FINAL_TEXT)
    )
    if cursor := _read_cursor(after):
        rows = rows.filter(_after_liked(cursor) if by_likes else _after(cursor))
    found = list(rows.defer("text", "edited_text")[: size + 1])
    if len(found) <= size:
        return Page(found, "")
    last = found[size - 1]
    return Page(found[:size], str(Cursor(last.likes, last.created_at, last.pk)))


def _after(cursor: Cursor) -> Q:
    return Q(created_at__lte=cursor.created_at) & ~Q(created_at=cursor.created_at, pk__gte=cursor.pk)


def _after_liked(cursor: Cursor) -> Q:
    return Q(likes__lt=cursor.likes) | (Q(likes=cursor.likes) & _after(cursor))


def _read_cursor(text: str) -> Cursor | None:
    try:
        likes, moment, pk = text.split("_")
        written = datetime.fromisoformat(moment)
        cursor = Cursor(int(likes), written.astimezone(UTC), uuid.UUID(pk))
    except (ValueError, OverflowError):  # the latter: a moment that UTC has no year for
        return None
    return cursor if written.tzinfo and 0 <= cursor.likes < 2**31 else None


def versions_of(story: Story) -> list[Story]:
    """The first telling of a combo and those written again after it, oldest first."""
    first = story.again_of_id or story.pk
    return list(
        Story.objects.filter(Q(pk=first) | Q(again_of=first))
        .defer("text", "edited_text")
        .order_by("created_at", "pk")
    )
