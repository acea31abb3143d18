"""created: asks the provider how far it is, keeps its events and figures, until it ended or a person must decide."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from django.utils import timezone

from finetuning.models import Job
from finetuning.training import remote
from finetuning.training.bills import Bill, bill_for
from finetuning.training.completion import finish_job, has_waited, wait_for_rest
from finetuning.training.doubts import question_about, question_unseen, tuned_name
from finetuning.training.events import keep_events
from finetuning.training.remote import RemoteJob
from finetuning.training.states import claim, end, hand_back, pace
from finetuning.training.statuses import ENDS, Meaning
from finetuning.training.transitions import MAX_WAIT
from llm.errors import LLMError, Refused, TryAgainLater
from sentences import Words, sentence_of
from sentences import sentence as _

Verdict = Job.Verdict
DECIDED = {Verdict.SUCCEEDED: Meaning.SUCCEEDED, Verdict.FAILED: Meaning.FAILED}


def poll_job(job: Job) -> None:
    """Reads status and events once, and does what follows from them. A failed read is repeated later."""
    if not claim(job):
        return
    try:
        seen, refused = _cancel(job, _look(job))
    except LLMError as error:
        _look_later(job, error)
        return
    missed = keep_events(job, thorough=seen.meaning in ENDS)
    _conclude(job, seen, missed=missed, refused=refused)


def _look(job: Job) -> RemoteJob:
    """What the provider says, or what a person decided; of a decided job the provider need not know any more."""
    try:
        seen = remote.retrieve_job(job)
    except Refused:
        if job.verdict not in DECIDED:
            raise
        seen = RemoteJob(id=job.remote_id, status=job.remote_status)
    if job.verdict not in DECIDED or seen.meaning in ENDS:
        return seen
    return replace(seen, meaning=DECIDED[Verdict(job.verdict)], model=job.remote_model)


def _cancel(job: Job, seen: RemoteJob) -> tuple[RemoteJob, Words]:
    """Asks for the cancelling that a person wants, and what became of it; a provider that has none trains on."""
    if not job.cancel_requested or seen.meaning in ENDS:
        return seen, ""
    try:
        cancelled = remote.cancel_job(job)
    except LLMError as error:
        return seen, _("对方没有取消：%(error)s") % {"error": sentence_of(error)}
    return (cancelled if cancelled.status else seen), ""


def _look_later(job: Job, error: LLMError) -> None:
    """The look failed. Where it was refused, again and again, a person is asked."""
    now = timezone.now()
    asked = error.retry_after if isinstance(error, TryAgainLater) else None
    changes: dict[str, object] = {"error": sentence_of(error)}
    if isinstance(error, Refused):
        since = job.waiting_since or now
        question = question_unseen(job, sentence_of(error), since=since)
        changes = {
            "waiting_since": since,
            "error": question or sentence_of(error),
            "asked_at": _asked_at(job, question),
        }
    after = pace(job.created_at) if asked is None else min(MAX_WAIT, asked)
    hand_back(job, state=Job.State.CREATED, after=after, **changes)


def _conclude(job: Job, seen: RemoteJob, *, missed: Words, refused: Words) -> None:
    """What the status means; `missed` says why the events could not be read; they are waited for a while."""
    known = {"remote_status": seen.status, "last_polled_at": timezone.now(), "waiting_since": None}
    if seen.meaning not in ENDS:
        _go_on(job, seen, note=refused or missed, known=known)
        return
    known["asked_at"] = None
    if missed and not has_waited(job):
        wait_for_rest(job, missed, known=known)
    elif seen.meaning is Meaning.SUCCEEDED:
        finish_job(job, replace(seen, model=tuned_name(seen)), known=known)
    elif seen.meaning is Meaning.CANCELLED:
        end(job, state=Job.State.CANCELLED, bill=_cancelled_bill(job, seen), **_tokens(seen), **known)
    else:
        _fail(job, seen, known=known)


def _go_on(job: Job, seen: RemoteJob, *, note: Words, known: dict[str, object]) -> None:
    """The training runs on, or nobody can say: then a person is asked, and the looking goes on as well."""
    since = job.status_since if seen.status == job.remote_status else None
    if since is None:
        since = timezone.now()
        job.verdict = known["verdict"] = ""  # what a person said of another word holds no more
    question = question_about(job, seen, since=since)
    known |= {"status_since": since, "asked_at": _asked_at(job, question)}
    name = tuned_name(seen)
    if name and name != job.remote_model:  # only then: a person may be writing another one just now
        known["remote_model"] = name
    hand_back(job, state=Job.State.CREATED, after=pace(job.created_at), error=question or note, **known)


def _asked_at(job: Job, question: Words) -> datetime | None:
    return (job.asked_at or timezone.now()) if question else None


def _fail(job: Job, seen: RemoteJob, *, known: dict[str, object]) -> None:
    """A failed training is not billed, unless the provider counted tokens all the same.

    Of one that a person calls failed nobody knows: it is billed like a cancelled one.
    """
    by_person = job.verdict == Verdict.FAILED
    bill = bill_for(job, seen.trained_tokens or 0, odd=seen.odd_tokens)
    if by_person:
        bill = _cancelled_bill(job, seen)
    error = seen.error or (_("由人记为失败。") if by_person else "")
    end(job, state=Job.State.FAILED, bill=bill, error=error, **_tokens(seen), **known)


def _cancelled_bill(job: Job, seen: RemoteJob) -> Bill:
    """The steps taken until then are billed; their tokens unknown, the reservation counts."""
    if seen.trained_tokens is None and not seen.odd_tokens and not job.steps.exists():
        return bill_for(job, 0)
    return bill_for(job, seen.trained_tokens, odd=seen.odd_tokens)


# Any: a provider's JSON, whose values are checked one by one here.
def _tokens(seen: RemoteJob) -> dict[str, Any]:
    return {"trained_tokens": seen.trained_tokens}
