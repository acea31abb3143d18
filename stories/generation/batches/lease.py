"""The lease of a batch order: taken for one step, given back with the state that the step led to."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from sentences import Words
from stories import leases
from stories.leases import hand_back
from stories.models import BatchOrder

__all__ = ["LEASE", "claim", "end", "hand_back", "pace"]
LEASE = timedelta(seconds=300)
POLLS = ((timedelta(minutes=1), 2.0), (timedelta(hours=1), 15.0))
LATE_POLL = 60.0


def claim(order: BatchOrder, *, into: str = "") -> bool:
    """Takes a due order, changing its state to `into`; False if someone was quicker or it is not due."""
    due = BatchOrder.objects.due(timezone.now()).filter(state=order.state)
    return leases.take(due, order, lease=LEASE, state=into or order.state)


# Any: a row of any model with a lease, and values of its columns.
def end(order: BatchOrder, *, error: Words = "", **changes: Any) -> bool:
    """The order's last state."""
    return hand_back(order, state=BatchOrder.State.ENDED, error=error, finished_at=timezone.now(), **changes)


def pace(order: BatchOrder) -> float:
    """Seconds until the next look: short at first, a minute for what takes hours."""
    return leases.poll_interval(order.created_at, POLLS, last=LATE_POLL)
