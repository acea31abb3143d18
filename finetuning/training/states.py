"""The state of a job: changed under a lease, by compare-and-set (stories/leases.py).

A worker may lose its lease while it calls the provider; the job's key then finds what that call made.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from finetuning.models import Job
from finetuning.training.bills import Bill
from stories import leases
from stories.generation.attempts import settle_day
from stories.leases import hand_back

__all__ = ["claim", "end", "expire_leases", "hand_back", "keep", "pace"]
LEASE = timedelta(seconds=180)
"""Longer than one call to a provider may take (`llm.remote_objects.CALL_TIMEOUT`)."""
POLLS = ((timedelta(minutes=1), 2.0),)
LATE_POLL = 15.0


def claim(job: Job, *, into: str = "") -> bool:
    """Takes a due job, changing its state to `into`; False if someone was quicker or it is not due."""
    due = Job.objects.due(timezone.now()).filter(state=job.state)
    return leases.take(due, job, lease=LEASE, state=into or job.state)


def keep(job: Job, **changes: object) -> bool:
    """Writes down what a claimed job learnt, and renews its lease; False if it is no longer ours."""
    return leases.keep(job, lease=LEASE, **changes)


def end(job: Job, *, state: str, bill: Bill, **changes: object) -> bool:
    """Ends the job and settles its reservation, together; False if it is no longer ours."""
    ending: dict[str, object] = {"lease_until": None, "next_poll_at": None, "finished_at": timezone.now()}
    ending |= {"state": state, "price": bill.price, "doubt": bill.doubt}
    with transaction.atomic():
        if not leases.change(leases.held(job), job, **ending | changes):
            return False
        if job.day is not None:
            settle_day(job.day, reserved=job.reserved or 0, spent=bill.price or 0)
    return True


def expire_leases(**_signal: object) -> None:
    """Ends all leases. No worker of an earlier start is left, so the next one goes on where it stopped."""
    now = timezone.now()
    Job.objects.unfinished().filter(lease_until__gt=now).update(lease_until=now)


def pace(since: datetime) -> float:
    """Seconds until the next look: short in the first minute."""
    return leases.poll_interval(since, POLLS, last=LATE_POLL)
