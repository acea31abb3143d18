"""A job's figures as others read them: the CSV of `job_results`, the series of the chart."""

import csv
import io

from django.utils.translation import gettext as _

from finetuning.errors import BadJob
from finetuning.models import Job
from finetuning.results import COLUMNS

CURVES = ("training_loss", "validation_loss", "training_token_accuracy", "validation_token_accuracy")
MAX_POINTS = 600


def results_csv(job: Job) -> str:
    """`step,elapsed_tokens,…`, one line a step. Raises `BadJob` if nothing is known yet."""
    steps = list(job.steps.order_by("step").values_list(*COLUMNS))
    if not steps:
        words = {"job": job, "state": job.get_state_display()}
        raise BadJob(_("任务 %(job)s 还没有训练结果（%(state)s）。") % words)
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(["" if value is None else value for value in step] for step in steps)
    return written.getvalue()


def curves(job: Job) -> dict[str, list[object]]:
    """Columns of equal length: `step` and each curve, null where nothing was measured; thinned evenly.

    A step that measured validation is always kept: there are few of them.
    """
    steps = list(job.steps.order_by("step").values("step", *CURVES))
    every = -(-len(steps) // MAX_POINTS) or 1
    last = len(steps) - 1
    kept = [
        step
        for number, step in enumerate(steps)
        if number % every == 0 or number == last or step["validation_loss"] is not None
    ]
    return {name: [step[name] for step in kept] for name in ("step", *CURVES)}
