"""One step of a job: the table of states and steps."""

from collections.abc import Callable

from django.utils import timezone

from finetuning.models import Job
from finetuning.training.creation import create_remote_job, look_for_job, mark_create_unknown
from finetuning.training.poll import poll_job
from finetuning.training.upload import look_for_files, mark_upload_unknown, upload_files

STEPS: dict[str, Callable[[Job], None]] = {
    Job.State.DRAFT: upload_files,
    Job.State.UPLOADING: mark_upload_unknown,
    Job.State.UPLOAD_UNKNOWN: look_for_files,
    Job.State.UPLOADED: create_remote_job,
    Job.State.CREATING: mark_create_unknown,
    Job.State.CREATE_UNKNOWN: look_for_job,
    Job.State.CREATED: poll_job,
}


def advance_job(job: Job) -> bool:
    """Takes the next step if it is due and nobody else takes it. True if a further step is due at once."""
    step = STEPS.get(job.state)
    if step is None:
        return False
    before = job.state
    step(job)
    return job.state != before and Job.objects.due(timezone.now()).filter(pk=job.pk).exists()
