"""The one lease: who works on a row now. Stories, batch orders and jobs use it.

Whoever takes a row raises its fence by a conditional update and holds a lease until a moment. A worker that was too
slow finds its fence passed: nothing that it writes changes the row any more. The row in memory follows the row in the
database, and only where the update changed it.

Pattern: M. Kleppmann, "How to do distributed locking", 2016 (fencing tokens).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Model, QuerySet
from django.utils import timezone


# Any: a row of any model with a lease, and values of its columns.
def change(rows: QuerySet[Any], row: Model, **changes: Any) -> bool:
    """Writes `changes` to `row` if it is among `rows`; False, and nothing changed in memory either, if it is not.

    `changes` are plain values, no expressions: the object keeps them.
    """
    if not rows.filter(pk=row.pk).update(**changes):
        return False
    for name, value in changes.items():
        setattr(row, name, value)
    return True


# Any: a row of any model with a lease, and values of its columns.
def take(rows: QuerySet[Any], row: Any, *, lease: timedelta, **changes: Any) -> bool:
    """Takes `row` if it is among `rows` and nobody took it since it was loaded; with `changes`, in one update."""
    as_loaded = rows.filter(fence=row.fence)
    return change(as_loaded, row, fence=row.fence + 1, lease_until=timezone.now() + lease, **changes)


# Any: a row of any model with a lease, and values of its columns.
def held(row: Any) -> QuerySet[Any]:
    """The row, as long as it is in the state we know under our fence."""
    # Any: a row of any model with a lease, and values of its columns.
    rows: QuerySet[Any] = type(row).objects.filter(pk=row.pk, state=row.state, fence=row.fence)
    return rows


# Any: a row of any model with a lease, and values of its columns.
def keep(row: Any, *, lease: timedelta, **changes: Any) -> bool:
    """Writes `changes` down and renews the lease; False if the row is no longer ours."""
    return change(held(row), row, lease_until=timezone.now() + lease, **changes)


# Any: a row of any model with a lease, and values of its columns.
def hand_back(row: Any, *, state: str, after: float = 0.0, **changes: Any) -> bool:
    """Ends the lease: the new state, and the next step in `after` seconds. False if the row is no longer ours."""
    due = timezone.now() + timedelta(seconds=after)
    return change(held(row), row, **{"state": state, "lease_until": None, "next_poll_at": due} | changes)


def poll_interval(since: datetime, steps: Sequence[tuple[timedelta, float]], *, last: float) -> float:
    """Seconds until the next look at something begun at `since`: those of the first of `steps` (age, seconds) that
    it is younger than, else `last`.
    """
    age = timezone.now() - since
    return next((seconds for limit, seconds in steps if age < limit), last)
