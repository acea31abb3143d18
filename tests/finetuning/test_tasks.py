"""The sweeper and the tasks: every due job goes on, with real workers and without any other message."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from finetuning import tasks, training
from finetuning.models import Job
from tests.finetuning.factories import (
    advance,
    fresh,
    make_built_dataset,
    make_model,
    make_started_job,
    order_job,
)
from tests.provider import Fault, Provider
from tests.servers import wait_until

RESULTS = b"step,train_loss\n1,0.5\n"


@pytest.fixture
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Primary keys that were handed to the workers."""
    handed: list[Any] = []
    monkeypatch.setattr(tasks, "enqueue", lambda task, pk: handed.append(int(pk)))
    return handed


@pytest.mark.django_db
def test_the_sweeper_finds_what_is_due_and_nothing_else(provider: Provider, enqueued: list[int]) -> None:
    dataset, model = make_built_dataset(), make_model("gpt-4o-mini", training_price=3)
    jobs = [order_job(dataset, model=model, epochs=epochs) for epochs in range(1, 6)]
    due, later, claimed, lost, ended = jobs
    training.plan_job(dataset, model=model, asked=training.Hyperparameters(epochs=9))
    soon, past = timezone.now() + timedelta(minutes=1), timezone.now() - timedelta(seconds=1)
    Job.objects.filter(pk=later.pk).update(next_poll_at=soon)
    Job.objects.filter(pk=claimed.pk).update(state="creating", lease_until=soon)
    Job.objects.filter(pk=lost.pk).update(state="creating", lease_until=past)
    training.cancel_job(ended, by="test")
    tasks.sweep_jobs()
    assert sorted(enqueued) == [due.pk, lost.pk]


@pytest.mark.django_db
def test_a_step_hands_on_the_next_one_only_if_it_is_due(provider: Provider, enqueued: list[int]) -> None:
    job = make_started_job()
    for state in (Job.State.UPLOADED, Job.State.CREATED):
        tasks.advance_job(str(job.pk))
        assert fresh(job).state == state
    assert enqueued == [job.pk, job.pk]
    tasks.advance_job(str(job.pk))  # the first look; the second is not due yet
    tasks.advance_job(str(job.pk))
    assert enqueued == [job.pk, job.pk]
    assert [call.path for call in provider.calls if call.method == "GET"] == [
        "/v1/files/file-1",
        "/v1/files/file-2",
        "/v1/fine_tuning/jobs/ftjob-1",
        "/v1/fine_tuning/jobs/ftjob-1/events",
    ]


@pytest.mark.django_db(transaction=True)
def test_real_workers_finish_a_job_that_only_the_sweeper_knows_of(
    celery_workers: object, provider: Provider
) -> None:
    """Redis lost every message and beat was dead for a while: the rows are enough."""
    job = make_started_job()

    def ended() -> bool:
        Job.objects.filter(next_poll_at__isnull=False).update(next_poll_at=timezone.now())
        tasks.sweep_jobs.apply_async()
        tasks.sweep_jobs.apply_async()  # two beats
        if provider.jobs.jobs:
            provider.jobs.succeed("ftjob-1", results=RESULTS)
        return fresh(job).has_ended

    wait_until(ended, seconds=60, every=0.3, what="the job ends")
    assert (fresh(job).state, fresh(job).steps.count()) == (Job.State.SUCCEEDED, 1)
    assert len(provider.posts("/v1/fine_tuning/jobs")) == 1
    assert len(provider.posts("/v1/files")) == 2


@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_while_it_creates_leaves_one_remote_job(
    start_workers: Any, provider: Provider
) -> None:
    workers = start_workers("bulk", base_url=provider.base_url)
    job = advance(make_started_job())
    provider.next(Fault.DONE_BUT_HANG, path="/v1/fine_tuning/jobs")
    tasks.advance_job.apply_async([str(job.pk)])
    wait_until(lambda: provider.posts("/v1/fine_tuning/jobs"))
    workers.kill("bulk")
    assert fresh(job).state == Job.State.CREATING
    Job.objects.update(lease_until=timezone.now())
    job = advance(job, 2)
    assert (job.state, job.remote_id) == (Job.State.CREATED, "ftjob-1")
    assert len(provider.posts("/v1/fine_tuning/jobs")) == 1
