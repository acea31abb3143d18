"""Finds the rows that a lost process or a lost message left behind; beat calls it every ten seconds.

The database is the truth. A message in Redis may be lost, so what is still to be done is found in the rows.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from sentences import sentence as _
from stories.generation import attempts, outcomes, states
from stories.generation.connections import write_what_can_be
from stories.models import Attempt, Run, Story

LEFT_BEHIND = timedelta(seconds=20)
REPUBLISH = timedelta(seconds=60)
OVERDUE = timedelta(seconds=60)
MAX_TRIAL = timedelta(minutes=5)
"""Longer than the one call of a promotion takes, connecting and reading (`llm/clients.py`)."""
BATCH = 1000


def expire_leases(*, overdue: timedelta = timedelta()) -> list[Story]:
    """Ends the stories whose worker is gone, with their text; if no call was made, they are queued again.

    `overdue`: how long ago their leases must have run out. It is `OVERDUE` after a time in which nobody could renew a
    lease (`heartbeats.beat_steadily`), so that the workers that still live can write down what they hold.
    """
    writing = Story.objects.filter(state=Story.State.WRITING, lease_until__lt=timezone.now() - overdue)
    expired = writing.outside_orders()
    return [
        story for story in expired.select_related("run")[:BATCH] if _alone(partial(_expire, story), story)
    ]


def _alone(expire: Callable[[], bool], row: Story | Attempt) -> bool:
    """The result of `expire`; a row that cannot be written keeps nobody from the others."""
    return write_what_can_be([expire], what=f"{row._meta.model_name} {row.pk}")


def _expire(story: Story) -> bool:
    attempt = Attempt.objects.filter(story=story, fence=story.fence).first()
    sentence = _("写作进程中断了，已写的文字都在。") if story.length else _("写作进程中断了，结果不明。")
    with transaction.atomic():
        # The holder may renew the lease after we read it, so the lease that we read is part of the condition.
        still = states.mine(story).filter(lease_until=story.lease_until, length=story.length)
        if not still.update(lease_until=timezone.now()):
            return False
        if attempt is None:
            return states.release(story)
        outcome = outcomes.of_loss(sentence)
        attempts.settle(attempt, state=outcome.attempt_state, error=sentence)
        return states.conclude(story, outcome, length=story.length)


def expire_promotions() -> int:
    """Gives up the calls that models were tried with and whose process is gone; how many."""
    lost = Attempt.objects.filter(
        purpose=Attempt.Purpose.PROMOTION,
        state__in=Attempt.OPEN,
        started_at__lt=timezone.now() - MAX_TRIAL,
    )
    sentence = _("试问模型的进程中断了，结果不明。")
    expire = partial(attempts.settle, state=Attempt.State.UNKNOWN, error=sentence)
    return sum(_alone(partial(expire, one), one) for one in lost[:BATCH])


def cancel_orphans() -> int:
    """Cancels stories that came back to the queue of a run that was cancelled meanwhile."""
    return states.cancel_orphans(Story.objects.all())


def left_behind() -> Sequence[Story]:
    """Queued stories that are due and of which no message was sent lately; marks them as told of."""
    now = timezone.now()
    wanted = Q(run__isnull=True) | Q(run__state=Run.State.RUNNING, run__is_batch=False)
    due = Q(next_try_at__isnull=True) | Q(next_try_at__lte=now)
    queued = Story.objects.filter(wanted, due, state=Story.State.QUEUED).order_by("created_at", "slot", "pk")
    lost = queued.filter(published_at__lt=now - REPUBLISH).exclude(run__in=_moving_runs())
    told = queued.annotate(told=Coalesce("ended_at", "created_at"))
    untold = told.filter(Q(told__lt=now - LEFT_BEHIND) | Q(next_try_at__lte=now), published_at__isnull=True)
    stories = list(lost.only("pk", "run_id")[:BATCH])
    stories += untold.only("pk", "run_id")[: _room() - len(stories)]
    mark_told(stories)
    return stories


def next_of_run(run: Run) -> Sequence[Story]:
    """The stories to hand out first when a run was started, resumed or retried."""
    queued = run.stories.filter(state=Story.State.QUEUED, published_at__isnull=True).order_by("slot")
    return list(queued.only("pk", "run_id")[: _room()])


def mark_told(stories: Iterable[Story]) -> None:
    """Notes that a message about these stories was sent, or is about to be."""
    keys = [story.pk for story in stories]
    for start in range(0, len(keys), 500):
        Story.objects.filter(pk__in=keys[start : start + 500]).update(published_at=timezone.now())


def _room() -> int:
    """How many more messages may wait in Redis, so that a run of thousands is handed out in parts."""
    told = Story.objects.filter(
        state=Story.State.QUEUED, run__state=Run.State.RUNNING, published_at__isnull=False
    )
    return max(0, BATCH - told.count())


def _moving_runs() -> QuerySet[Run]:
    """Runs of which a story was started lately: the messages about their other stories still wait, and are not lost."""
    return Run.objects.filter(
        state=Run.State.RUNNING, stories__started_at__gte=timezone.now() - REPUBLISH
    ).distinct()
