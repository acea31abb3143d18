"""How often somebody did something today, and how many stories a reader may still order.

Counters are rows, changed by one UPDATE whose WHERE holds the limit, so that parallel requests never pass it. A
reader's row also serialises their orders: whoever changed it holds its lock until the commit, so the count of
unfinished stories that follows is exact.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from stories.errors import QuotaUsedUp
from stories.models import ReaderDay, Story
from stories.models.stories import StoryQuerySet
from stories.readers.identity import Reader, stories_of
from stories.values import addresses

KEPT = timedelta(days=1)
SITE = "site"


@dataclass(frozen=True)
class QuotaLeft:
    """What a reader may still order: stories today, and how many are being written of how many at once."""

    today: int
    unfinished: int
    streams: int


def count(who: str, *, limit: int) -> bool:
    """Counts one more for `who` today; False, and nothing counted, at the limit."""
    day = timezone.localdate()
    ReaderDay.objects.bulk_create([ReaderDay(day=day, who=who)], ignore_conflicts=True)
    within = ReaderDay.objects.filter(day=day, who=who, stories__lt=limit)
    return bool(within.update(stories=F("stories") + 1))


def forget_old_days() -> int:
    """Removes the counts of days before yesterday, which name readers and addresses; how many."""
    old = ReaderDay.objects.filter(day__lt=timezone.localdate() - KEPT)
    return old.delete()[0]


def quota_left(reader: Reader) -> QuotaLeft:
    """What `reader` may still order now; for showing, not for deciding."""
    used = _used_today(reader)
    left = min(limit - used.get(who, 0) for who, limit, _sentence in _limits(reader))
    return QuotaLeft(
        today=max(0, left),
        unfinished=_unfinished_of(reader).count(),
        streams=settings.READER_STREAMS,
    )


def address_name(reader: Reader) -> str:
    """The name a reader's address is counted under."""
    return addresses.name_address(reader.address)


def check_left(reader: Reader) -> None:
    """Raises `QuotaUsedUp` if an order would certainly be one too many; `count_order` decides."""
    used = _used_today(reader)
    for who, limit, sentence in _limits(reader):
        if used.get(who, 0) >= limit:
            raise QuotaUsedUp(sentence)


def _used_today(reader: Reader) -> dict[str, int]:
    names = [who for who, _limit, _sentence in _limits(reader)]
    counted = ReaderDay.objects.filter(day=timezone.localdate(), who__in=names)
    return dict(counted.values_list("who", "stories"))


def _limits(reader: Reader) -> tuple[tuple[str, int, str], ...]:
    """The counters of an order: who is counted, the limit, the sentence at it; for reader, address and site."""
    mine, theirs = settings.READER_STORIES_PER_DAY, settings.ADDRESS_STORIES_PER_DAY
    ours = settings.SITE_STORIES_PER_DAY
    site = ((SITE, ours, _("本站今天的故事已经写满了，请明天再来。")),) if ours else ()
    return (
        (reader.identity, mine, _("今天的 %(n)s 篇已经用完了，请明天再来。") % {"n": mine}),
        (
            address_name(reader),
            theirs,
            _("你所在的网络今天已经写了 %(n)s 篇，请明天再来。") % {"n": theirs},
        ),
        *site,
    )


def count_order(reader: Reader, *, but: Story | None = None) -> None:
    """Counts one order within the caller's transaction; `but` is the story ordered. Raises `QuotaUsedUp`."""
    day = timezone.localdate()
    limits = _limits(reader)
    ReaderDay.objects.bulk_create(
        [ReaderDay(day=day, who=who) for who, _limit, _sentence in limits], ignore_conflicts=True
    )
    for who, limit, sentence in limits:
        within = ReaderDay.objects.filter(day=day, who=who, stories__lt=limit)
        if not within.update(stories=F("stories") + 1):
            raise QuotaUsedUp(sentence)
    others = _unfinished_of(reader).exclude(pk=but.pk) if but else _unfinished_of(reader)
    if others.count() >= settings.READER_STREAMS:
        words = {"n": settings.READER_STREAMS}
        raise QuotaUsedUp(_("你已有 %(n)s 篇正在写：等一篇写完，或停止一篇，再来。") % words)


def _unfinished_of(reader: Reader) -> StoryQuerySet:
    return stories_of(reader).unfinished()
