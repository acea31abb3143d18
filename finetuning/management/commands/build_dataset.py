"""`build_dataset NAME [--run N …] [--since DATASET] [--format chat|completion] [--output FILE.jsonl]`."""

import shutil
from pathlib import Path

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from finetuning.datasets import build_dataset, find_dataset, full_path, preview_dataset
from finetuning.errors import BadDataset
from finetuning.management.output import TrainingCommand
from finetuning.models import Dataset
from stories.library.labels import file_label, label_path
from stories.models import Run


class Command(TrainingCommand):
    help = "把已采纳的故事冻结成数据集：全部、某些批次的，或某个数据集之后新采纳的。"
    json_keys = ("dataset", "version", "rows", "tokens", "sha256", "path")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument(
            "--run", dest="runs", metavar="N", type=int, nargs="+", action="extend", default=[]
        )
        parser.add_argument("--since", metavar="DATASET", help=_("只要这个数据集里没有的"))
        parser.add_argument("--format", choices=Dataset.Format.values, default=Dataset.Format.CHAT)
        parser.add_argument(
            "--output", metavar="FILE.jsonl", type=Path, help=_("训练文件另存一份，旁边放上 AI 生成标识")
        )

    def run(
        self,
        *,
        name: str,
        runs: list[int],
        since: str | None,
        format: str,
        output: Path | None,
        **options: object,
    ) -> dict[str, object]:
        if output:
            check_writable(output)
        chosen, older = find_runs(runs), find_dataset(since) if since else None
        thinking = preview_dataset(runs=chosen, since=older, format=format).thinking
        dataset = build_dataset(name, runs=chosen, since=older, format=format)
        path = full_path(dataset.training_file)
        if output:
            shutil.copyfile(path, output)
            label = file_label(dataset.sha256, name=output.name, rows=dataset.training_rows)
            label_path(output).write_bytes(label)
        self._tell(dataset, path, thinking)
        return {
            "dataset": dataset.name,
            "version": dataset.version,
            "rows": dataset.training_rows,
            "tokens": dataset.tokens,
            "sha256": dataset.sha256,
            "path": str(path),
            "validation_rows": dataset.validation_rows,
            "stop": dataset.stop or None,
            "with_thinking": thinking,
        }

    def _tell(self, dataset: Dataset, path: Path, thinking: int) -> None:
        words = {
            "dataset": dataset,
            "training": dataset.training_rows,
            "validation": dataset.validation_rows,
            "tokens": dataset.tokens,
        }
        self.say(
            _("数据集 %(dataset)s：训练 %(training)s 行，验证 %(validation)s 行，约 %(tokens)s 词元。")
            % words
        )
        if thinking:
            said = _("另有 %(count)s 篇的正文里有模型的思考，没有放进去：可用 mend_thinking 去掉。")
            self.say(said % {"count": thinking})
        self.say(f"sha256 {dataset.sha256}")
        self.say(str(path))


def find_runs(numbers: list[int]) -> list[Run]:
    """The runs of these numbers. Raises `BadDataset` for one that does not exist."""
    runs = list(Run.objects.filter(pk__in=numbers))
    missing = sorted(set(numbers) - {run.pk for run in runs})
    if missing:
        raise BadDataset(_("没有编号为 %(run)s 的批次。") % {"run": missing[0]})
    return runs


def check_writable(output: Path) -> None:
    """Raises before anything is frozen if the copy could not be written afterwards."""
    if not output.parent.is_dir():
        raise BadDataset(_("没有文件夹「%(folder)s」。") % {"folder": output.parent})
    with output.open("ab"):
        return
