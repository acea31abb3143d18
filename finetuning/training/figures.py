"""The figures of a job's steps as rows, each step once."""

from collections.abc import Sequence
from dataclasses import asdict, fields

from django.db import transaction

from finetuning.models import Job, JobStep
from finetuning.results import Figures

COLUMNS = tuple(field.name for field in fields(Figures))
BATCH = 500


def keep_steps(job: Job, figures: Sequence[Figures]) -> None:
    """Writes these figures over those that are known; a blank never replaces a number.

    In short transactions, one for every 500 steps: with SQLite everyone waits for a writer.
    """
    for start in range(0, len(figures), BATCH):
        _write(job, figures[start : start + BATCH])


def _write(job: Job, figures: Sequence[Figures]) -> None:
    numbers = [one.step for one in figures]
    with transaction.atomic():
        known = {
            values["step"]: Figures(**values)
            for values in job.steps.filter(step__in=numbers).values(*COLUMNS).order_by()
        }
        merged = (one.over(known[one.step]) if one.step in known else one for one in figures)
        JobStep.objects.bulk_create(
            (JobStep(job=job, **asdict(one)) for one in merged),
            update_conflicts=True,
            unique_fields=["job", "step"],
            update_fields=COLUMNS[1:],
        )
