"""`list_jobs`: every fine-tune job, newest first."""

from django.utils.translation import gettext as _

from finetuning.management.output import TrainingCommand, describe, price_of
from finetuning.models import Job
from stories.values.money import show


class Command(TrainingCommand):
    help = "列出所有微调任务。"
    json_keys = ("jobs",)

    def run(self, **options: object) -> dict[str, object]:
        jobs = list(Job.objects.select_related("dataset", "language_model", "tuned_model"))
        for job in jobs:
            self.say(_line(job))
        if not jobs:
            self.say(_("还没有微调任务：先用 build_dataset 建一个数据集，再用 train 训练。"))
        return {"jobs": [_full(job) for job in jobs]}


def _line(job: Job) -> str:
    parts = [
        str(job),
        job.remote_id or "—",
        f"{job.get_state_display()} {job.remote_status}".strip(),
        f"{job.dataset} → {job.language_model}",
        job.tuned_model.name if job.tuned_model else "",
        show(price_of(job)),
        f"{_('等人决定')}：{' '.join(str(job.error).split())}" if job.is_asking else "",
    ]
    return " · ".join(part for part in parts if part)


def _full(job: Job) -> dict[str, object]:
    """What the notebook listed: id, base model, status, hyperparameters, and the files' names for results."""
    return describe(job) | {
        "dataset": str(job.dataset),
        "base_model": job.language_model.name,
        "hyperparameters": {
            "n_epochs": job.epochs or "auto",
            "batch_size": job.batch_size or "auto",
            "learning_rate_multiplier": job.learning_rate_multiplier or "auto",
        },
        "trained_tokens": job.trained_tokens,
        "result_file": job.result_file_id or None,
        "created_at": job.created_at.isoformat(),
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
    }
