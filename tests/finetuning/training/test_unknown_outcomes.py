"""Calls whose outcome is not known: one remote job, adopted by our key, never a second create by itself."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from finetuning import training
from finetuning.errors import BadJob
from finetuning.models import Job
from finetuning.training import creation, remote
from llm import remote_objects
from stories.models import SpendDay
from stories.operations import seeding
from tests.finetuning.factories import advance, fresh, make_started_job
from tests.provider import Fault, Provider

pytestmark = pytest.mark.django_db
FILES, JOBS = "/v1/files", "/v1/fine_tuning/jobs"
WORKED = [Fault.DONE_BUT_500, Fault.DONE_BUT_HTML, Fault.DONE_BUT_RESET, Fault.DONE_BUT_HANG]
NOTHING_DONE = [Fault.SERVER_ERROR, Fault.HTML, Fault.RESET, Fault.HANG]


@pytest.fixture(autouse=True)
def _short_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_objects, "CALL_TIMEOUT", 0.7)


@pytest.mark.parametrize("fault", WORKED)
@pytest.mark.parametrize("honours_filter", [True, False])
def test_a_create_that_worked_is_adopted(provider: Provider, fault: Fault, honours_filter: bool) -> None:
    provider.jobs.honours_metadata_filter = honours_filter
    job = advance(make_started_job())
    provider.next(fault, path=JOBS)
    job = advance(job)
    assert (job.state, job.remote_id) == (Job.State.CREATE_UNKNOWN, "")
    job = advance(job)
    assert (job.state, job.remote_id, str(job.error), job.unknown_since) == ("created", "ftjob-1", "", None)
    assert len(provider.posts(JOBS)) == 1
    provider.jobs.succeed("ftjob-1", results=b"step,train_loss\n1,0.5\n")
    assert advance(job).state == Job.State.SUCCEEDED
    assert len(provider.jobs.jobs) == 1


@pytest.mark.parametrize("fault", NOTHING_DONE)
def test_a_create_that_did_nothing_is_held_for_a_person(provider: Provider, fault: Fault) -> None:
    job = advance(make_started_job())
    provider.next(fault, path=JOBS)
    job = advance(job, 5)
    assert job.state == Job.State.CREATE_UNKNOWN
    assert len(provider.posts(JOBS)) == 1
    assert job.next_poll_at is not None
    training.send_again(job, by="test")
    job = advance(job)
    assert (job.state, job.remote_id) == ("created", "ftjob-1")
    assert len(provider.posts(JOBS)) == 2


def test_the_remote_list_lags(provider: Provider) -> None:
    provider.jobs.list_lag = 3
    job = advance(make_started_job())
    provider.next(Fault.DONE_BUT_500, path=JOBS)
    assert advance(job, 4).state == Job.State.CREATE_UNKNOWN
    job = advance(job)
    assert (job.state, job.remote_id) == ("created", "ftjob-1")
    assert len(provider.posts(JOBS)) == 1


def test_another_ones_job_is_never_adopted(provider: Provider) -> None:
    provider.jobs.honours_metadata_filter = False
    first = advance(make_started_job(epochs=1), 2)
    second = advance(make_started_job(dataset=first.dataset, model=first.language_model, epochs=2))
    provider.next(Fault.SERVER_ERROR, path=JOBS)
    second = advance(second, 3)
    assert (first.state, second.state) == (Job.State.CREATED, Job.State.CREATE_UNKNOWN)


def test_two_remote_jobs_with_our_key_are_a_persons_business(provider: Provider) -> None:
    job = advance(make_started_job())
    provider.next(Fault.DONE_BUT_500, path=JOBS)
    job = advance(job)
    provider.jobs.jobs["ftjob-2"] = provider.jobs.only_job() | {"id": "ftjob-2"}
    provider.jobs.hidden["ftjob-2"] = 0
    job = advance(job)
    assert job.state == Job.State.CREATE_UNKNOWN
    assert "ftjob-1" in str(job.error)
    assert "ftjob-2" in str(job.error)


def test_a_worker_that_died_while_creating(provider: Provider) -> None:
    """The remote job was created, the worker never said so: its lease runs out, and the job is found."""
    job = advance(make_started_job())
    assert creation.claim(job, into=Job.State.CREATING)
    remote.create_job(job)
    assert training.advance_job(fresh(job)) is False
    assert fresh(job).state == Job.State.CREATING
    Job.objects.update(lease_until=timezone.now())
    assert advance(job).state == Job.State.CREATE_UNKNOWN
    job = advance(job)
    assert (job.state, job.remote_id) == ("created", "ftjob-1")
    assert len(provider.posts(JOBS)) == 1


def test_a_start_that_is_alone_goes_on_at_once_with_a_job_that_was_being_created(provider: Provider) -> None:
    job = advance(make_started_job())
    assert creation.claim(job, into=Job.State.CREATING)
    remote.create_job(job)
    seeding.take_over()
    job = advance(job, 2)
    assert (job.state, job.remote_id) == ("created", "ftjob-1")
    assert len(provider.posts(JOBS)) == 1


def test_a_slow_worker_cannot_overwrite_what_was_found(provider: Provider) -> None:
    job = advance(make_started_job())
    slow = fresh(job)
    assert creation.claim(slow, into=Job.State.CREATING)
    late = remote.create_job(slow)
    Job.objects.update(lease_until=timezone.now())
    found = advance(job, 2)
    assert found.state == Job.State.CREATED
    creation._adopt(slow, late)
    assert fresh(job).fence == found.fence
    assert fresh(job).state == Job.State.CREATED


@pytest.mark.parametrize("fault", WORKED)
def test_an_upload_that_worked_is_adopted_by_its_sha256(provider: Provider, fault: Fault) -> None:
    job = make_started_job()
    provider.next(fault, path=FILES)
    job = advance(job)
    assert (job.state, job.training_file_id) == (Job.State.UPLOAD_UNKNOWN, "")
    job = advance(job, 2)
    assert (job.state, job.training_file_id, job.validation_file_id) == ("uploaded", "file-1", "file-2")
    assert len(provider.posts(FILES)) == 2
    assert advance(job).state == Job.State.CREATED


@pytest.mark.parametrize("fault", WORKED)
def test_a_validation_upload_that_worked_is_adopted(provider: Provider, fault: Fault) -> None:
    job = make_started_job()
    provider.next(Fault.RATE_LIMIT, path=FILES)
    job = advance(job)
    provider.next(fault, path=FILES)
    # the training file goes through a fault of its own kind first: none here, so the second POST meets it
    provider.well()
    sent = provider.jobs.files
    original = remote.upload_file

    def second_meets_the_fault(job: Job, file: Any, *, name: str) -> str:
        if "validation" in name:
            provider.next(fault, path=FILES)
        return original(job, file, name=name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "upload_file", second_meets_the_fault)
        job = advance(job)
    assert (job.state, job.training_file_id, job.validation_file_id) == ("upload_unknown", "file-1", "")
    job = advance(job)
    assert (job.state, job.validation_file_id, len(sent)) == ("uploaded", "file-2", 2)


@pytest.mark.parametrize("fault", NOTHING_DONE)
def test_an_upload_that_did_nothing_is_held_for_a_person(provider: Provider, fault: Fault) -> None:
    job = make_started_job()
    provider.next(fault, path=FILES)
    job = advance(job, 3)
    assert job.state == Job.State.UPLOAD_UNKNOWN
    assert len(provider.posts(FILES)) == 1
    training.send_again(job, by="test")
    job = advance(job)
    assert job.state == Job.State.UPLOADED


def test_looking_while_the_provider_is_down_stays_in_doubt(provider: Provider) -> None:
    job = advance(make_started_job())
    provider.next(Fault.DONE_BUT_500, path=JOBS)
    job = advance(job)
    provider.next(Fault.SERVER_ERROR, path=JOBS, method="GET")
    job = advance(job)
    assert job.state == Job.State.CREATE_UNKNOWN
    assert advance(job).state == Job.State.CREATED


def test_a_list_that_is_html_does_not_count_as_empty(provider: Provider) -> None:
    job = advance(make_started_job())
    provider.next(Fault.DONE_BUT_500, path=JOBS)
    job = advance(job)
    provider.next(Fault.HTML, path=JOBS, method="GET")
    job = advance(job)
    assert (job.state, str(job.error)) == ("create_unknown", "模型服务的回答无法读懂，结果不明。")


def test_cancelled_in_doubt_it_is_cancelled_when_found(provider: Provider) -> None:
    job = advance(make_started_job())
    provider.next(Fault.DONE_BUT_500, path=JOBS)
    job = advance(job)
    assert training.cancel_job(job, by="test").state == Job.State.CREATE_UNKNOWN
    job = advance(job, 2)
    assert (job.state, provider.jobs.only_job()["status"]) == ("cancelled", "cancelled")


def test_given_up_in_doubt_counts_as_spent(provider: Provider) -> None:
    job = advance(make_started_job())
    provider.next(Fault.SERVER_ERROR, path=JOBS)
    job = advance(job)
    training.abandon_job(job, by="test")
    job = fresh(job)
    assert (job.state, job.price) == ("cancelled", job.reserved)
    day = SpendDay.objects.get()
    assert (day.spent, day.reserved) == (job.reserved, 0)


def test_only_what_is_in_doubt_can_be_sent_again_looked_for_or_given_up(provider: Provider) -> None:
    job = advance(make_started_job(), 2)
    for decide in (training.send_again, training.abandon_job):
        with pytest.raises(BadJob):
            decide(job, by="test")
    with pytest.raises(BadJob):
        training.look_again(job)


def test_looking_slows_down_after_a_minute(provider: Provider) -> None:
    job = advance(make_started_job())
    provider.next(Fault.SERVER_ERROR, path=JOBS)
    job = advance(job)
    assert job.next_poll_at - timezone.now() <= timedelta(seconds=2)
    Job.objects.update(unknown_since=timezone.now() - timedelta(minutes=2))
    job = advance(job)
    assert timedelta(seconds=13) < job.next_poll_at - timezone.now() <= timedelta(seconds=15)
    training.look_again(job)
    assert fresh(job).next_poll_at <= timezone.now()
