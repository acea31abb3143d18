"""uploaded → creating → created | create_unknown: the step that costs money, taken at most once."""

from django.utils import timezone

from finetuning.models import Job
from finetuning.training import files, remote
from finetuning.training.bills import NOTHING
from finetuning.training.remote import RemoteJob
from finetuning.training.states import claim, end, hand_back, keep
from finetuning.training.transitions import keep_unknown, mark_unknown, refuse, try_later
from llm.errors import (
    LLMError,
    OutcomeUnknown,
    OutOfMoney,
    Refused,
    ServerFailed,
    TryAgainLater,
)
from sentences import sentence as _
from stories.provider_accounts import note_refusal


def create_remote_job(job: Job) -> None:
    """Orders the training at the provider, once it has processed the files; as long as it has not, nothing is sent."""
    if not claim(job):
        return
    try:
        if not job.cancel_requested and not files.are_ready(job):
            return
        if not keep(job, state=Job.State.CREATING):
            return
        job.refresh_from_db(fields=["cancel_requested"])  # looking at the files took a while
        if job.cancel_requested:
            end(job, state=Job.State.CANCELLED, bill=NOTHING)
            return
        created = remote.create_job(job)
    except (ServerFailed, OutcomeUnknown) as error:
        mark_unknown(job, error, state=Job.State.CREATE_UNKNOWN)
    except TryAgainLater as error:
        try_later(job, error, state=Job.State.UPLOADED)
    except Refused as error:
        if not files.wait_for_files(job, error):
            refuse(job, error)
    except OutOfMoney as error:
        note_refusal(job.language_model, error, asked_at=timezone.now())
        refuse(job, error)
    else:
        _adopt(job, created)


def mark_create_unknown(job: Job) -> None:
    """A worker died, or was too slow, while it created the remote job."""
    if claim(job):
        mark_unknown(job, _("创建任务时工作进程中断了，结果不明。"), state=Job.State.CREATE_UNKNOWN)


def look_for_job(job: Job) -> None:
    """Adopts the one remote job that carries our key; else its outcome stays unknown."""
    if not claim(job):
        return
    try:
        found = remote.find_jobs(job)
    except LLMError as error:
        keep_unknown(job, error)
        return
    if len(found) == 1:
        _adopt(job, found[0])
    elif found:
        ids = "、".join(one.id for one in found)
        keep_unknown(job, _("对方有几个任务带着本任务的标识（%(ids)s），请在对方那里处理。") % {"ids": ids})
    else:
        keep_unknown(job, job.error)


def _adopt(job: Job, created: RemoteJob) -> None:
    hand_back(
        job,
        state=Job.State.CREATED,
        remote_id=created.id,
        remote_status=created.status,
        status_since=timezone.now(),
        waiting_since=None,
        error="",
        unknown_since=None,
        tries=0,
    )
