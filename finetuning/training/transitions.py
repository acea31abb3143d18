"""What becomes of a claimed job when a call did not work: wait, refuse, or doubt."""

from http import HTTPStatus

from django.utils import timezone
from django.utils.translation import gettext as _

from finetuning.models import Job
from finetuning.training.bills import NOTHING
from finetuning.training.plan import other_endpoints
from finetuning.training.states import end, hand_back, pace
from llm.errors import LLMError, Refused, TryAgainLater

MOST_TRIES = 10
LONGEST_WAIT = 300.0
SLOWEST = 15.0


def wait(job: Job, error: TryAgainLater, *, state: str) -> None:
    """Back to `state`, for another try soon; ten failed ones in a row refuse the job, a 429 is none."""
    counts = error.status != HTTPStatus.TOO_MANY_REQUESTS
    if counts and job.tries + 1 >= MOST_TRIES:
        refuse(job, error)
        return
    asked = error.retry_after
    after = min(SLOWEST, 2.0**job.tries) if asked is None else min(LONGEST_WAIT, asked)
    hand_back(job, state=state, after=after, error=str(error), tries=job.tries + counts)


def refuse(job: Job, error: Exception) -> None:
    """The provider, or the site itself, says no: nothing was ordered, nothing is owed."""
    sentence = str(error)
    if isinstance(error, Refused) and error.status == HTTPStatus.FORBIDDEN:
        sentence = _("这个接入点不让本站的账号做微调。对方说：%(words)s %(others)s") % {
            "words": sentence,
            "others": other_endpoints(job),
        }
    end(job, state=Job.State.REFUSED, bill=NOTHING, error=sentence)


def doubt(job: Job, error: Exception | str, *, state: str) -> None:
    """It may have worked: look for it, soon and then every fifteen seconds, and never send it again."""
    now = timezone.now()
    since = job.unknown_since or now
    hand_back(job, state=state, after=pace(since), error=str(error), unknown_since=since)


def hold(job: Job, error: LLMError | str) -> None:
    """Not found (yet): a person may decide, and the looking goes on."""
    doubt(job, error, state=job.state)
