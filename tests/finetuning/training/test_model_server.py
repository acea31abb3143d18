"""The loop's middle on the repository's own model server: train, train further, and read what it measured."""

import pytest
from django.conf import settings

from finetuning import training
from finetuning.datasets import build_dataset
from finetuning.exports import results_csv
from finetuning.models import Job
from stories.language_models import ensure_models, find_model
from stories.models import LanguageModel
from tests.finetuning.factories import fresh, make_approved, make_due, make_model, order_job
from tests.servers import wait_until

pytestmark = pytest.mark.django_db


def train(**kw: object) -> Job:
    job = order_job(**kw)

    def ended() -> bool:
        training.advance_job(make_due(job))
        return fresh(job).has_ended

    wait_until(ended, seconds=60, every=0.1, what="the job ends")
    return fresh(job)


@pytest.mark.parametrize("format", ["chat", "completion"])
def test_train_and_train_further(model_server: object, format: str) -> None:
    make_approved(30)
    ensure_models()
    base = find_model(settings.FINE_TUNE_BASE_MODEL)
    dataset = build_dataset("a", format=format)
    job = train(dataset=dataset, model=base, epochs=2)
    assert (job.state, str(job.error), job.remote_status) == ("succeeded", "", "succeeded")
    tuned = job.tuned_model
    assert (tuned.parent, tuned.prompt_style, tuned.stop) == (base, format, dataset.stop)
    assert (job.price, job.trained_tokens > 0) == (0, True)
    last = job.steps.order_by("-step").first()
    assert last.step == job.total_steps
    assert last.training_loss is not None
    assert last.validation_loss is not None
    assert len(results_csv(job).splitlines()) == job.steps.count() + 1
    child = train(dataset=dataset, model=tuned, epochs=1, learning_rate_multiplier=0.2).tuned_model
    assert (child.parent, child.base) == (tuned, base.name)
    assert LanguageModel.objects.filter(name__startswith="ft:").count() == 2


def test_a_model_the_server_does_not_know_is_refused_in_words(model_server: object) -> None:
    make_approved(10)
    missing = make_model("no-such-model")
    job = train(dataset=build_dataset("a"), model=missing)
    assert job.state == Job.State.REFUSED
    assert "no-such-model" in str(job.error)
