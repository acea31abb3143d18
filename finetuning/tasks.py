"""The tasks of training: load, call, go on. The rows say what is due, so a lost message loses nothing."""

from celery import shared_task
from django.utils import timezone

from finetuning import training
from finetuning.models import Job
from stories.operations.task_queue import enqueue


@shared_task
def advance_job(pk: str) -> None:
    """One step of a job, and a message for the next one if that is due already."""
    if training.advance_job(Job.objects.select_related("dataset", "language_model").get(pk=pk)):
        enqueue(advance_job, pk)


@shared_task
def sweep_jobs() -> None:
    """Every due job gets a message; beat calls this every five seconds, and twice does no harm."""
    for pk in Job.objects.due(timezone.now()).values_list("pk", flat=True):
        enqueue(advance_job, pk)
