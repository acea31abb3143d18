"""How often somebody did something today: rows changed by conditional updates.

One UPDATE whose WHERE holds the limit, so that parallel requests never pass it.
"""

from datetime import timedelta

from django.db.models import F
from django.utils import timezone

from stories.models import ReaderDay

KEPT = timedelta(days=1)


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
