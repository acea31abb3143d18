"""Odd values in what a provider says of a job: one bad event or field leaves all the others."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as some

from finetuning.models import Job, JobEvent
from finetuning.results import parse_results, read_figures, read_total_steps
from finetuning.training import events
from tests.finetuning.factories import advance, make_started_job
from tests.provider import Provider

pytestmark = pytest.mark.django_db
INF, NAN, HUGE = float("inf"), float("nan"), 10**30
ODD = [True, INF, -INF, NAN, HUGE, 10**400, -1, 1e300, "x", "", [], [1], {}, {"a": {"b": 1}}, None]
GOOD = {"step": 2, "train_loss": 0.5}


@pytest.fixture
def job(provider: Provider) -> Job:
    return advance(make_started_job(), 2)


def polled(provider: Provider, job: Job, odd: list[Any], *, field: str) -> Job:
    """The job after a look at many events, the good ones before, between and after the odd ones."""
    provider.jobs.add_event("ftjob-1", "before", step=1, train_loss=0.9)
    for number, value in enumerate(odd):
        event = provider.jobs.add_event("ftjob-1", f"odd {number}", step=number + 7, train_loss=0.7)
        event[field] = value
        provider.jobs.add_event("ftjob-1", f"good {number}", step=number + 100, train_loss=0.6)
    provider.jobs.add_event("ftjob-1", "after", **GOOD)
    return advance(job)


def keeps_the_others(job: Job, odd: int = 0) -> bool:
    messages = set(job.events.values_list("message", flat=True))
    steps = dict(job.steps.values_list("step", "training_loss"))
    between = {f"good {number}" for number in range(odd)}
    measured = [steps.get(step) for step in (1, 2, *range(100, 100 + odd))]
    return (
        {"before", "after"} | between <= messages and measured == [0.9, 0.5] + [0.6] * odd and job.error == ""
    )


@pytest.mark.both_databases
@pytest.mark.parametrize("field", ["id", "created_at", "level", "message", "data"])
def test_odd_events_leave_the_others(provider: Provider, job: Job, field: str) -> None:
    job = polled(provider, job, ODD, field=field)
    assert keeps_the_others(job, len(ODD))
    seen = job.events.count()
    assert advance(job).events.count() == seen, "and are kept once"
    provider.jobs.succeed("ftjob-1", results=b"step,train_loss\n3,0.4\n")
    assert advance(job).state == Job.State.SUCCEEDED


@pytest.mark.both_databases
@pytest.mark.parametrize("name", ["step", "train_loss", "elapsed_tokens", "total_steps"])
def test_odd_figures_leave_the_others(provider: Provider, job: Job, name: str) -> None:
    job = polled(provider, job, [{"step": 7, "train_loss": 0.7, name: odd} for odd in ODD], field="data")
    assert keeps_the_others(job, len(ODD))
    assert job.events.filter(message__startswith="odd").count() == len(ODD)


def test_events_that_are_no_events_are_left_out(provider: Provider, job: Job) -> None:
    provider.jobs.add_event("ftjob-1", "before", step=1, train_loss=0.9)
    listed = provider.jobs.events["ftjob-1"]
    listed.extend([{"id": "odd"}, 7, None, "x", [1]])
    provider.jobs.add_event("ftjob-1", "after", **GOOD)
    assert keeps_the_others(advance(job))


def test_an_event_without_an_id_is_kept_once(provider: Provider, job: Job) -> None:
    for number in range(3):
        event = provider.jobs.add_event("ftjob-1", f"Step {number}", step=number + 1, train_loss=0.5)
        event["id"] = None
    job = advance(advance(job))
    assert job.events.filter(message__startswith="Step").count() == 3
    assert job.steps.count() == 3


@pytest.mark.both_databases
def test_an_event_that_the_database_does_not_take_leaves_the_others(
    provider: Provider, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = events.event_row

    def passing(job: Job, event: Any) -> JobEvent:
        made = row(job, event)
        made.message = None if made.message == "odd 0" else made.message
        return made

    monkeypatch.setattr(events, "event_row", passing)
    assert keeps_the_others(polled(provider, job, [7], field="level"), 1)


def test_events_that_cannot_be_read_at_all_do_not_keep_the_job_from_ending(
    provider: Provider, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of thousands of digits makes the whole list unreadable for Python."""
    provider.jobs.add_event("ftjob-1", "odd", step=1, train_loss=0.5)
    answer = provider.jobs.answer

    def spoiled(method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        response = answer(method, path, body, query)
        if path.endswith("/events"):
            response.body = response.body.replace(b'"step":1', b'"step":' + b"9" * 5000)
            response.headers["content-length"] = str(len(response.body))
        return response

    monkeypatch.setattr(provider.jobs, "answer", spoiled)
    job = advance(job)
    assert (job.state, job.lease_until, job.remote_status) == ("created", None, "validating_files")
    provider.jobs.succeed("ftjob-1", results=b"step,train_loss\n1,0.5\n")
    assert advance(job).state == Job.State.CREATED, "the last events are waited for, a while"
    Job.objects.update(unknown_since=timezone.now() - timedelta(minutes=11))
    assert advance(job).state == Job.State.SUCCEEDED


@pytest.mark.both_databases
@pytest.mark.parametrize("odd", [INF, NAN, HUGE, 2**70, -5, 12.5, "x", [1], None], ids=repr)
def test_odd_trained_tokens_are_billed_at_the_reservation(provider: Provider, job: Job, odd: Any) -> None:
    provider.jobs.succeed("ftjob-1", results=b"step,train_loss\n1,0.5\n", trained_tokens=odd)
    job = advance(job)
    assert (job.state, job.trained_tokens, job.price) == ("succeeded", None, job.reserved)


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
@pytest.mark.parametrize("field", ["result_files", "error", "fine_tuned_model"])
def test_odd_fields_of_a_job_keep_no_end_from_it(
    provider: Provider, job: Job, status: str, field: str
) -> None:
    for odd in (True, HUGE, INF, "../x", "a\0", [7, None], [""], {"a": [1]}, [{"id": 7}]):
        Job.objects.update(state="created", next_poll_at=timezone.now(), unknown_since=None)
        provider.jobs.advance("ftjob-1", status, **({"fine_tuned_model": "ft:x:1"} | {field: odd}))
        ended = advance(job)
        assert (ended.lease_until, ended.remote_status) == (None, status)
        if ended.next_poll_at:
            Job.objects.update(unknown_since=timezone.now() - timedelta(minutes=11))
            ended = advance(ended)
        assert ended.has_ended


def test_odd_lines_of_a_results_file_leave_the_others() -> None:
    odd = ["inf", "nan", "1e400", "-1", "x", "1e300", "10000000000000000000000000", "0x10", "１"]
    lines = "\n".join(f"{value},{value},{value}" for value in odd)
    read = parse_results(f"step,train_loss,elapsed_tokens\n1,0.9,5\n{lines}\n2,0.5,9\n".encode())
    known = {one.step: (one.training_loss, one.elapsed_tokens) for one in read}
    assert (known[2], set(known)) == ((0.5, 9), {1, 2})


VALUE = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats()
    | some.text(max_size=5)
    | some.just(10**400),
    lambda inner: some.lists(inner, max_size=2) | some.dictionaries(some.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
NAMES = some.sampled_from(["step", "total_steps", "train_loss", "elapsed_tokens", "valid_loss", "other"])


@settings(max_examples=300, deadline=None)
@given(values=some.dictionaries(NAMES, VALUE, max_size=6))
def test_whatever_stands_in_the_figures_fits_its_columns(values: dict[str, Any]) -> None:
    assert 0 <= read_total_steps(values) <= 2_000_000_000
    if figures := read_figures(values):
        assert 0 <= figures.step <= 2_000_000_000
        assert figures.elapsed_tokens is None or 0 <= figures.elapsed_tokens <= 10**15
        json.dumps(figures.training_loss, allow_nan=False)


def test_a_figure_that_says_true_is_none() -> None:
    assert read_figures({"step": True, "train_loss": 0.5}) is None
    assert read_figures({"step": 1, "train_loss": True}) is None
    assert read_total_steps({"total_steps": True}) == 0
