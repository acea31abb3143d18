"""draft → uploading → uploaded | upload_unknown.

The training file goes first: as long as its id is missing, the validation file was never sent.
"""

from collections.abc import Iterator

from django.utils import timezone

from finetuning.datasets import open_file
from finetuning.errors import BadDataset
from finetuning.models import Dataset, Job
from finetuning.training import remote
from finetuning.training.bills import NOTHING
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


def upload_files(job: Job) -> None:
    """Sends what was not sent yet; a job cancelled meanwhile ends here."""
    if not claim(job, into=Job.State.UPLOADING):
        return
    if job.cancel_requested:
        end(job, state=Job.State.CANCELLED, bill=NOTHING)
        return
    try:
        sent = all(_send(job, *missing) for missing in _missing(job))
    except (ServerFailed, OutcomeUnknown) as error:
        mark_unknown(job, error, state=Job.State.UPLOAD_UNKNOWN)
    except TryAgainLater as error:
        try_later(job, error, state=Job.State.DRAFT)
    except (Refused, OutOfMoney, BadDataset) as error:
        note_refusal(job.language_model, error, asked_at=timezone.now())
        refuse(job, error)
    else:
        if sent:
            _uploaded(job)


def mark_upload_unknown(job: Job) -> None:
    """A worker died, or was too slow, while it uploaded."""
    if claim(job):
        mark_unknown(job, _("上传时工作进程中断了，结果不明。"), state=Job.State.UPLOAD_UNKNOWN)


def look_for_files(job: Job) -> None:
    """Adopts the files that carry our sha256; goes on, or the outcome stays unknown."""
    if not claim(job):
        return
    try:
        for field, sha256 in [(field, sha256) for field, _path, sha256 in _missing(job)]:
            found = remote.find_file(job, sha256=sha256)
            if not found:
                keep_unknown(job, job.error)
                return
            keep(job, **{field: found})
            if field == "training_file_id" and job.dataset.validation_file and not job.validation_file_id:
                hand_back(job, state=Job.State.DRAFT, error="", unknown_since=None, tries=0)
                return
    except LLMError as error:
        keep_unknown(job, error)
    else:
        _uploaded(job)


def _uploaded(job: Job) -> None:
    hand_back(job, state=Job.State.UPLOADED, error="", unknown_since=None, tries=0)


def _send(job: Job, field: str, path: str, sha256: str) -> bool:
    """Uploads one file and notes its id; False if the job is no longer ours."""
    split = "training" if field == "training_file_id" else "validation"
    with open_file(path, expected_sha256=sha256) as file:
        id = remote.upload_file(job, file, name=remote.file_name(split, sha256))
    return keep(job, **{field: id})


def _missing(job: Job) -> Iterator[tuple[str, str, str]]:
    """(column of the id, path, sha256) of each file that has no id yet, the training file first."""
    dataset: Dataset = job.dataset
    if not job.training_file_id:
        yield "training_file_id", dataset.training_file, dataset.sha256
    if dataset.validation_file and not job.validation_file_id:
        yield "validation_file_id", dataset.validation_file, dataset.validation_sha256
