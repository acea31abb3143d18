"""What a person decides about a job. None of it calls the provider: it makes the next step due.

What concerns money leaves an audit row; what a job has cost is corrected in corrections.py.
"""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from finetuning.errors import BadJob
from finetuning.models import Job
from finetuning.training.bills import NOTHING, Bill
from finetuning.training.states import end
from stories.models import AuditEntry
from stories.operations.audit import Actor, record

Action = AuditEntry.Action
State = Job.State
NOT_ORDERED = (State.DRAFT, State.UPLOADED, State.UPLOAD_UNKNOWN)


@transaction.atomic
def cancel_job(job: Job, *, by: Actor) -> Job:
    """Ends a job that was not ordered yet at once; of any other, cancelling is asked of the provider.

    Raises `BadJob` if it has ended.
    """
    job.refresh_from_db()
    before: dict[str, object] = {"state": job.state}
    is_free = job.lease_until is None or job.lease_until <= timezone.now()
    if job.state in NOT_ORDERED and is_free and end(job, state=State.CANCELLED, bill=NOTHING):
        record(Action.JOB_CANCELLED, job, by=by, before=before, after={"state": job.state})
        return job
    wanted = {"cancel_requested": True, "next_poll_at": timezone.now()}
    if not Job.objects.unfinished().filter(pk=job.pk).update(**wanted):
        raise BadJob(_("任务 %(job)s 已经结束，不能取消。") % {"job": job})
    record(Action.JOB_CANCELLED, job, by=by, before=before, after={"cancel_requested": True})
    job.refresh_from_db()
    return job


def look_again(job: Job) -> None:
    """Looks for a lost upload or job now. Raises `BadJob` if no outcome is unknown."""
    lost = Job.objects.filter(pk=job.pk, state__in=Job.UNKNOWN)
    if not lost.update(next_poll_at=timezone.now()):
        raise BadJob(_("任务 %(job)s 的结果并没有不明之处。") % {"job": job})


@transaction.atomic
def send_again(job: Job, *, by: Actor) -> None:
    """Takes the same step once more: a person has seen at the provider that nothing arrived.

    Raises `BadJob` if no outcome is unknown, or a worker is just looking for it.
    """
    earlier = {State.UPLOAD_UNKNOWN: State.DRAFT, State.CREATE_UNKNOWN: State.UPLOADED}
    now = timezone.now()
    for unknown, state in earlier.items():
        lost = Job.objects.unclaimed(now).filter(pk=job.pk, state=unknown)
        if lost.update(
            state=state, next_poll_at=now, lease_until=None, unknown_since=None, error="", tries=0
        ):
            record(Action.JOB_SENT_AGAIN, job, by=by, before={"state": unknown}, after={"state": state})
            return
    raise BadJob(_("任务 %(job)s 现在不能重新发送。") % {"job": job})


@transaction.atomic
def abandon_job(job: Job, *, by: Actor) -> None:
    """Ends a job whose outcome stays unknown, or whose cancelling the provider does not answer.

    If it may have been ordered, its reservation counts as spent. Raises `BadJob` for any other job.
    """
    job.refresh_from_db()
    stuck = job.state == State.CREATED and job.cancel_requested
    if job.state not in Job.UNKNOWN and not stuck:
        raise BadJob(_("任务 %(job)s 不能放弃：请先取消。") % {"job": job})
    before = {"state": job.state}
    bill = NOTHING if job.state == State.UPLOAD_UNKNOWN else Bill(job.reserved)
    if not end(job, state=State.CANCELLED, bill=bill):
        raise BadJob(_("任务 %(job)s 刚刚有了变化，请重新查看。") % {"job": job})
    after = {"state": job.state, "price": job.price}
    record(Action.JOB_ABANDONED, job, by=by, before=before, after=after)
