"""`job_results JOB [--output FILE.csv]`: the figures of every step, blank where the provider does not say."""

from pathlib import Path

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from finetuning import training
from finetuning.exports import results_csv
from finetuning.management.output import TrainingCommand, describe


class Command(TrainingCommand):
    help = "一个微调任务每一步的损失和准确率（CSV）。"
    json_keys = ("job", "remote_id", "status", "model", "price")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("job", metavar="JOB")
        parser.add_argument("--output", metavar="FILE.csv", type=Path)

    def run(self, *, job: str, output: Path | None, **options: object) -> dict[str, object]:
        found = training.find_job(job)
        content = results_csv(found)
        rows = found.steps.count()
        if output:
            output.write_text(content, encoding="utf-8", newline="")
            self.say(_("写了 %(rows)s 步到 %(file)s。") % {"rows": rows, "file": output})
        else:
            self.say(content, ending="")
        return describe(found) | {"rows": rows}
