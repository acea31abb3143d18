"""`train DATASET [--model M] … [--wait] --yes`: orders a fine-tune job; without `--yes` it only says the price."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from finetuning import tasks, training
from finetuning.datasets import find_dataset
from finetuning.management.output import TrainingCommand, describe, price_of, usd, watch
from finetuning.models import Dataset, Job
from stories.language_models import ensure_models, find_model
from stories.management.output import Failed, wait_with_bar
from stories.models import LanguageModel
from stories.operations.task_queue import enqueue
from stories.values.money import show


class Command(TrainingCommand):
    help = "用数据集微调一个模型；不加 --yes 只报价。"
    json_keys = ("job", "remote_id", "status", "model", "price")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", metavar="DATASET", help=_("名称，或 名称@版本"))
        parser.add_argument("--model", metavar="M", help=_("起点模型，默认 FINE_TUNE_BASE_MODEL"))
        parser.add_argument("--suffix", default="ultraman")
        parser.add_argument("--epochs", metavar="N", type=int)
        parser.add_argument("--batch-size", metavar="N", type=int)
        parser.add_argument("--learning-rate-multiplier", metavar="X", type=float)
        parser.add_argument("--wait", action="store_true", help=_("等到任务结束"))
        parser.add_argument("--yes", action="store_true", help=_("确认花费，开始训练"))

    def run(
        self,
        *,
        dataset: str,
        model: str | None,
        suffix: str,
        yes: bool,
        wait: bool,
        # Any: what argparse read; and an object of JSON, as --json prints it.
        **options: Any,
    ) -> dict[str, Any]:  # Any: as above
        ensure_models()
        frozen, start = find_dataset(dataset), find_model(model or settings.FINE_TUNE_BASE_MODEL)
        asked = training.Hyperparameters(
            options["epochs"], options["batch_size"], options["learning_rate_multiplier"]
        )
        training.check_order(start, asked, suffix=suffix)
        if not yes:
            return self._quote(frozen, start, asked)
        job = training.order_job(frozen, model=start, asked=asked, suffix=suffix)
        enqueue(tasks.advance_job, job.pk)
        words = {"job": job, "price": show(price_of(job))}
        self.say(_("微调任务 %(job)s，预计费用 %(price)s。") % words)
        return self._wait(job) if wait else describe(job)

    def _quote(
        self,
        dataset: Dataset,
        model: LanguageModel,
        asked: training.Hyperparameters,
        # Any: an object of JSON, as --json prints it.
    ) -> dict[str, Any]:
        price = training.estimate_price(dataset, model, asked.epochs)
        for warning in training.list_warnings(dataset, model, asked):
            self.say(warning)
        words = {"dataset": dataset, "model": model, "tokens": dataset.tokens, "price": show(price)}
        self.say(
            _("用 %(dataset)s（约 %(tokens)s 词元）微调 %(model)s，预计费用 %(price)s。加 --yes 开始。")
            % words
        )
        nothing = dict.fromkeys(self.json_keys)
        return nothing | {"price": usd(price)}

    # Any: an object of JSON, as --json prints it.
    def _wait(self, job: Job) -> dict[str, Any]:
        wait_with_bar(watch(job))
        described = describe(job)
        if job.state != Job.State.SUCCEEDED:
            state = _("等人决定") if job.is_asking else job.get_state_display()
            words = {"job": job, "state": state, "error": job.error or job.remote_status}
            sentence = _("微调任务 %(job)s %(state)s：%(error)s") % words
            raise Failed(" ".join(sentence.split()).rstrip("： "), **described)
        words = {"model": job.tuned_model, "tokens": job.trained_tokens, "price": show(job.price)}
        self.say(_("训练好了：%(model)s。训练了 %(tokens)s 词元，费用 %(price)s。") % words)
        return described
