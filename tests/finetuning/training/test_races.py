"""Several hands at once: two trainers, three deliveries of one message; each with its guard off, too."""

import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from finetuning import training
from finetuning.models import Job
from finetuning.training import plan, states
from stories.models import SpendDay
from tests.finetuning.factories import (
    advance,
    fresh,
    make_built_dataset,
    make_due,
    make_model,
    make_started_job,
    order_job,
)
from tests.provider import Provider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]
JOBS = "/v1/fine_tuning/jobs"


def together(action: Callable[[], Any], times: int = 4) -> list[Exception]:
    """Runs the action in that many threads at the same moment; what they raised."""
    barrier = threading.Barrier(times)
    errors: list[Exception] = []

    def run() -> None:
        try:
            barrier.wait(10)
            action()
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _thread in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


@pytest.fixture
def order(provider: Provider) -> Iterator[Callable[[], Job]]:
    dataset, model = make_built_dataset(), make_model("gpt-4o-mini", training_price=3)
    yield lambda: order_job(dataset, model=model, epochs=4)
    connection.close()


def test_trainers_who_press_together_start_one_job(order: Callable[[], Job]) -> None:
    assert together(order) == []
    job = Job.objects.get()
    assert SpendDay.objects.get().reserved == job.reserved


def test_without_the_fingerprint_they_would_start_several(
    order: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the test above can fail."""
    numbers = count()
    monkeypatch.setattr(plan, "fingerprint", lambda *_: f"{next(numbers):064x}")
    assert together(order) == []
    assert Job.objects.count() == 4


def test_one_message_delivered_often_is_one_create(provider: Provider) -> None:
    job = advance(make_started_job())
    provider.answer_after = 0.3
    loaded = [make_due(job) for _message in range(4)]
    assert together(lambda: training.advance_job(loaded.pop())) == []
    assert len(provider.posts(JOBS)) == 1
    assert fresh(job).state == Job.State.CREATED


def test_without_claim_and_fence_it_would_be_several(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: claiming the row, and its fence, are what keeps it to one."""
    job = advance(make_started_job())
    provider.answer_after = 0.3

    def careless(job: Job, *, state: str = "") -> bool:
        job.state = state or job.state
        Job.objects.filter(pk=job.pk).update(state=job.state, lease_until=timezone.now() + states.LEASE)
        return True

    monkeypatch.setattr("finetuning.training.creation.claim", careless)
    monkeypatch.setattr("finetuning.training.creation.keep", careless)
    loaded = [make_due(job) for _message in range(4)]
    together(lambda: training.advance_job(loaded.pop()))
    assert len(provider.posts(JOBS)) == 4


def test_a_success_seen_often_makes_one_model_and_one_bill(provider: Provider) -> None:
    job = advance(make_started_job(), 2)
    provider.jobs.succeed("ftjob-1", results=b"step,train_loss\n1,0.5\n", trained_tokens=1000)
    loaded = [make_due(job) for _message in range(4)]
    assert together(lambda: training.advance_job(loaded.pop())) == []
    job = fresh(job)
    assert (job.state, job.steps.count(), job.tuned_model.made_by.count()) == ("succeeded", 1, 1)
    day = SpendDay.objects.get()
    assert (day.spent, day.reserved) == (3000, 0)
