"""Who works on an order: a lease with a fence, taken and given back by compare-and-set (floor 3)."""

from datetime import timedelta
from typing import Any

from django.db.models import F
from django.utils import timezone

from stories.models import BatchOrder

LEASE = timedelta(seconds=300)
PACE_FIRST, PACE, PACE_LATE = 2.0, 15.0, 60.0
FIRST, LATE = timedelta(minutes=1), timedelta(hours=1)


def claim(order: BatchOrder, *, into: str = "") -> bool:
    """Takes a due order, changing its state to `into`; False if someone was quicker or it is not due."""
    now = timezone.now()
    mine = BatchOrder.objects.due(now).filter(pk=order.pk, state=order.state, fence=order.fence)
    state = into or order.state
    if not mine.update(fence=F("fence") + 1, state=state, lease_until=now + LEASE):
        return False
    order.fence, order.state = order.fence + 1, state
    return True


def hand_back(order: BatchOrder, *, state: str, after: float = 0.0, **changes: Any) -> bool:
    """Ends the claim: the new state, and the next step in `after` seconds. False if it is no longer ours."""
    due = timezone.now() + timedelta(seconds=after)
    changes |= {"state": state, "lease_until": None, "next_poll_at": due}
    changed = BatchOrder.objects.filter(pk=order.pk, state=order.state, fence=order.fence).update(**changes)
    for name, value in changes.items():
        setattr(order, name, value)
    return bool(changed)


def end(order: BatchOrder, *, error: str = "", **changes: Any) -> bool:
    """The order's last state."""
    return hand_back(order, state=BatchOrder.State.ENDED, error=error, finished_at=timezone.now(), **changes)


def pace(order: BatchOrder) -> float:
    """Seconds until the next look: short at first, a minute for what takes hours."""
    age = timezone.now() - order.created_at
    return PACE_FIRST if age < FIRST else PACE if age < LATE else PACE_LATE
