"""Who works on a job: a lease with a fence, taken and given back by compare-and-set (floor 5).

A worker that was too slow finds its fence passed: its `hand_back` changes nothing, and what it did at the
provider is found again by the job's key.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from finetuning.models import Job
from stories.generation.attempts import said, settle_day
from stories.values.money import cost, show

LEASE = timedelta(seconds=180)
"""Longer than one call to a provider may take (remote.CALL_TIMEOUT)."""
BUSY_FIRST = timedelta(minutes=1)
PACE_FIRST, PACE = 2.0, 15.0


@dataclass(frozen=True)
class Bill:
    """What a job costs: micro-USD, None where unknown; `doubt`: why that is not what its provider claims."""

    price: int | None
    doubt: str = ""


NOTHING = Bill(0)


def claim(job: Job, *, into: str = "") -> bool:
    """Takes a due job, changing its state to `into`; False if someone was quicker or it is not due."""
    now = timezone.now()
    mine = Job.objects.due(now).filter(pk=job.pk, state=job.state, fence=job.fence)
    changed = {"state": into or job.state, "lease_until": now + LEASE}
    if not mine.update(fence=F("fence") + 1, **changed):
        return False
    job.fence += 1
    _set(job, changed)
    return True


def keep(job: Job, **changes: Any) -> bool:
    """Writes down what a claimed job learnt, and renews its lease; False if it is no longer ours."""
    changes["lease_until"] = timezone.now() + LEASE
    return _change(job, changes)


def hand_back(job: Job, *, state: str, after: float = 0.0, **changes: Any) -> bool:
    """Ends the claim: the new state, and the next step in `after` seconds. False if it is no longer ours."""
    due = timezone.now() + timedelta(seconds=after)
    return _change(job, changes | {"state": state, "lease_until": None, "next_poll_at": due})


def end(job: Job, *, state: str, bill: Bill, **changes: Any) -> bool:
    """Ends the job and settles its reservation, together; False if it is no longer ours."""
    ending: dict[str, Any] = {"lease_until": None, "next_poll_at": None, "finished_at": timezone.now()}
    ending |= {"state": state, "price": bill.price, "doubt": bill.doubt}
    with transaction.atomic():
        if not _change(job, ending | changes):
            return False
        if job.day is not None:
            settle_day(job.day, reserved=job.reserved or 0, spent=bill.price or 0)
    return True


def expire_leases(**_signal: Any) -> None:
    """No worker of an earlier start is left: whoever looks next goes on where it stopped."""
    now = timezone.now()
    Job.objects.unfinished().filter(lease_until__gt=now).update(lease_until=now)


def pace(since: datetime) -> float:
    """Seconds until the next look: short in the first minute."""
    return PACE_FIRST if timezone.now() - since < BUSY_FIRST else PACE


def bill_for(job: Job, trained_tokens: int | None, *, odd: str = "") -> Bill:
    """What a training of that many tokens costs, and never more than was reserved for it.

    The reservation if the provider does not say how many, or names a number that can't be (`odd`).
    """
    price = job.language_model.training_price
    words = {"claimed": odd or said(trained_tokens), "reserved": show(job.reserved)}
    if odd:
        sentence = _("对方报的训练词元数不可能（%(claimed)s），按预留 %(reserved)s 结算。")
        return Bill(job.reserved, sentence % words)
    if trained_tokens is None or price is None:
        return Bill(job.reserved if trained_tokens is None else None)
    amount = cost(tokens=trained_tokens, price=price)
    if amount == 0 or (job.reserved is not None and amount <= job.reserved):
        return Bill(amount)
    sentence = _("对方报了 %(claimed)s 个训练词元，合 %(price)s，超过最多的花费，按预留 %(reserved)s 结算。")
    return Bill(job.reserved, sentence % (words | {"price": show(amount)}))


def _change(job: Job, changes: dict[str, Any]) -> bool:
    changed = Job.objects.filter(pk=job.pk, state=job.state, fence=job.fence).update(**changes)
    if changed:
        _set(job, changes)
    return bool(changed)


def _set(job: Job, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(job, name, value)
