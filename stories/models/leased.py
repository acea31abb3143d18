"""Rows that somebody works on under a lease (stories/leases.py): which of them are free, and which are due."""

from datetime import datetime
from typing import Self, TypeVar

from django.db import models
from django.db.models import Q

Row = TypeVar("Row", bound=models.Model)


class LeasedQuerySet(models.QuerySet[Row]):
    """Rows with `lease_until` and `next_poll_at`; without a `next_poll_at` a row is never due."""

    def unfinished(self) -> Self:
        raise NotImplementedError

    def unclaimed(self, now: datetime) -> Self:
        """Those that nobody works on: without a lease, or with one that ran out."""
        return self.unfinished().filter(Q(lease_until__isnull=True) | Q(lease_until__lte=now))

    def due(self, now: datetime) -> Self:
        """Those that wait for a next step."""
        return self.unclaimed(now).filter(next_poll_at__lte=now)
