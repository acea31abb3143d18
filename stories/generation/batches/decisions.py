"""What a person decides about an order that cannot go on by itself. None of it calls the provider."""

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from stories.errors import BadState
from stories.generation.batches.lease import LEASE, end
from stories.generation.batches.results import lose
from stories.models import AuditEntry, BatchOrder, Run
from stories.operations import audit

State = BatchOrder.State
OVERDUE = timedelta(hours=30)
"""A provider may take a day; what takes longer may never end."""


@transaction.atomic
def send_again(order: BatchOrder, *, by: audit.Actor) -> None:
    """Whoever looked at the provider found no such batch: it is ordered anew. Raises `BadState`."""
    now = timezone.now()
    lost = BatchOrder.objects.unclaimed(now).filter(pk=order.pk, state=State.CREATE_UNKNOWN)
    again = {"state": State.UPLOADED, "next_poll_at": now, "lease_until": None, "error": "", "tries": 0}
    if not lost.update(fence=F("fence") + 1, **again):
        raise BadState(_("这份批量订单现在不等人处理，或者正在处理，请稍后再看。"))
    before, after = {"state": State.CREATE_UNKNOWN}, {"state": State.UPLOADED}
    audit.record(AuditEntry.Action.BATCH_SENT_AGAIN, order, by=by, before=before, after=after)


def give_up(order: BatchOrder, *, by: audit.Actor) -> None:
    """Ends the order; its calls are of unknown outcome, to be resolved one by one in the ledger.

    Only where its creation is unknown, or where the provider does not end it: though its run was cancelled, or
    for longer than `OVERDUE`. Raises `BadState`.
    """
    order.refresh_from_db()
    now = timezone.now()
    mine = BatchOrder.objects.unclaimed(now).filter(pk=order.pk, state=order.state, fence=order.fence)
    if not is_stuck(order) or not mine.update(fence=F("fence") + 1, lease_until=now + LEASE):
        raise BadState(_("这份批量订单现在不等人处理，或者正在处理，请稍后再看。"))
    order.fence += 1
    sentence = _("%(user)s 放弃了这份批量订单，结果不明。") % {"user": by}
    before = {"state": order.state}
    lose(order, sentence)
    with transaction.atomic():
        if end(order, error=sentence):
            after = {"state": order.state}
            audit.record(AuditEntry.Action.BATCH_GIVEN_UP, order, by=by, before=before, after=after)


def is_stuck(order: BatchOrder) -> bool:
    """Whether it may need a person to end it."""
    silent = order.run.state == Run.State.CANCELLED or is_overdue(order)
    return order.state == State.CREATE_UNKNOWN or (order.state == State.CREATED and silent)


def is_overdue(order: BatchOrder) -> bool:
    return timezone.now() - order.created_at > OVERDUE
