"""Orders a training: what it will cost, what to know before, and the order, once."""

from dataclasses import asdict
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from finetuning.datasets import count_thinking
from finetuning.errors import BadJob
from finetuning.models import Dataset, Job
from finetuning.training.hyperparameters import (
    AUTOMATIC,
    Hyperparameters,
    check_hyperparameters,
    fingerprint,
    priced_epochs,
)
from stories.generation.attempts import known_amount, reserve_day
from stories.language_models import check_endpoint
from stories.models import LanguageModel
from stories.values.money import cost

ADVISED_ROWS = 50
SOON = timedelta(days=60)
MAX_SUFFIX_LENGTH = 64
PLAN_TRIES = 5
SAFETY = Decimal("1.6")
"""The estimate counts 0.93 tokens a Chinese character; stories/generation/attempts.py takes 1.5 as safe."""


def estimate_price(dataset: Dataset, model: LanguageModel, epochs: int | None) -> int | None:
    """Micro-USD: tokens × epochs × training price; None if the price is unknown."""
    if model.training_price is None:
        return None
    rounds = priced_epochs(dataset, model, epochs) or 0
    return cost(tokens=dataset.tokens * rounds, price=model.training_price)


def reservation(price: int | None) -> int | None:
    """The most that a training of that estimated price may cost: what is kept free under the daily limit."""
    return None if price is None else int((price * SAFETY).to_integral_value(rounding=ROUND_CEILING))


def list_warnings(dataset: Dataset, model: LanguageModel, asked: Hyperparameters) -> list[str]:
    """What a trainer should know before ordering."""
    warnings = []
    if dataset.training_rows < ADVISED_ROWS:
        words = {"rows": dataset.training_rows, "advised": ADVISED_ROWS}
        warnings.append(_("只有 %(rows)s 行训练数据；一般要 %(advised)s 到 100 行才看得出效果。") % words)
    if not dataset.validation_rows:
        warnings.append(_("这个数据集没有验证数据，看不出模型是否只是背下了故事。"))
    if model.parent_id and asked.learning_rate_multiplier is None:
        warnings.append(_("继续训练时，服务并不知道模型学过什么：宜用更小的学习率倍数或更少的轮数。"))
    if model.shutdown_date and model.shutdown_date - timezone.localdate() < SOON:
        retiring = {"name": model.name, "date": model.shutdown_date}
        warnings.append(_("模型「%(name)s」和由它训练出的模型将于 %(date)s 停用。") % retiring)
    if model.training_price is None:
        warnings.append(_("模型「%(name)s」的训练价未知，无法估计费用。") % {"name": model.name})
    return warnings


def find_unfinished(dataset: Dataset, model: LanguageModel, asked: Hyperparameters) -> Job | None:
    """The unfinished job of the same dataset version, model and hyperparameters."""
    alike = Job.objects.unfinished().filter(fingerprint=fingerprint(dataset, model, asked))
    return alike.first()


def order_job(
    dataset: Dataset,
    *,
    model: LanguageModel,
    asked: Hyperparameters = AUTOMATIC,
    suffix: str = "ultraman",
    by: AbstractBaseUser | None = None,
) -> Job:
    """Plans and starts a job in one transaction: if the money is refused, no job is left. Raises as both do."""
    with transaction.atomic():
        job = plan_job(dataset, model=model, asked=asked, suffix=suffix, by=by)
        start_job(job)
    return job


def plan_job(
    dataset: Dataset,
    *,
    model: LanguageModel,
    asked: Hyperparameters = AUTOMATIC,
    suffix: str = "ultraman",
    by: AbstractBaseUser | None = None,
) -> Job:
    """A draft, or the unfinished job alike. Raises `BadJob`, `UnknownModel` if the model can't be reached."""
    check_order(model, asked, suffix=suffix)
    check_rows(dataset)
    for _try in range(PLAN_TRIES):
        if unfinished := find_unfinished(dataset, model, asked):
            return unfinished
        try:
            with transaction.atomic():
                return _create(dataset, model=model, asked=asked, suffix=suffix, by=by)
        except IntegrityError:
            continue  # someone ordered the same at this moment: the next turn finds their job, unless it has ended
    raise BadJob(_("同样的任务刚刚结束，请再试一次。"))


def check_order(model: LanguageModel, asked: Hyperparameters, *, suffix: str) -> None:
    """Raises `BadJob` or `UnknownModel` if this can't be ordered."""
    check_endpoint(model)
    check_hyperparameters(asked)
    is_plain = suffix.isascii() and suffix.replace("-", "").replace("_", "").isalnum()
    if not is_plain or len(suffix) > MAX_SUFFIX_LENGTH:
        raise BadJob(
            _("后缀只能用英文字母、数字、横线和下划线，1 到 %(most)s 个。") % {"most": MAX_SUFFIX_LENGTH}
        )
    if model.shutdown_date and model.shutdown_date <= timezone.localdate():
        raise BadJob(_("模型「%(name)s」已停用，不能再训练。") % {"name": model.name})


def check_rows(dataset: Dataset) -> None:
    """Raises `BadJob` for a dataset of an older version of the site that holds what models thought."""
    count = count_thinking(dataset)
    if count:
        words = {"dataset": dataset, "count": count}
        raise BadJob(
            _("数据集 %(dataset)s 里有 %(count)s 行带着模型的思考，不能用来训练：请重新建一个。") % words
        )


def start_job(job: Job) -> bool:
    """Reserves the most it can cost and makes the job due, once; False if it was started before.

    Raises `OverBudget` at the daily limit, `UnknownModel` for an unknown price while there is one.
    """
    most = reservation(estimate_price(job.dataset, job.language_model, job.epochs))
    amount = known_amount(most, job.language_model)
    now, day = timezone.now(), timezone.localdate()
    started: dict[str, object] = {"next_poll_at": now, "reserved": most, "day": day}
    with transaction.atomic():
        fresh = Job.objects.filter(pk=job.pk, state=Job.State.DRAFT, next_poll_at__isnull=True)
        if not fresh.update(**started):
            return False
        reserve_day(amount, day)
    for name, value in started.items():
        setattr(job, name, value)
    return True


def find_job(reference: str) -> Job:
    """By our number or the provider's id. Raises `BadJob`."""
    by_remote = Job.objects.filter(remote_id=reference) if reference else Job.objects.none()
    digits = reference.removeprefix("#")
    if digits.isascii() and digits.isdigit() and len(digits) < 18:
        by_remote |= Job.objects.filter(pk=int(digits))
    if job := by_remote.first():
        return job
    raise BadJob(_("没有编号为 %(job)s 的微调任务。") % {"job": reference})


def _create(
    dataset: Dataset,
    *,
    model: LanguageModel,
    asked: Hyperparameters,
    suffix: str,
    by: AbstractBaseUser | None,
) -> Job:
    return Job.objects.create(
        dataset=dataset,
        language_model=model,
        suffix=suffix,
        **asdict(asked),
        fingerprint=fingerprint(dataset, model, asked),
        created_by_id=by.pk if by else None,
    )
