"""Events in any order, with or without ids, doubled or listed again: each lands once, and so do its figures."""

from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest

from finetuning.models import Job
from tests.finetuning.factories import advance, make_started_job
from tests.provider import Provider

pytestmark = pytest.mark.django_db
JOBS = "/v1/fine_tuning/jobs"
Listing = Callable[[list[Any]], list[Any]]


@pytest.fixture
def job(provider: Provider) -> Job:
    return advance(make_started_job(), 2)


def nameless(events: list[Any]) -> list[Any]:
    """As servers list them that give events no id."""
    return [{name: value for name, value in event.items() if name != "id"} for event in events]


LISTINGS: dict[str, Listing] = {
    "newest first": lambda events: events[::-1],
    "oldest first": lambda events: events[:],
    "in no order": lambda events: sorted(events, key=lambda event: crc32(event["message"].encode())),
    "each twice": lambda events: [event for event in events for _twice in range(2)],
    "the whole list twice": lambda events: events + events,
    "oldest first, nameless": nameless,
    "newest first, nameless": lambda events: nameless(events)[::-1],
    "each twice, nameless": lambda events: [event for event in nameless(events) for _twice in range(2)],
    "a window of the last five": lambda events: events[-5:],
    "timeless": lambda events: [event | {"created_at": None} for event in events],
    "times as texts": lambda events: [
        event | {"created_at": f"2026-11-25T10:00:{number:02}Z"} for number, event in enumerate(events)
    ],
    "id of another kind": lambda events: [event | {"id": number} for number, event in enumerate(events)],
}


def measure(provider: Provider, first: int, last: int) -> None:
    for number in range(first, last + 1):
        event = provider.jobs.add_event(
            "ftjob-1", f"Step {number}: loss", step=number, total_steps=12, train_loss=2 / number
        )
        event["created_at"] = 1_700_000_000 + number


@pytest.mark.both_databases
@pytest.mark.parametrize("listing", LISTINGS)
def test_each_event_lands_once(provider: Provider, job: Job, listing: str) -> None:
    """The case: a server that lists them as they happened, three more at each look."""
    provider.jobs.list_events = LISTINGS[listing]
    for first in (1, 4, 7, 10):
        measure(provider, first, first + 2)
        job = advance(job)
    job = advance(job, 2)
    said = list(job.events.filter(message__startswith="Step").values_list("message", flat=True))
    assert sorted(said) == sorted(f"Step {number}: loss" for number in range(1, 13))
    assert list(job.steps.values_list("step", "training_loss")) == [(n, 2 / n) for n in range(1, 13)]
    assert (job.total_steps, str(job.error)) == (12, "")


@pytest.mark.parametrize("listing", ["oldest first", "in no order", "each twice"])
def test_those_of_many_pages_too(provider: Provider, job: Job, listing: str) -> None:
    provider.jobs.list_events = LISTINGS[listing]
    measure(provider, 1, 230)
    job = advance(job)
    measure(provider, 231, 260)
    job = advance(job)
    assert (job.events.filter(message__startswith="Step").count(), job.steps.count()) == (260, 260)


def test_a_server_that_pages_for_ever_is_left_after_a_second_page(provider: Provider, job: Job) -> None:
    measure(provider, 1, 12)
    answer = provider.jobs.answer

    def first_page_for_ever(method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        response = answer(method, path, body, {"limit": "5"} if path.endswith("/events") else query)
        return response

    provider.jobs.answer = first_page_for_ever
    before = len(provider.calls)
    advance(job)
    assert len(provider.calls) - before == 3


def test_an_older_event_that_comes_late_lands_at_the_end(provider: Provider, job: Job) -> None:
    """A list that is newest first is read as far as it is new; once the job has ended, to its end."""
    measure(provider, 1, 150)
    job = advance(job)
    late = provider.jobs.add_event("ftjob-1", "late", step=500, train_loss=0.1)
    late["created_at"] = 1_600_000_000
    events = provider.jobs.events["ftjob-1"]
    events.insert(0, events.pop())
    assert not advance(job).events.filter(message="late").exists()
    provider.jobs.succeed("ftjob-1", results=b"step,train_loss\n1,2.0\n")
    job = advance(job)
    assert (job.state, job.events.filter(message="late").count()) == ("succeeded", 1)
    assert job.steps.get(step=500).training_loss == 0.1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Step 3/88: training loss=0.52, validation loss=0.61", (3, 0.52, 0.61, 88)),
        ("step 3: train_loss: 0.52", (3, 0.52, None, None)),
        ("Step 3 of 88 done, loss=0.52, eval loss=0.61", (3, 0.52, 0.61, 88)),
    ],
)
def test_figures_that_stand_in_the_words_alone_draw_the_curve(
    provider: Provider, job: Job, message: str, expected: tuple[Any, ...]
) -> None:
    provider.jobs.add_event("ftjob-1", message)
    job = advance(job)
    step = job.steps.get()
    assert (step.step, step.training_loss, step.validation_loss, job.total_steps) == expected


def test_figures_beside_an_events_other_fields_draw_the_curve(provider: Provider, job: Job) -> None:
    provider.jobs.add_event("ftjob-1", "metrics").update(step=4, loss=0.25, total_steps=9)
    job = advance(job)
    assert (job.steps.get().training_loss, job.total_steps) == (0.25, 9)


def test_without_a_results_file_the_curve_is_what_the_events_said(provider: Provider, job: Job) -> None:
    measure(provider, 1, 12)
    provider.jobs.succeed("ftjob-1")
    provider.jobs.say_job = lambda job: {
        name: job[name] for name in ("id", "status", "fine_tuned_model", "model")
    }
    job = advance(job)
    assert (job.state, str(job.error), job.steps.count()) == ("succeeded", "", 12)
