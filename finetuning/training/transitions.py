"""What a failed call makes of a claimed job: a later try, a refusal, or an unknown outcome."""

from http import HTTPStatus

from django.conf import settings
from django.utils import timezone

from finetuning.models import Job
from finetuning.training.bills import NOTHING
from finetuning.training.states import end, hand_back, pace
from llm.errors import Refused, TryAgainLater
from sentences import Words, sentence_of
from sentences import sentence as _

MAX_TRIES = 10
MAX_WAIT = 300.0
MAX_OWN_WAIT = 15.0
"""Seconds until the next try: as long as the provider asks for, and where it names no time."""


def try_later(job: Job, error: TryAgainLater, *, state: str) -> None:
    """Hands the job back in `state` for another try soon; ten failed tries in a row refuse it.

    A 429 counts as no try.
    """
    counts = error.status != HTTPStatus.TOO_MANY_REQUESTS
    if counts and job.tries + 1 >= MAX_TRIES:
        refuse(job, error)
        return
    asked = error.retry_after
    after = min(MAX_OWN_WAIT, 2.0**job.tries) if asked is None else min(MAX_WAIT, asked)
    hand_back(job, state=state, after=after, error=sentence_of(error), tries=job.tries + counts)


def refuse(job: Job, error: Exception) -> None:
    """Ends the job as refused, by the provider or by the site itself: nothing was ordered, nothing is owed."""
    sentence = sentence_of(error)
    if isinstance(error, Refused) and error.status == HTTPStatus.FORBIDDEN:
        sentence = _("这个接入点不让本站的账号做微调。对方说：%(words)s %(others)s") % {
            "words": sentence,
            "others": _other_endpoints(job),
        }
    end(job, state=Job.State.REFUSED, bill=NOTHING, error=sentence)


def _other_endpoints(job: Job) -> Words:
    """What a trainer may turn to when this endpoint shuts them out."""
    others = [alias for alias in settings.LLM_ENDPOINTS if alias != job.language_model.endpoint]
    if others:
        return _("可以改用别的接入点：%(names)s。") % {"names": "、".join(others)}
    return _(
        "可以用 LLM_ENDPOINT_<名称> 另设一个支持微调的接入点（例如 Nebius Token Factory 或自带的模型服务）。"
    )


def mark_unknown(job: Job, error: Exception | Words, *, state: str) -> None:
    """Hands the job back in `state`, one of `Job.UNKNOWN`: the call may have worked.

    The next steps look for its result, soon and then every fifteen seconds. They never send it again.
    """
    now = timezone.now()
    since = job.unknown_since or now
    hand_back(job, state=state, after=pace(since), error=sentence_of(error), unknown_since=since)


def keep_unknown(job: Job, error: Exception | Words) -> None:
    """The result was not found, or not yet: the looking goes on, and a person may decide."""
    mark_unknown(job, error, state=job.state)
