"""Runs through the Batch API: half the price, each answer once, one order at the provider."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from stories.generation import attempts, batches
from stories.models import Attempt, BatchOrder, Run, SpendDay, Story
from stories.runs.lifecycle import cancel_run, count_states, pause_run, plan_run, resume_run, start_run
from stories.tasks import enqueue_run
from tests.factories import make_model, make_template
from tests.provider import Fault, Provider
from tests.provider.batches import BATCHES, TEXT
from tests.servers import Child, wait_until

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(provider: Provider) -> Run:
    return begin()


def begin(**kw: Any) -> Run:
    make_template()
    model = make_model(input_price=Decimal("0.15"), output_price=Decimal("0.60"))
    order = {
        "dynasties": ["唐", "宋"],
        "powers": ["隐形"],
        "types": ["轻松"],
        "repeat": 2,
        "model": model,
    } | kw
    run = plan_run(**order, is_batch=True)
    start_run(run)
    return run


def advance(*, steps: int = 8) -> BatchOrder:
    """What beat and worker do, without their waits."""
    batches.due_orders()
    for _ in range(steps):
        BatchOrder.objects.exclude(state="ended").update(next_poll_at=timezone.now(), lease_until=None)
        order = BatchOrder.objects.select_related("run__language_model").order_by("pk").last()
        assert order is not None
        batches.advance_batch(order)
    return BatchOrder.objects.order_by("pk").last()


def test_it_works(provider: Provider, run: Run) -> None:
    order = advance()
    assert (order.state, order.remote_status) == ("created", "in_progress")
    batch = provider.batches.only()
    assert batch["metadata"] == {"ultraman_batch": order.key.hex}
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/chat/completions", "24h")
    requests = provider.batches.requests(batch["id"])
    assert {one["custom_id"] for one in requests} == {f"{story.pk}:1" for story in run.stories.all()}
    assert requests[0]["body"]["temperature"] == 0.5
    provider.batches.finish(batch["id"])
    assert advance().state == "ended"
    run.refresh_from_db()
    assert (run.state, count_states(run)["written"]) == ("done", 4)
    assert set(run.stories.values_list("text", flat=True)) == {TEXT}


def test_it_costs_half_before_and_after(provider: Provider, run: Run) -> None:
    model = run.language_model
    single = plan_run(dynasties=["唐"], powers=["隐形"], types=["轻松"], repeat=4, model=model)
    assert single.estimate is not None and run.estimate == single.estimate / 2
    advance()
    run.refresh_from_db()
    assert (run.reserved, run.spent) == (run.estimate, 0)
    provider.batches.finish(provider.batches.only()["id"])
    advance()
    run.refresh_from_db()
    whole = attempts.bill(model, prompt_tokens=100, completion_tokens=20)
    assert whole is not None
    assert (run.reserved, run.spent) == (0, 4 * -(-whole // 2))
    assert SpendDay.objects.get().spent == run.spent


def test_what_was_refused_fails_and_what_expired_waits_again(provider: Provider, run: Run) -> None:
    advance()
    provider.batches.finish(provider.batches.only()["id"], "expired", answered=2, refused=1)
    advance(steps=1)
    states = count_states(run)
    assert (states["written"], states["failed"], states["queued"]) == (2, 1, 1)
    assert "no such thing" in str(run.stories.get(state="failed").error)
    assert len(batches.due_orders()) == 0, "the next order waits a minute"
    Run.objects.update(next_order_at=timezone.now())
    advance()
    assert len(provider.batches.batches) == 2, "the next order takes up what is left"
    assert len(provider.batches.requests("batch_2")) == 1


def test_a_completed_batch_without_a_line_is_for_a_person_to_resolve(provider: Provider, run: Run) -> None:
    advance()
    provider.batches.finish(provider.batches.only()["id"], answered=3)
    advance()
    lost = run.stories.get(state=Story.State.FAILED)
    assert (lost.end_reason, lost.attempts.get().state) == ("lost", "unknown")


def test_a_file_that_is_refused_pauses_the_run_and_pays_nothing(provider: Provider, run: Run) -> None:
    advance()
    provider.batches.end(provider.batches.only()["id"], "failed", output=[], errors=[])
    advance()
    run.refresh_from_db()
    assert (run.state, run.spent, run.reserved) == ("paused", 0, 0)
    assert "没有接受" in str(run.pause_reason)
    assert count_states(run)["queued"] == 4


@pytest.mark.parametrize("fault", [Fault.DONE_BUT_500, Fault.DONE_BUT_HTML, Fault.DONE_BUT_RESET])
def test_an_order_whose_answer_was_lost_is_adopted_and_never_sent_twice(
    provider: Provider, run: Run, fault: Fault
) -> None:
    provider.next(fault, path=BATCHES)
    order = advance()
    assert (order.state, order.remote_id) == ("created", provider.batches.only()["id"])
    assert len(provider.posts(BATCHES)) == 1


def test_an_order_that_is_not_found_waits_for_a_person(provider: Provider, run: Run) -> None:
    provider.next(Fault.RESET, path=BATCHES)
    order = advance()
    assert (order.state, len(provider.posts(BATCHES))) == ("create_unknown", 1)
    batches.send_again(order, by="test")
    assert advance().state == "created"


def test_giving_up_leaves_the_calls_in_the_ledger(
    client: Client, alice: User, provider: Provider, run: Run
) -> None:
    provider.next(Fault.RESET, path=BATCHES)
    order = advance()
    client.force_login(alice)
    address = reverse("admin:stories_batchorder_changelist")
    client.post(address, {"action": "give_up", "_selected_action": [order.pk]})
    assert BatchOrder.objects.get().state == "ended"
    assert set(Attempt.objects.values_list("state", flat=True)) == {"unknown"}
    assert count_states(run)["failed"] == 4


def test_cancelling_keeps_what_came_and_frees_the_rest(provider: Provider, run: Run) -> None:
    advance()
    cancel_run(run)
    advance(steps=1)
    batch = provider.batches.only()
    assert batch["status"] == "cancelling"
    provider.batches.finish(batch["id"], "cancelled", answered=1)
    advance()
    states = count_states(run)
    assert (states["written"], states["cancelled"]) == (1, 3)
    run.refresh_from_db()
    assert (run.state, run.reserved) == ("cancelled", 0)


def test_cancelled_before_it_was_sent_nothing_is_ordered(provider: Provider, run: Run) -> None:
    advance(steps=1)
    cancel_run(run)
    advance()
    assert provider.posts() == []
    assert count_states(run)["cancelled"] == 4


def test_the_budget_bounds_what_is_ordered(provider: Provider) -> None:
    run = begin(budget=1_400)  # two at half price
    advance()
    assert len(provider.batches.requests(provider.batches.only()["id"])) == 2
    advance()
    assert len(provider.batches.requests(provider.batches.only()["id"])) == 2, "there is no second one"
    run.refresh_from_db()
    assert run.state == "paused" and run.spent + run.reserved <= 1_400
    assert "预算" in str(run.pause_reason)


def test_a_run_paused_before_its_order_was_created_orders_nothing_until_it_goes_on(
    provider: Provider, run: Run
) -> None:
    provider.next(Fault.RATE_LIMIT, path=BATCHES)
    assert advance(steps=3).state == "uploaded"
    pause_run(run, "午休")
    assert advance().state == "ended"
    run.refresh_from_db()
    assert (count_states(run)["queued"], run.reserved, run.spent) == (4, 0, 0)
    assert len(provider.posts(BATCHES)) == 1, "the one that was refused"
    resume_run(run)
    assert advance().state == "created"
    assert len(provider.batches.requests(provider.batches.only()["id"])) == 4


def test_an_empty_account_gets_no_order_until_it_is_paid(provider: Provider, run: Run) -> None:
    provider.always(Fault.REFUSAL, path=BATCHES, status=402, body='{"error": "Insufficient Balance"}')
    advance()
    run.refresh_from_db()
    assert (run.state, count_states(run)["queued"]) == ("paused", 4)
    assert "Insufficient Balance" in str(run.pause_reason)
    Run.objects.update(state="running")  # as a run that was started before the account was empty
    advance()
    run.refresh_from_db()
    assert (run.state, len(provider.posts(BATCHES))) == ("paused", 1)
    provider.well()
    resume_run(run)
    assert advance().state == "created"


def test_two_workers_send_one_order(provider: Provider, run: Run) -> None:
    batches.due_orders()
    batches.due_orders()
    (order,) = BatchOrder.objects.all()
    stale = BatchOrder.objects.select_related("run__language_model").get()
    assert batches.advance_batch(order) is True
    assert batches.advance_batch(stale) is False
    assert BatchOrder.objects.get().attempts.count() == 4


def test_stories_that_are_not_due_open_no_order(provider: Provider, run: Run) -> None:
    Story.objects.update(next_try_at=timezone.now() + timedelta(minutes=1))
    assert list(batches.due_orders()) == []
    assert not BatchOrder.objects.exists()


def test_its_stories_are_never_handed_out_one_by_one(
    provider: Provider, run: Run, redis_server: Child
) -> None:
    assert enqueue_run(run)
    from stories.generation import sweeper

    Story.objects.update(created_at=timezone.now() - sweeper.REPUBLISH)
    assert sweeper.left_behind() == []


def test_the_model_server_writes_a_whole_run(model_server: Any, db: None) -> None:
    make_template()
    run = plan_run(
        dynasties=["唐", "宋"],
        powers=["隐形"],
        types=["轻松"],
        repeat=3,
        model=make_model("base-zh"),
        is_batch=True,
    )
    start_run(run)

    def done() -> bool:
        advance(steps=2)
        return Run.objects.get(pk=run.pk).state == Run.State.DONE

    wait_until(done, seconds=60, every=0.2, what="the run is done")
    assert count_states(run)["written"] == 6
    # base-zh makes mistakes on purpose, so a story of its own may lack anything but words.
    assert all(run.stories.values_list("text", flat=True))
