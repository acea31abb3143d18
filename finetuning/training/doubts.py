"""What of a training only a person can decide, because its provider does not say how it ended.

Nobody is asked as long as a provider says a word that we know. An unknown word is given ten minutes to change, as is a
provider that shows the job no more. Beside the name of a tuned model, a word that is no end is asked about at once.
"""

from datetime import datetime, timedelta

from django.utils import timezone

from finetuning.models import Job
from finetuning.training.remote import RemoteJob
from finetuning.training.statuses import ENDS, Meaning
from sentences import Words
from sentences import sentence as _

MAX_STILL = timedelta(minutes=10)
"""How long an unknown word may stand, or a provider not show a job, before a person is asked."""
MAX_AGREED = timedelta(days=1)
"""How long after a person said to wait they are asked again, unless the word changes."""


def question_about(job: Job, seen: RemoteJob, *, since: datetime) -> Words:
    """What a person is asked about a job of that status, the same `since` then; "" as long as nobody need be."""
    if seen.meaning in ENDS or timezone.now() - since < _patience(job, seen):
        return ""
    words = {"status": seen.status or "—", "model": tuned_name(seen)}
    if _is_named(seen):
        return (
            _("对方给出了训练好的模型「%(model)s」，状态却是「%(status)s」：请到对方那里看一看，再决定。")
            % words
        )
    if seen.meaning is Meaning.UNKNOWN:
        return _("本站不认识对方的状态「%(status)s」，它也一直没有变：请到对方那里看一看，再决定。") % words
    return ""


def question_unseen(job: Job, error: Words, *, since: datetime) -> Words:
    """What a person is asked about a job that the provider has refused to show `since` then."""
    limit = MAX_AGREED if job.verdict == Job.Verdict.WAITING else MAX_STILL
    if timezone.now() - since < limit:
        return ""
    return _("对方不再给看这个任务（%(error)s）：请到对方那里看一看，再决定。") % {"error": error}


def tuned_name(seen: RemoteJob) -> str:
    """The tuned model's name, wherever the provider says it."""
    return seen.model or seen.announced


def _patience(job: Job, seen: RemoteJob) -> timedelta:
    if job.verdict == Job.Verdict.WAITING:
        return MAX_AGREED
    return timedelta(0) if _is_named(seen) else MAX_STILL


def _is_named(seen: RemoteJob) -> bool:
    """Whether a tuned model is named. A name that is announced while the job runs on is no sign of an end."""
    return bool(seen.model or (seen.announced and seen.meaning is Meaning.UNKNOWN))
