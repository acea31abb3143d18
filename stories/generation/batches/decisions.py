"""What a person decides about an order that cannot go on by itself. None of it calls the provider."""

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from sentences import sentence as _
from stories.errors import BadState
from stories.generation.batches.lease import LEASE, end
from stories.generation.batches.results import mark_lost
from stories.models import AuditEntry, BatchOrder, Run
from stories.operations import audit

State = BatchOrder.State
OVERDUE = timedelta(hours=30)
"""A provider may take a day. An order that takes longer may never end."""


@transaction.atomic
def send_again(order: BatchOrder, *, by: audit.Actor) -> None:
    """Orders the batch again, because a person looked at the provider and found none. Raises `BadState`."""
    now = timezone.now()
    lost = BatchOrder.objects.unclaimed(now).filter(pk=order.pk, state=State.CREATE_UNKNOWN)
    again = {"state": State.UPLOADED, "next_poll_at": now, "lease_until": None, "error": "", "tries": 0}
    if not lost.update(fence=F("fence") + 1, **again):
        raise BadState(_("这份批量订单现在不等人处理，或者正在处理，请稍后再看。"))
    before, after = {"state": State.CREATE_UNKNOWN}, {"state": State.UPLOADED}
    audit.record(AuditEntry.Action.BATCH_SENT_AGAIN, order, by=by, before=before, after=after)


def give_up(order: BatchOrder, *, by: audit.Actor) -> None:
    """Ends the order. Its calls are of unknown outcome, and a person resolves each of them.

    Only for an order whose creation is unknown, or which the provider does not end although its run was cancelled or
    `OVERDUE` has passed. Raises `BadState`.
    """
    order.refresh_from_db()
    now = timezone.now()
    mine = BatchOrder.objects.unclaimed(now).filter(pk=order.pk, state=order.state, fence=order.fence)
    if not is_stuck(order) or not mine.update(fence=F("fence") + 1, lease_until=now + LEASE):
        raise BadState(_("这份批量订单现在不等人处理，或者正在处理，请稍后再看。"))
    order.fence += 1
    sentence = _("%(user)s 放弃了这份批量订单，结果不明。") % {"user": by}
    before = {"state": order.state}
    mark_lost(order, sentence)
    with transaction.atomic():
        if end(order, error=sentence):
            after = {"state": order.state}
            audit.record(AuditEntry.Action.BATCH_GIVEN_UP, order, by=by, before=before, after=after)


def is_stuck(order: BatchOrder) -> bool:
    """Whether a person may give the order up."""
    silent = order.run.state == Run.State.CANCELLED or is_overdue(order)
    return order.state == State.CREATE_UNKNOWN or (order.state == State.CREATED and silent)


def is_overdue(order: BatchOrder) -> bool:
    return timezone.now() - order.created_at > OVERDUE
