"""What a job really cost, once a person has seen the provider's bill; calls: stories/generation/corrections.py."""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from finetuning.errors import BadJob
from finetuning.models import Job
from stories.generation.attempts import charge_day
from stories.generation.corrections import check_correction
from stories.models import AuditEntry
from stories.operations.audit import Actor, record


def correct_job(job: Job, *, price: int, by: Actor, reason: str) -> None:
    """Sets the price of an ended job, moves what its day has spent, and writes down who did it.

    Raises `BadJob` if it has not ended or someone was quicker; `StoryError` for a price out of range or a
    missing reason.
    """
    check_correction(price, reason)
    seen = {"price": job.price, "corrected_at": job.corrected_at}
    as_seen = Job.objects.filter(pk=job.pk, state__in=Job.ENDED, **seen)
    with transaction.atomic():
        if not as_seen.update(price=price, corrected_at=timezone.now()):
            raise BadJob(_("任务还没有结束，或者刚刚有人改过：请重新打开这一页。"))
        # A draft that was cancelled before it was ever started has no day of its own.
        day = job.day or timezone.localdate(job.finished_at)
        charge_day(day, price - (job.price or 0))
        before, after = {"price": job.price}, {"price": price}
        record(AuditEntry.Action.PRICE_CORRECTED, job, by=by, before=before, after=after, reason=reason)
    job.refresh_from_db()
