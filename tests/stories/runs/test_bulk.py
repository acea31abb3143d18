"""Runs under load: turns before claims, limits without failures, and what a pause or a cancel does meanwhile."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from llm.rate_limit import TooSoon
from stories.generation import completion, sweeper
from stories.models import Attempt, Run, Story
from stories.runs.lifecycle import cancel_run, pause_run, resume_run
from tests.factories import make_run, make_story
from tests.provider import CHAT, Fault, Provider
from tests.servers import wait_until


@pytest.fixture
def run(db: None, provider: Provider) -> Run:
    run = make_run()
    for _ in range(3):
        make_story(run=run, state=Story.State.QUEUED)
    return run


def fill(story: Story) -> Story:
    completion.fill(Story.objects.select_related("run", "language_model", "template").get(pk=story.pk))
    return Story.objects.get(pk=story.pk)


def test_a_story_without_a_permit_stays_queued_and_comes_back(
    provider: Provider, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_soon(*args: object, **options: object) -> None:
        raise TooSoon(30.0)

    monkeypatch.setattr(completion, "acquire", too_soon)
    story = fill(run.stories.first())
    assert (story.state, story.fence, story.tries, story.attempts.count()) == ("queued", 0, 0, 0)
    assert timedelta(seconds=29) < story.next_try_at - timezone.now() < timedelta(seconds=32)
    assert provider.posts(CHAT) == []


def test_a_limit_is_never_a_failure_however_often_it_is_met(
    provider: Provider, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        completion, "observe_error", lambda permit, error: None
    )  # else the first one would hold us all
    provider.always(Fault.RATE_LIMIT, retry_after=60)
    story = run.stories.first()
    for _ in range(7):
        assert fill(story).state == Story.State.QUEUED
        Story.objects.filter(pk=story.pk).update(next_try_at=None)
    provider.well()
    story = fill(story)
    assert (story.state, story.tries) == ("written", 0)
    run.refresh_from_db()
    assert (run.failures_in_row, run.state) == (0, "running")
    assert set(story.attempts.values_list("state", "price")) == {("refused", 0), ("complete", 0)}


def test_a_long_wait_is_left_to_the_queue(
    provider: Provider, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.always(Fault.RATE_LIMIT, retry_after=60)
    monkeypatch.setattr(completion, "observe_error", lambda permit, error: None)
    began = time.monotonic()
    fill(run.stories.first())
    assert time.monotonic() - began < 30
    assert len(provider.posts(CHAT)) == 1


def limited_then(provider: Provider, story: Story, act: object) -> float:
    """The seconds until a story that meets a limit again and again is let go, after `act()`."""
    provider.always(Fault.RATE_LIMIT, retry_after_ms=300)

    def work() -> None:
        fill(story)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: provider.posts(CHAT), every=0.01)
    act()  # type: ignore[operator]
    began = time.monotonic()
    thread.join()
    return time.monotonic() - began


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_a_cancel_while_it_asks_again_ends_it_within_seconds(provider: Provider) -> None:
    run = make_run()
    story = make_story(run=run, state=Story.State.QUEUED)
    assert limited_then(provider, story, lambda: cancel_run(run)) < 4
    story.refresh_from_db()
    assert (story.state, story.end_reason) == ("cancelled", "cancelled")
    assert story.attempts.get().state == Attempt.State.REFUSED


@pytest.mark.django_db(transaction=True)
def test_a_pause_while_it_asks_again_keeps_the_story(provider: Provider) -> None:
    run = make_run()
    story = make_story(run=run, state=Story.State.QUEUED)
    assert limited_then(provider, story, lambda: pause_run(run, "午休")) < 4
    story.refresh_from_db()
    assert (story.state, story.tries) == ("queued", 0)
    provider.well()
    resume_run(run)
    Story.objects.update(next_try_at=None)
    assert fill(story).state == Story.State.WRITTEN


def test_a_story_released_into_a_cancelled_run_is_cancelled_at_once(run: Run) -> None:
    story = run.stories.first()
    Story.objects.filter(pk=story.pk).update(
        state="writing", fence=1, lease_until=timezone.now() - timedelta(seconds=1)
    )
    cancel_run(run)
    sweeper.expire_leases()
    assert set(run.stories.values_list("state", flat=True)) == {"cancelled"}


# --- handing out ----------------------------------------------------------------------------------------


def test_a_run_of_thousands_is_handed_out_in_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "BATCH", 2)
    first = sweeper.next_of_run(run)
    sweeper.mark_told(first)
    assert [story.slot for story in Story.objects.filter(published_at__isnull=False)] == [1, 0]
    Story.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    assert sweeper.left_behind() == [], "as long as these wait, there is no room for more"
    fill(first[0])
    assert [story.pk for story in sweeper.left_behind()] == [run.stories.get(slot=2).pk]


def test_what_was_told_is_told_again_only_when_its_run_stands_still(run: Run) -> None:
    long_ago = timezone.now() - timedelta(minutes=5)
    Story.objects.update(created_at=long_ago, published_at=long_ago)
    moving = fill(run.stories.first())
    assert sweeper.left_behind() == []
    Story.objects.filter(pk=moving.pk).update(started_at=long_ago)
    assert len(sweeper.left_behind()) == 2


def test_resuming_forgets_the_messages_of_the_time_before(run: Run) -> None:
    Story.objects.update(published_at=timezone.now())
    pause_run(run, "午休")
    resume_run(run)
    assert len(sweeper.next_of_run(run)) == 3
