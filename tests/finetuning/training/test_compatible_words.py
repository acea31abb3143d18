"""Words for the state of a job that are not OpenAI's: those we know mean ours, and of any other a person decides."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from finetuning import training
from finetuning.errors import BadJob
from finetuning.models import Job
from finetuning.training import poll
from finetuning.training.statuses import Meaning, meaning_of
from stories.models import AuditEntry, LanguageModel, SpendDay
from tests.finetuning.factories import advance, fresh, make_started_job
from tests.provider import Fault, Provider

pytestmark = pytest.mark.django_db
JOBS = "/v1/fine_tuning/jobs"
RESULTS = b"step,train_loss\n1,0.9\n2,0.5\n"
TUNED = "ft:gpt-4o-mini:org:ultraman:1"


@pytest.fixture
def job(provider: Provider) -> Job:
    return advance(make_started_job(), 2)


def after(job: Job, **time: float) -> Job:
    """That much time has passed for the job, and then it is looked at."""
    ago = timedelta(**time)
    for name in ("status_since", "waiting_since", "unknown_since"):
        if since := getattr(fresh(job), name):
            Job.objects.filter(pk=job.pk).update(**{name: since - ago})
    return advance(job)


def asked(job: Job) -> str:
    """What a person is asked; "" for nothing."""
    assert job.is_asked == Job.objects.asking().filter(pk=job.pk).exists()
    return str(job.error) if job.is_asked else ""


# --- words that mean ours


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (
            "succeeded completed Completed COMPLETE finished SUCCEEDED SUCCESS JOB_STATE_COMPLETED",
            Meaning.SUCCEEDED,
        ),
        ("failed FAILED error ERROR user_error FAILED_VALIDATION JOB_STATE_FAILED", Meaning.FAILED),
        ("cancelled canceled CANCELED user_cancelled Cancelled JOB_STATE_CANCELLED", Meaning.CANCELLED),
        ("validating_files queued running pending Pending RUNNING in-progress notRunning", Meaning.GOING),
        ("paused pausing cancelling cancel_requested CANCELLATION_REQUESTED QUEUED created", Meaning.GOING),
        ("finalised 完成 ok 7 compl none", Meaning.UNKNOWN),
    ],
)
def test_what_a_word_means(words: str, meaning: Meaning) -> None:
    assert {word: meaning_of(word) for word in words.split()} == dict.fromkeys(words.split(), meaning)
    assert meaning_of("") is Meaning.UNKNOWN


@pytest.mark.both_databases
@pytest.mark.parametrize("name", ["fine_tuned_model", "output_name", "model_output_name"])
@pytest.mark.parametrize("word", ["completed", "SUCCESS"])
def test_an_end_word_of_another_provider_publishes_the_model(
    provider: Provider, job: Job, word: str, name: str
) -> None:
    """The case: Together's `completed`, its model under a name of its own."""
    provider.jobs.succeed("ftjob-1", results=RESULTS, model=TUNED)
    provider.jobs.say_job = lambda job: job | {"status": word, "fine_tuned_model": None} | {name: TUNED}
    job = advance(job)
    assert (job.state, job.remote_status, job.tuned_model.name) == ("succeeded", word, TUNED)
    assert (job.steps.count(), asked(job)) == (2, "")


def test_error_is_a_failure_with_the_providers_words(provider: Provider, job: Job) -> None:
    provider.jobs.advance("ftjob-1", "error", error={"message": "Line 3 is no JSON."})
    job = advance(job)
    assert (job.state, str(job.error), job.price) == ("failed", "Line 3 is no JSON.", 0)


@pytest.mark.parametrize("word", ["canceled", "user_cancelled"])
def test_a_job_that_was_cancelled_there_is_cancelled(provider: Provider, job: Job, word: str) -> None:
    provider.jobs.advance("ftjob-1", word)
    assert advance(job).state == Job.State.CANCELLED


def test_a_known_word_may_stand_for_days(provider: Provider, job: Job) -> None:
    """Azure's `pending`, and a job whose model is named from the start."""
    provider.jobs.advance("ftjob-1", "pending", model_output_name="org/ultraman-1")
    job = after(after(job, days=1), days=3)
    assert (job.state, asked(job), job.remote_model) == ("created", "", "org/ultraman-1")


@pytest.mark.parametrize("field", ["id", "object", "created_at", "model", "hyperparameters", "metadata"])
def test_a_job_without_a_field_is_read_all_the_same(provider: Provider, job: Job, field: str) -> None:
    without = lambda job: {name: value for name, value in job.items() if name != field}  # noqa: E731
    provider.jobs.say_job = without
    provider.jobs.advance("ftjob-1", "running")
    job = advance(job)
    assert (job.remote_status, str(job.error)) == ("running", "")
    provider.jobs.succeed("ftjob-1", results=RESULTS)
    assert advance(job).state == Job.State.SUCCEEDED


def test_an_error_inside_a_200_is_no_job(provider: Provider, job: Job) -> None:
    provider.jobs.say_job = lambda _job: {"error": {"message": "busy"}, "object": "error"}
    job = advance(job)
    assert (job.state, str(job.error), asked(job)) == ("created", "模型服务报错：busy", "")


# --- words that only a person can read


@pytest.mark.both_databases
def test_an_unknown_word_that_stands_for_ten_minutes_comes_before_a_person(
    provider: Provider, job: Job
) -> None:
    provider.jobs.advance("ftjob-1", "finalised")
    job = after(advance(job), minutes=9)
    assert asked(job) == ""
    job = after(job, minutes=1)
    assert asked(job) == ("本站不认识对方的状态「finalised」，它也一直没有变：请到对方那里看一看，再决定。")
    since = job.asked_at
    assert after(job, hours=1).asked_at == since
    assert job.next_poll_at - timezone.now() <= timedelta(seconds=15)


def test_no_word_at_all_does_too(provider: Provider, job: Job) -> None:
    provider.jobs.say_job = lambda job: {"id": job["id"]}
    assert "「—」" in asked(after(advance(job), minutes=10))


def test_a_word_that_changes_is_given_ten_minutes_again(provider: Provider, job: Job) -> None:
    for word in ("warming", "warm", "hot"):
        provider.jobs.advance("ftjob-1", word)
        job = after(advance(job), minutes=9)
        assert asked(job) == ""
    assert asked(after(job, minutes=1)) != ""


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("finalised", "fine_tuned_model"),
        ("finalised", "output_name"),
        ("finalised", "model_output_name"),
        ("running", "fine_tuned_model"),
    ],
)
def test_a_word_that_is_no_end_beside_a_tuned_model_comes_before_a_person_at_once(
    provider: Provider, job: Job, word: str, name: str
) -> None:
    provider.jobs.advance("ftjob-1", word, **{name: TUNED})
    job = advance(job)
    assert (job.state, job.remote_model) == ("created", TUNED)
    assert asked(job) == (
        f"对方给出了训练好的模型「{TUNED}」，状态却是「{word}」：请到对方那里看一看，再决定。"
    )


def test_once_the_provider_says_an_end_nobody_is_asked(provider: Provider, job: Job) -> None:
    provider.jobs.advance("ftjob-1", "finalised", fine_tuned_model=TUNED)
    assert asked(advance(job))
    provider.jobs.succeed("ftjob-1", results=RESULTS)
    job = advance(job)
    assert (job.state, job.asked_at, str(job.error)) == ("succeeded", None, "")


@pytest.mark.both_databases
def test_a_person_says_that_it_worked(provider: Provider, job: Job) -> None:
    provider.jobs.succeed("ftjob-1", results=RESULTS, trained_tokens=1000)
    provider.jobs.advance("ftjob-1", "finalised")
    job = advance(job)
    question = asked(job)
    training.call_succeeded(job, model=f" {TUNED} ", by="Tom")
    assert fresh(job).next_poll_at <= timezone.now()
    job = advance(job)
    assert (job.state, job.remote_status, job.tuned_model.name) == ("succeeded", "finalised", TUNED)
    assert (job.price, job.steps.count(), asked(job)) == (3000, 2, "")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.reason) == ("job_decided", "Tom", question)
    assert entry.after == {"verdict": "succeeded", "remote_model": TUNED, "remote_status": "finalised"}


def test_a_person_says_that_it_failed(provider: Provider, job: Job) -> None:
    provider.jobs.add_event("ftjob-1", "Step 1", step=1, train_loss=0.9)
    provider.jobs.advance("ftjob-1", "finalised")
    job = after(advance(job), minutes=10)
    training.call_failed(job, by="Tom")
    job = advance(job)
    assert (job.state, str(job.error), job.price) == ("failed", "由人记为失败。", job.reserved)
    assert not LanguageModel.objects.filter(made_by__isnull=False).exists()


@pytest.mark.both_databases
def test_a_person_says_to_wait(provider: Provider, job: Job) -> None:
    provider.jobs.advance("ftjob-1", "finalised", fine_tuned_model=TUNED)
    job = advance(job)
    training.wait_longer(job, by="Tom")
    job = after(after(job, hours=1), hours=22)
    assert (job.verdict, asked(job), str(job.error)) == ("waiting", "", "")
    assert asked(after(job, hours=1)) != "", "a day later"
    training.wait_longer(job, by="Tom")
    provider.jobs.advance("ftjob-1", "finalized")
    job = advance(job)
    assert (job.verdict, asked(job) != "") == ("", True), "and at once with another word"


@pytest.mark.both_databases
def test_a_decision_while_a_worker_looks_is_carried_out_by_the_next_look(
    provider: Provider, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.jobs.succeed("ftjob-1", results=RESULTS, model=TUNED)
    provider.jobs.advance("ftjob-1", "finalised")
    job = advance(job)
    keep_events = poll.keep_events

    def decide_meanwhile(looked_at: Job, *, thorough: bool = False) -> Any:
        training.call_succeeded(fresh(looked_at), model="ft:other", by="Tom")
        return keep_events(looked_at, thorough=thorough)

    with monkeypatch.context() as patch:
        patch.setattr(poll, "keep_events", decide_meanwhile)
        job = advance(job)
    assert (job.state, job.verdict) == ("created", "succeeded")
    job = advance(job)
    assert (job.state, job.tuned_model.name) == ("succeeded", "ft:other")


def test_decisions_are_for_jobs_that_ask(provider: Provider, job: Job) -> None:
    decisions: list[Any] = [
        lambda job: training.call_succeeded(job, model=TUNED, by="Tom"),
        lambda job: training.call_failed(job, by="Tom"),
        lambda job: training.wait_longer(job, by="Tom"),
    ]
    for decide in decisions:
        with pytest.raises(BadJob, match="没有要人决定的事"):
            decide(job)
    provider.jobs.advance("ftjob-1", "finalised", fine_tuned_model=TUNED)
    job = advance(job)
    for name in ("", "  ", "a b", "a\0", "x" * 201):
        with pytest.raises(BadJob, match="模型在对方那里的名称"):
            training.call_succeeded(job, model=name, by="Tom")
    training.call_failed(job, by="Tom")
    with pytest.raises(BadJob, match="没有要人决定的事"):
        training.call_succeeded(job, model=TUNED, by="Tom")
    assert AuditEntry.objects.count() == 1


# --- jobs that are no longer listed, and cancelling where there is none


@pytest.mark.both_databases
@pytest.mark.parametrize("status", [404, 410, 403])
def test_a_job_that_the_provider_no_longer_shows_comes_before_a_person(
    provider: Provider, job: Job, status: int
) -> None:
    provider.jobs.missing = {"/ftjob-1": status}
    job = after(advance(job), minutes=9)
    assert (job.state, asked(job), str(status) in str(job.error)) == ("created", "", True)
    job = after(job, minutes=1)
    assert asked(job).startswith("对方不再给看这个任务（")
    training.wait_longer(job, by="Tom")
    job = after(advance(job), hours=23)
    assert asked(job) == ""
    job = after(job, hours=1)
    training.call_failed(job, by="Tom")
    job = advance(job)
    assert (job.state, job.price, SpendDay.objects.get().reserved) == ("failed", 0, 0)


def test_of_a_job_that_is_gone_a_person_may_still_name_the_model(provider: Provider, job: Job) -> None:
    provider.jobs.add_event("ftjob-1", "Step 1", step=1, train_loss=0.9)
    job = advance(job)
    provider.jobs.missing = {"/ftjob-1": 404, "/events": 404}
    job = after(advance(job), minutes=10)
    training.call_succeeded(job, model=TUNED, by="Tom")
    job = advance(job)
    assert (job.state, job.tuned_model.name, job.price) == ("succeeded", TUNED, job.reserved)


def test_a_job_that_is_shown_again_goes_on(provider: Provider, job: Job) -> None:
    provider.jobs.missing = {"/ftjob-1": 404}
    job = after(advance(job), minutes=10)
    provider.jobs.missing = {}
    job = advance(job)
    assert (asked(job), job.waiting_since, str(job.error)) == ("", None, "")


def test_a_provider_that_is_down_for_long_is_asked_on(provider: Provider, job: Job) -> None:
    provider.always(Fault.SERVER_ERROR, path=JOBS, method="GET")
    job = after(after(job, minutes=20), minutes=20)
    assert (job.state, asked(job)) == ("created", "")


@pytest.mark.parametrize("status", [404, 405, 400, 500])
def test_where_nothing_can_be_cancelled_the_training_goes_to_its_end(
    provider: Provider, job: Job, status: int
) -> None:
    provider.jobs.missing = {"/cancel": status}
    provider.jobs.add_event("ftjob-1", "Step 1", step=1, train_loss=0.9)
    training.cancel_job(job, by="Tom")
    job = advance(job)
    assert (job.state, job.remote_status, job.steps.count()) == ("created", "validating_files", 1)
    assert str(job.error).startswith("对方没有取消：")
    provider.jobs.succeed("ftjob-1", results=RESULTS)
    assert advance(job).state == Job.State.SUCCEEDED


def test_a_cancelling_that_says_nothing_is_seen_at_the_next_look(provider: Provider, job: Job) -> None:
    training.cancel_job(job, by="Tom")
    provider.jobs.advance("ftjob-1", "running")
    looks = iter([0, 1])
    provider.jobs.say_job = lambda job: {"id": job["id"]} if next(looks, 9) == 1 else job
    job = advance(job)
    assert (job.state, job.remote_status) == ("created", "running")
    assert advance(job).state == Job.State.CANCELLED
