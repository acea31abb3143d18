"""Stories in pages: newest first, or best liked first.

Paged by key, never by offset: a long shelf costs what a short one does, and no story is met twice.
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
class Shelf:
    """One page of stories, each with `beginning` (its first characters) and `size` (all of them).

    `next_mark` is "" on the last page.
    """

    stories: Sequence[Story]
    next_mark: str


class Order(TextChoices):
    NEWEST = "newest", _("最新")
    LIKED = "liked", _("最受喜欢")


@dataclass(frozen=True)
class Mark:
    """Where a page ended: its last story's key in the shelf's order."""

    likes: int
    created_at: datetime
    pk: uuid.UUID

    def __str__(self) -> str:
        return f"{self.likes}_{self.created_at.isoformat()}_{self.pk}"


def take_shelf(
    stories: StoryQuerySet, *, after: str = "", size: int = PAGE, order: str = Order.NEWEST
) -> Shelf:
    """The `size` stories that come after the mark of another page; an unreadable mark is the first page.

    Likes change while one reads: a story that gains or loses some between two pages may move across their edge.
    """
    by_likes = ["-likes"] if order == Order.LIKED else []
    rows = stories.order_by(*by_likes, "-created_at", "-pk").annotate(
        beginning=Left(FINAL_TEXT, SHOWN), size=Length(FINAL_TEXT)
    )
    if mark := _read_mark(after):
        rows = rows.filter(_after_liked(mark) if by_likes else _after(mark))
    found = list(rows.defer("text", "edited_text")[: size + 1])
    if len(found) <= size:
        return Shelf(found, "")
    last = found[size - 1]
    return Shelf(found[:size], str(Mark(last.likes, last.created_at, last.pk)))


def _after(mark: Mark) -> Q:
    return Q(created_at__lte=mark.created_at) & ~Q(created_at=mark.created_at, pk__gte=mark.pk)


def _after_liked(mark: Mark) -> Q:
    return Q(likes__lt=mark.likes) | (Q(likes=mark.likes) & _after(mark))


def _read_mark(text: str) -> Mark | None:
    try:
        likes, moment, pk = text.split("_")
        written = datetime.fromisoformat(moment)
        mark = Mark(int(likes), written.astimezone(UTC), uuid.UUID(pk))
    except (ValueError, OverflowError):  # the latter: a moment that UTC has no year for
        return None
    return mark if written.tzinfo and 0 <= mark.likes < 2**31 else None


def versions_of(story: Story) -> list[Story]:
    """The first telling of a combo and those written again after it, oldest first."""
    first = story.again_of_id or story.pk
    return list(
        Story.objects.filter(Q(pk=first) | Q(again_of=first))
        .defer("text", "edited_text")
        .order_by("created_at", "pk")
    )
