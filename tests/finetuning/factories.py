"""What the tests of training start from: approved stories of many combos, a built dataset, a job that is due."""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from finetuning import training
from finetuning.datasets import build_dataset
from finetuning.models import Dataset, Job
from stories.models import LanguageModel, Story
from stories.values.combos import multiply
from tests import factories

DYNASTIES = ("唐", "宋", "元", "明", "清")
POWERS = ("隐形", "飞行", "喷火")
TYPES = ("轻松", "努力")


def make_approved(rows: int = 30, **kw: Any) -> list[Story]:
    """Approved stories, each of another combo (30 at most) and with its own text."""
    combos = multiply(DYNASTIES, POWERS, TYPES)[:rows]
    return [
        make_approved_story(
            combo=combo,
            text=f"{combo.dynasty}朝的主人公第{number}次来到今天，靠{combo.super_power}{combo.story_type}取胜。",
            **kw,
        )
        for number, combo in enumerate(combos)
    ]


def make_approved_story(**kw: Any) -> Story:
    """An editor's story: nobody has to offer it first."""
    if "run" not in kw:
        kw.setdefault("origin", Story.Origin.IMPORT)
    return factories.make_approved_story(**kw)


def make_model(name: str = "", **kw: Any) -> LanguageModel:
    """A model as it is read from the database, its prices decimals."""
    return LanguageModel.objects.get(pk=factories.make_model(name, **kw).pk)


def make_built_dataset(rows: int = 30, **kw: Any) -> Dataset:
    make_approved(rows)
    return build_dataset(kw.pop("name", "奥特曼"), **kw)


def order_job(
    dataset: Dataset, *, model: LanguageModel, suffix: str = "ultraman", by: User | None = None, **asked: Any
) -> Job:
    """An order; `asked` are its hyperparameters."""
    hyperparameters = training.Hyperparameters(**asked)
    return training.order_job(dataset, model=model, asked=hyperparameters, suffix=suffix, by=by)


def make_started_job(*, dataset: Dataset | None = None, model: LanguageModel | None = None, **kw: Any) -> Job:
    """A job whose first step is due now."""
    job = order_job(
        dataset or make_built_dataset(), model=model or make_model("gpt-4o-mini", training_price=3), **kw
    )
    return fresh(job)


def fresh(job: Job) -> Job:
    """The job as a worker loads it."""
    return Job.objects.select_related("dataset", "language_model").get(pk=job.pk)


def make_due(job: Job) -> Job:
    """Time passes until the job's next step is due."""
    Job.objects.filter(pk=job.pk, next_poll_at__isnull=False).update(next_poll_at=timezone.now())
    return fresh(job)


def advance(job: Job, times: int = 1) -> Job:
    """That many steps, each as soon as it is due."""
    for _step in range(times):
        training.advance_job(make_due(job))
    return fresh(job)


def until(job: Job, states: Sequence[str], most: int = 12) -> Job:
    """Steps until the job is in one of the states."""
    for _step in range(most):
        if fresh(job).state in states:
            break
        advance(job)
    assert fresh(job).state in states
    return fresh(job)
