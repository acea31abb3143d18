"""What the commands of training share: their errors, and how a job is shown and waited for."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from finetuning.errors import TrainingError
from finetuning.models import Job
from finetuning.training import estimate_price
from stories.management.output import Progress, SiteCommand
from stories.values.money import to_usd

UNKNOWN_LONG_ENOUGH = timedelta(seconds=60)
PHASES: tuple[str, ...] = (
    Job.State.DRAFT,
    Job.State.UPLOADING,
    Job.State.UPLOADED,
    Job.State.CREATING,
    Job.State.CREATED,
)


class TrainingCommand(SiteCommand):
    """A command whose errors are also those of training."""

    errors = (*SiteCommand.errors, TrainingError)


def usd(micros: int | None) -> float | None:
    """A price for a program: USD, null for an unknown one."""
    dollars = to_usd(micros)
    return None if dollars is None else float(dollars)


# Any: an object of JSON, as --json prints it.
def describe(job: Job) -> dict[str, Any]:
    """A job for a program: the price is the bill once it is known, before that the estimate."""
    return {
        "job": job.pk,
        "remote_id": job.remote_id or None,
        "status": job.state,
        "remote_status": job.remote_status or None,
        "question": str(job.error) if job.is_asking else None,
        "model": job.tuned_model.name if job.tuned_model else None,
        "price": usd(price_of(job)),
    }


def price_of(job: Job) -> int | None:
    """Micro-USD: the bill, or the estimate while there is none."""
    if job.price is not None or job.has_ended:
        return job.price
    return estimate_price(job.dataset, job.language_model, job.epochs)


def watch(job: Job) -> Callable[[], Progress]:
    """A poll for `wait_with_bar`: reads the row, and says when waiting is over."""

    def poll() -> Progress:
        job.refresh_from_db()
        waited = job.unknown_since is not None and timezone.now() - job.unknown_since > UNKNOWN_LONG_ENOUGH
        return Progress(**_position(job), note=_note(job), finished=job.has_ended or waited or job.is_asked)

    return poll


def _position(job: Job) -> dict[str, int]:
    """By steps as soon as the provider counts them, by phases until then."""
    if job.state == Job.State.SUCCEEDED:
        total = job.total_steps or len(PHASES)
        return {"done": total, "total": total}
    step = _last_step(job)
    if job.total_steps:
        return {"done": min(step, job.total_steps), "total": job.total_steps}
    return {"done": PHASES.index(job.state) if job.state in PHASES else 0, "total": len(PHASES)}


def _last_step(job: Job) -> int:
    return job.steps.order_by("-step").values_list("step", flat=True).first() or 0


def _note(job: Job) -> str:
    words = [job.get_state_display(), *([_("等人决定")] if job.is_asking else [])]
    if job.remote_status:
        words.append(_("对方：%(status)s") % {"status": job.remote_status})
    if job.error:
        words.append(" ".join(str(job.error).split()))
    return " · ".join(words)
