"""Files that a provider is still processing: they are awaited, a bounded while, and then the job is created once."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from finetuning import training
from finetuning.models import Job
from stories.models import SpendDay
from tests.finetuning.factories import advance, fresh, make_started_job
from tests.provider import Fault, Provider

pytestmark = pytest.mark.django_db
FILES, JOBS = "/v1/files", "/v1/fine_tuning/jobs"
NOT_READY = (
    "File 'file-1' is still being processed and is not ready to be used for fine-tuning. "
    "Please try again later."
)


@pytest.fixture
def uploaded(provider: Provider) -> Job:
    return advance(make_started_job())


def later(job: Job, **time: float) -> Job:
    """That much of the job's waiting has passed."""
    Job.objects.filter(pk=job.pk).update(waiting_since=fresh(job).waiting_since - timedelta(**time))
    return advance(job)


@pytest.mark.both_databases
@pytest.mark.parametrize(
    "words",
    [
        ["uploaded"] * 3,
        ["pending", "processing"],
        ["PROCESSING", "in-progress"],
        [{"processed": False, "status": None}],
    ],
    ids=str,
)
def test_a_file_is_awaited_until_it_is_processed(provider: Provider, uploaded: Job, words: list[Any]) -> None:
    provider.jobs.file_words = [*words, "processed"]
    job = advance(uploaded, len(words))
    assert (job.state, job.lease_until, provider.posts(JOBS)) == ("uploaded", None, [])
    assert str(job.error).startswith("对方还在处理文件 file-1（")
    assert timedelta(0) < job.next_poll_at - timezone.now() <= timedelta(seconds=2)
    job = advance(job)
    assert (job.state, str(job.error), job.waiting_since) == ("created", "", None)
    assert len(provider.posts(JOBS)) == 1


def test_the_validation_file_is_awaited_too(provider: Provider, uploaded: Job) -> None:
    provider.jobs.file_words = ["processed", "uploaded", "processed"]
    job = advance(uploaded)
    assert str(job.error) == "对方还在处理文件 file-2（uploaded）。"
    assert advance(job).state == Job.State.CREATED


def test_after_a_minute_the_looks_are_rarer(provider: Provider, uploaded: Job) -> None:
    provider.jobs.file_words = ["uploaded"]
    job = later(advance(uploaded), minutes=2)
    assert timedelta(seconds=13) < job.next_poll_at - timezone.now() <= timedelta(seconds=15)


def test_a_file_that_the_provider_cannot_use_refuses_the_job(provider: Provider, uploaded: Job) -> None:
    provider.jobs.file_words = [{"status": "error", "status_details": "Line 3 is no JSON."}]
    job = advance(uploaded)
    assert (job.state, str(job.error)) == ("refused", "对方用不了文件 file-1：Line 3 is no JSON.")
    assert (job.price, SpendDay.objects.get().reserved, provider.posts(JOBS)) == (0, 0, [])


@pytest.mark.parametrize("word", [None, "ok", "", 7, {"status": None, "processed": True}], ids=str)
def test_a_file_without_a_status_that_says_to_wait_is_not_awaited(
    provider: Provider, uploaded: Job, word: Any
) -> None:
    provider.jobs.file_words = [word]
    assert advance(uploaded).state == Job.State.CREATED


@pytest.mark.parametrize("status", [400, 403, 404, 405])
def test_a_provider_without_a_page_for_a_file_is_not_waited_for(
    provider: Provider, uploaded: Job, status: int
) -> None:
    provider.jobs.missing = {"/file-1": status, "/file-2": status}
    assert advance(uploaded).state == Job.State.CREATED


def test_a_page_for_everything_is_no_page_for_a_file(provider: Provider, uploaded: Job) -> None:
    provider.always(Fault.HTML, path=FILES, method="GET")
    assert advance(uploaded).state == Job.State.CREATED


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.RESET, Fault.RATE_LIMIT])
def test_looks_that_fail_are_repeated_for_a_minute(provider: Provider, uploaded: Job, fault: Fault) -> None:
    provider.always(fault, path=FILES, method="GET")
    job = advance(uploaded, 3)
    assert (job.state, job.tries, provider.posts(JOBS)) == ("uploaded", 0, [])
    assert later(job, minutes=1).state == Job.State.CREATED


def test_a_word_that_never_changes_is_awaited_for_ten_minutes(provider: Provider, uploaded: Job) -> None:
    """Some servers call every file "uploaded", for good."""
    provider.jobs.file_words = ["uploaded"]
    job = later(advance(uploaded), minutes=9)
    assert job.state == Job.State.UPLOADED
    assert later(job, minutes=1).state == Job.State.CREATED


@pytest.mark.both_databases
def test_a_creation_refused_because_the_file_is_not_ready_is_repeated(
    provider: Provider, uploaded: Job
) -> None:
    answers = [(400, NOT_READY), (409, "The training file has not been processed yet"), None]
    provider.jobs.refuse_create = lambda _body: answers.pop(0)
    job = advance(uploaded, 2)
    assert (job.state, job.tries) == ("uploaded", 0)
    assert "has not been processed yet" in str(job.error)
    job = advance(job)
    assert (job.state, job.remote_id, len(provider.jobs.jobs)) == ("created", "ftjob-1", 1)


@pytest.mark.parametrize(
    ("words", "minutes"), [(NOT_READY, 30), ("No such File object: file-1", 2), ("文件正在处理，请稍后", 30)]
)
def test_it_is_repeated_for_a_bounded_while(
    provider: Provider, uploaded: Job, words: str, minutes: int
) -> None:
    provider.jobs.refuse_create = lambda _body: (404 if "No such" in words else 400, words)
    job = later(advance(uploaded), minutes=minutes - 1)
    assert job.state == Job.State.UPLOADED
    job = later(job, minutes=1)
    assert (job.state, job.price, SpendDay.objects.get().reserved) == ("refused", 0, 0)
    assert words in str(job.error)


@pytest.mark.parametrize(
    "words",
    [
        "The training file has 3 lines, 10 are needed.",
        "The model `gpt-9` does not exist",
        "Invalid file format: line 4 could not be parsed.",
        "Your account is not ready for this.",
    ],
)
def test_another_refusal_is_final(provider: Provider, uploaded: Job, words: str) -> None:
    provider.jobs.refuse_create = lambda _body: (400, words)
    job = advance(uploaded)
    assert (job.state, words in str(job.error)) == ("refused", True)
    assert len(provider.posts(JOBS)) == 1


def test_cancelled_while_its_files_are_processed_it_costs_nothing(provider: Provider, uploaded: Job) -> None:
    provider.jobs.file_words = ["uploaded"]
    job = advance(uploaded)
    assert training.cancel_job(job, by="test").state == Job.State.CANCELLED
    assert provider.posts(JOBS) == []


def test_cancelled_while_a_worker_looks_at_its_files_it_is_never_ordered(
    provider: Provider, uploaded: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel_then_say_ready(job: Job) -> bool:
        assert training.cancel_job(fresh(job), by="test").cancel_requested
        return True

    monkeypatch.setattr("finetuning.training.files.are_ready", cancel_then_say_ready)
    assert advance(uploaded).state == Job.State.CANCELLED
    assert provider.posts(JOBS) == []


def test_a_worker_that_died_while_it_looked_at_files_left_nothing_unknown(
    provider: Provider, uploaded: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_job: Job) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("finetuning.training.files.are_ready", die)
        with pytest.raises(KeyboardInterrupt):
            advance(uploaded)
    Job.objects.update(lease_until=timezone.now())
    job = advance(uploaded)
    assert (job.state, len(provider.posts(JOBS))) == ("created", 1)
