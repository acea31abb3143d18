"""What a person decides about a job. None of it calls the provider: it makes the next step due.

What concerns money leaves an audit row; what a job has cost is corrected in corrections.py.
"""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from finetuning.errors import BadJob
from finetuning.models import Job
from finetuning.training.bills import NOTHING, Bill
from finetuning.training.remote import MAX_NAME
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


@transaction.atomic
def call_succeeded(job: Job, *, model: str, by: Actor) -> None:
    """Decides that a training has worked, and what its model is called; the next step publishes it.

    Raises `BadJob` if nobody is asked about the job, or for a name that cannot be one.
    """
    name = model.strip()
    if not name or len(name) > MAX_NAME or any(char.isspace() or not char.isprintable() for char in name):
        raise BadJob(
            _("请写上训练出的模型在对方那里的名称，不能有空白，最多 %(most)s 个字。") % {"most": MAX_NAME}
        )
    _decide(job, Job.Verdict.SUCCEEDED, by=by, remote_model=name)


@transaction.atomic
def call_failed(job: Job, *, by: Actor) -> None:
    """Decides that a training has failed; the next step ends it. Raises `BadJob` if nobody is asked about the job."""
    _decide(job, Job.Verdict.FAILED, by=by)


@transaction.atomic
def wait_longer(job: Job, *, by: Actor) -> None:
    """Decides to wait: the next question comes with another word, or in a day. Raises `BadJob` as `call_failed`."""
    now = timezone.now()
    since = {"status_since": now, "waiting_since": None}
    _decide(job, Job.Verdict.WAITING, by=by, error="", **since)


def _decide(job: Job, verdict: str, *, by: Actor, **changes: object) -> None:
    """Writes the verdict down, also while a worker looks at the job: the next look carries it out."""
    job.refresh_from_db()
    before, asked_because = {"verdict": job.verdict, "remote_model": job.remote_model}, str(job.error)
    asked = Job.objects.filter(pk=job.pk, state=State.CREATED, asked_at__isnull=False)
    due = {"verdict": verdict, "asked_at": None, "next_poll_at": timezone.now()}
    if not asked.update(**due | changes):
        raise BadJob(_("任务 %(job)s 现在没有要人决定的事，或者刚刚有了变化：请重新查看。") % {"job": job})
    job.refresh_from_db()
    after = {"verdict": verdict, "remote_model": job.remote_model, "remote_status": job.remote_status}
    record(Action.JOB_DECIDED, job, by=by, before=before, after=after, reason=asked_because)
