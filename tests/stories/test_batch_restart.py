"""A restart with batch orders in flight: each is taken up where it was, and nothing that was paid is thrown away."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from stories.generation import attempts, batches, states, sweeper
from stories.models import Attempt, BatchOrder, EndReason, Run, SpendDay, Story
from stories.operations import seeding
from stories.runs.lifecycle import count_states
from stories.tasks import publish_run, sweep, sweep_batches
from tests.conftest import Workers
from tests.factories import make_attempt, make_story
from tests.provider import Provider
from tests.provider_batches import BATCHES, TEXT
from tests.servers import wait_until
from tests.sites import child_environment, manage
from tests.stories.test_batching import advance, begin


def beat() -> None:
    """One turn of what beat sends."""
    sweep()
    sweep_batches()


def wait_for(state: str, run: Run) -> None:
    def reached() -> bool:
        beat()
        return Run.objects.get(pk=run.pk).state == state

    wait_until(reached, seconds=60, every=0.3, what=f"the run is {state}")


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_a_restart_keeps_the_order_and_each_story_is_written_and_billed_once(
    provider: Provider, start_workers: Callable[..., Workers]
) -> None:
    workers = start_workers("bulk", base_url=provider.base_url)
    run = begin()
    publish_run(run)
    wait_until(lambda: len(provider.batches.batches) == 1, seconds=30, what="the order is placed")
    workers.kill("bulk")
    env = child_environment(base_url=provider.base_url)
    started = manage("prepare_site", "--starting", "--alone", env=env)
    assert started.rc == 0, started.stderr
    beat()
    assert set(run.stories.values_list("state", flat=True)) == {"writing"}
    provider.batches.finish(provider.batches.only()["id"])
    workers.start("bulk")
    wait_for(Run.State.DONE, run)
    assert count_states(run)["written"] == len(provider.posts(BATCHES)) * 4 == 4
    assert set(run.stories.values_list("text", flat=True)) == {TEXT}
    whole = attempts.bill(run.language_model, prompt_tokens=100, completion_tokens=20)
    run.refresh_from_db()
    assert (run.reserved, run.spent) == (0, 4 * (attempts.half(whole) or 0))
    assert Attempt.objects.count() == 4
    assert set(Attempt.objects.values_list("state", flat=True)) == {"complete"}


@pytest.mark.django_db
def test_a_start_ends_what_was_streamed_and_leaves_what_an_order_holds(provider: Provider) -> None:
    run = begin()
    advance(steps=3)
    streamed = make_story(state=Story.State.WRITING, text="从前", length=2)
    make_attempt(streamed, state=Attempt.State.STREAMING)
    seeding.take_over()
    sweeper.expire_leases()
    streamed.refresh_from_db()
    assert (streamed.state, streamed.text) == ("interrupted", "从前")
    assert count_states(run)["writing"] == 4


@pytest.mark.django_db
def test_a_start_frees_orders_that_were_being_worked_on(provider: Provider) -> None:
    begin()
    advance(steps=2)
    order = BatchOrder.objects.get()
    assert batches.steps.claim(order, into="creating")
    seeding.take_over()
    for _ in range(2):
        order = BatchOrder.objects.select_related("run__language_model").get()
        BatchOrder.objects.update(next_poll_at=timezone.now())
        batches.advance_batch(order)
    assert BatchOrder.objects.get().state == "create_unknown", "looked for, never sent blindly"
    assert provider.posts(BATCHES) == []


@pytest.mark.django_db
def test_the_sweeper_leaves_a_batch_that_takes_longer_than_a_day(provider: Provider) -> None:
    run = begin()
    advance()
    with time_machine.travel(timezone.now() + timedelta(hours=40), tick=True):
        assert sweeper.expire_leases() == []
        assert count_states(run)["writing"] == 4
        provider.batches.finish(provider.batches.only()["id"])
        advance()
    assert count_states(run)["written"] == 4


@pytest.mark.django_db
def test_an_order_that_ended_holds_nothing(provider: Provider) -> None:
    """The other side of it: what no order will answer is given back by the sweeper, as ever."""
    run = begin()
    advance()
    BatchOrder.objects.update(state="ended")
    Story.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert len(sweeper.expire_leases()) == 4
    assert count_states(run)["failed"] == 4


def lose_leases() -> None:
    """What the start of an older version did to every story of an order."""
    for attempt in Attempt.objects.select_related("story", "language_model"):
        attempts.settle(attempt, state=Attempt.State.UNKNOWN, error="写作进程中断了，结果不明。")
    Story.objects.update(state="failed", end_reason=EndReason.LOST, lease_until=None, ended_at=timezone.now())


@pytest.mark.both_databases
@pytest.mark.django_db
@pytest.mark.parametrize("asked_again", [False, True])
def test_an_answer_for_a_story_given_up_as_lost_is_still_taken(
    provider: Provider, *, asked_again: bool
) -> None:
    run = begin()
    advance()
    lose_leases()
    if asked_again:
        Story.objects.update(**states.AS_NEW, **states.WITHOUT_TEXT)
    provider.batches.finish(provider.batches.only()["id"])
    order = BatchOrder.objects.select_related("run__language_model").get()
    BatchOrder.objects.update(next_poll_at=timezone.now())
    batches.advance_batch(order)
    assert count_states(run)["written"] == 4
    run.refresh_from_db()
    day = SpendDay.objects.get()
    whole = attempts.bill(run.language_model, prompt_tokens=100, completion_tokens=20)
    assert (run.reserved, run.spent) == (day.reserved, day.spent) == (0, 4 * (attempts.half(whole) or 0))
    assert set(Attempt.objects.values_list("state", "completion_tokens")) == {("complete", 20)}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "changes",
    [
        {"state": "queued", "fence": 2},
        {"state": "writing", "fence": 2, "lease_until": "2099-01-01T00:00Z"},
        {"state": "failed", "end_reason": "refused"},
        {"state": "written", "text": "别的", "length": 2},
    ],
)
def test_a_story_that_went_on_without_it_takes_no_late_answer(
    provider: Provider, changes: dict[str, Any]
) -> None:
    begin()
    advance()
    lose_leases()
    Story.objects.update(**changes)
    before = list(Story.objects.order_by("pk").values("state", "text", "fence"))
    provider.batches.finish(provider.batches.only()["id"])
    order = BatchOrder.objects.select_related("run__language_model").get()
    BatchOrder.objects.update(next_poll_at=timezone.now())
    batches.advance_batch(order)
    assert list(Story.objects.order_by("pk").values("state", "text", "fence")) == before
    assert set(Attempt.objects.values_list("state", flat=True)) == {"unknown"}
