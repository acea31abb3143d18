"""When a run may order again after an order that did not bring all its stories.

Without a pause, a provider that takes every batch and answers none of its lines would get a new one every few seconds.
"""

from datetime import timedelta

from django.db.models import F
from django.utils import timezone

from sentences import sentence as _
from stories.generation import states
from stories.models import Attempt, BatchOrder, Run, Story

MIN_PAUSE, MAX_PAUSE = timedelta(minutes=1), timedelta(hours=1)
MAX_EMPTY = 5
"""Orders in a row without a single answer after which the run waits for a person."""


def note_end(order: BatchOrder) -> None:
    """Sets when the run may order again, by what this order brought; pauses the run after `MAX_EMPTY` empty orders."""
    run = Run.objects.filter(pk=order.run_id)
    answered = order.attempts.filter(state__in=[Attempt.State.COMPLETE, Attempt.State.INTERRUPTED]).exists()
    came_back = Story.objects.filter(attempts__batch=order, state=Story.State.QUEUED)
    if not came_back.exists():
        run.filter(empty_orders__gt=0).update(empty_orders=0, next_order_at=None)
        return
    run.update(empty_orders=0 if answered else F("empty_orders") + 1)
    empty = run.get().empty_orders
    run.update(next_order_at=timezone.now() + pause_after(empty))
    if empty >= MAX_EMPTY:
        said = came_back.exclude(error="").values_list("error", flat=True).first() or order.remote_status
        words = {"orders": empty, "said": said}
        sentence = _("连续 %(orders)s 份半价批量订单一篇也没有写成，已自动暂停。对方说：%(said)s") % words
        states.pause(order.run_id, reason=sentence)


def pause_after(empty: int) -> timedelta:
    """A minute, doubled for each further order without an answer, up to an hour."""
    pause: timedelta = MIN_PAUSE * 2 ** min(max(0, empty - 1), 10)
    return min(MAX_PAUSE, pause)
