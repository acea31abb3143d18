"""`cancel_job JOB`: by our number or the provider's id."""

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from finetuning import tasks, training
from finetuning.management.output import TrainingCommand, describe
from stories.management.output import terminal_name
from stories.operations.task_queue import enqueue


class Command(TrainingCommand):
    help = "取消一个微调任务。"
    json_keys = ("job", "remote_id", "status", "model", "price")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("job", metavar="JOB")

    def run(self, *, job: str, **options: object) -> dict[str, object]:
        cancelled = training.cancel_job(training.find_job(job), by=terminal_name())
        if cancelled.has_ended:
            self.say(_("任务 %(job)s 已取消。") % {"job": cancelled})
        else:
            enqueue(tasks.advance_job, cancelled.pk)
            self.say(_("已要求取消任务 %(job)s，等对方答复。") % {"job": cancelled})
        return describe(cancelled)
