"""uploaded: whether the provider has processed our files, as far as it tells.

A provider that keeps no status of files, or has no page for one, is not waited for: creating the job costs nothing
as long as it is refused, and a refusal that says the file is not ready is waited for, too.
"""

import re
from datetime import datetime, timedelta
from http import HTTPStatus

from django.utils import timezone

from finetuning.models import Job
from finetuning.training import remote
from finetuning.training.states import hand_back, pace
from finetuning.training.statuses import FILES_BROKEN, FILES_UNREADY
from finetuning.training.transitions import MAX_WAIT
from llm.errors import LLMError, Refused, TryAgainLater
from sentences import Words, sentence_of
from sentences import sentence as _

MAX_PROCESSING = timedelta(minutes=10)
"""How long a file may be processed before the job is created all the same: some servers never change the word."""
MAX_UNREADY = timedelta(minutes=30)
MAX_MISSING = timedelta(minutes=2)
"""How long a creation is repeated whose refusal says that the file is not ready, or not there."""
MAX_FAILED_LOOKS = timedelta(minutes=1)
ABOUT_FILES = re.compile(r"file|文件", re.IGNORECASE)
UNREADY = re.compile(
    r"not\s+(yet\s+)?(been\s+)?(ready|processed|finished|available|validated)"
    r"|\b(still|currently|is|are|being)\s+(being\s+)?(process(ing|ed)|validat(ing|ed)|pending|uploading)\b"
    r"|not\s+yet\b|处理中|正在处理|未就绪|没有准备好|尚未",
    re.IGNORECASE,
)
MISSING = re.compile(r"no such|not\s+found|not\s+exist|could\s+not\s+find|不存在|找不到", re.IGNORECASE)
SAYS_UNREADY = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_EARLY,
)


def are_ready(job: Job) -> bool:
    """Whether the job may be created now; if not, the claimed job is handed back to wait.

    Raises `Refused` for a file that the provider cannot use.
    """
    for file_id in filter(None, (job.training_file_id, job.validation_file_id)):
        try:
            wait, limit, asked = _why_to_wait(job, file_id), MAX_PROCESSING, None
        except Refused as error:
            if error.status is None:
                raise
            continue  # there is no such page
        except LLMError as error:
            wait, limit = sentence_of(error), MAX_FAILED_LOOKS
            asked = error.retry_after if isinstance(error, TryAgainLater) else None
        if wait and _has_time(job, limit):
            _wait(job, wait, asked=asked)
            return False
    return True


def wait_for_files(job: Job, error: Refused) -> bool:
    """Whether a refused creation is to be repeated, because a file is not ready yet; then the job waits."""
    if not _has_time(job, _patience(error)):
        return False
    _wait(job, _("对方说文件还没有准备好，过一会儿再试：%(words)s") % {"words": sentence_of(error)})
    return True


def _why_to_wait(job: Job, file_id: str) -> Words:
    file = remote.retrieve_file(job, file_id)
    if file.status in FILES_BROKEN:
        words = {"file": file_id, "words": file.error or file.word}
        raise Refused(_("对方用不了文件 %(file)s：%(words)s") % words)
    if file.status not in FILES_UNREADY:
        return ""
    return _("对方还在处理文件 %(file)s（%(status)s）。") % {"file": file_id, "status": file.word}


def _patience(error: Refused) -> timedelta:
    """How long a creation that was refused with these words is worth repeating."""
    said = str(error)
    if error.status not in SAYS_UNREADY or not ABOUT_FILES.search(said):
        return timedelta(0)
    if UNREADY.search(said):
        return MAX_UNREADY
    return MAX_MISSING if MISSING.search(said) else timedelta(0)


def _has_time(job: Job, limit: timedelta) -> bool:
    since = _since(job)
    return timezone.now() - since < limit


def _since(job: Job) -> datetime:
    return job.waiting_since or timezone.now()


def _wait(job: Job, words: Words, *, asked: float | None = None) -> None:
    since = _since(job)
    after = pace(since) if asked is None else min(MAX_WAIT, asked)
    hand_back(job, state=Job.State.UPLOADED, after=after, error=words, waiting_since=since)
