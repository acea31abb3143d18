"""Batches of which nothing comes: orders slow down and stop; a person decides at any time, not in a window."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from stories.errors import BadState
from stories.generation import batches
from stories.generation.batches import backoff, lease
from stories.models import Attempt, AuditEntry, BatchOrder, Run
from stories.runs.lifecycle import cancel_run, count_states, resume_run
from tests.provider import Fault, Provider
from tests.provider.batches import BATCHES, body_of, line
from tests.stories.generation.batches.test_steps import advance, begin

pytestmark = pytest.mark.django_db
SAID = {"error": {"message": "Rate limit reached", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        yield clock


def turn() -> None:
    """One turn of beat and worker at this moment of the clock."""
    for order in batches.due_orders():
        while batches.advance_batch(
            BatchOrder.objects.select_related("run__language_model").get(pk=order.pk)
        ):
            pass


def end_all(provider: Provider, *, status: int = 429, answered: int = 0, how: str = "completed") -> None:
    """Every remote batch that is still open ends: `answered` lines with a text, the rest refused for now."""
    for batch in list(provider.batches.batches.values()):
        if batch["status"] == "in_progress":
            requests = provider.batches.requests(batch["id"])
            good = [line(one, 200, body_of()) for one in requests[:answered]]
            bad = [line(one, status, SAID) for one in requests[answered:]]
            provider.batches.end(batch["id"], how, output=good, errors=bad if how == "completed" else [])


def hours(clock: time_machine.Traveller, provider: Provider, length: float, **kw: Any) -> list[int]:
    """That many hours of a provider that answers at once; after each minute: how many batches there are."""
    counts = []
    for _minute in range(round(length * 60)):
        for _ in range(4):
            turn()
            end_all(provider, **kw)
            clock.shift(15)
        counts.append(len(provider.batches.batches))
    return counts


def test_lines_that_all_answer_429_open_few_batches_and_then_pause(
    provider: Provider, clock: time_machine.Traveller
) -> None:
    run = begin()
    counts = hours(clock, provider, 0.5)
    assert counts[-1] == backoff.MAX_EMPTY == 5
    assert counts[1] <= 2, "the second one waits a minute, the others longer and longer"
    run.refresh_from_db()
    assert (run.state, run.reserved, run.spent) == ("paused", 0, 0)
    assert str(run.pause_reason).startswith("连续 5 份半价批量订单一篇也没有写成，已自动暂停。")
    assert "Rate limit reached" in str(run.pause_reason)
    assert count_states(run)["queued"] == 4, "a limit is no failure: nothing is used up"
    assert set(run.stories.values_list("tries", flat=True)) == {0}


def test_without_the_wait_they_are_opened_without_bound(
    provider: Provider, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: what the guard prevents."""
    monkeypatch.setattr("stories.generation.batches.steps.note_end", lambda order: None)
    begin()
    assert hours(clock, provider, 0.25)[-1] == 30


@pytest.mark.parametrize("how", ["expired", "cancelled"])
def test_batches_that_end_at_once_for_another_reason_are_bounded_too(
    provider: Provider, clock: time_machine.Traveller, how: str
) -> None:
    run = begin()
    assert hours(clock, provider, 0.5, how=how)[-1] == 5
    run.refresh_from_db()
    assert run.state == "paused"
    assert how in str(run.pause_reason)


def test_a_person_resumes_and_the_count_starts_anew(
    provider: Provider, clock: time_machine.Traveller
) -> None:
    run = begin()
    hours(clock, provider, 0.4)
    run.refresh_from_db()
    resume_run(run)
    assert (run.empty_orders, run.next_order_at) == (0, None)
    hours(clock, provider, 0.1, status=200, answered=9)
    run.refresh_from_db()
    assert (run.state, len(provider.batches.batches)) == ("done", 6)


def test_an_order_that_brought_something_is_followed_after_a_minute(
    provider: Provider, clock: time_machine.Traveller
) -> None:
    run = begin()
    counts = hours(clock, provider, 0.2, answered=1)
    run.refresh_from_db()
    assert (run.state, count_states(run)["written"], counts[-1]) == ("done", 4, 4)
    assert counts[0] == 1


def test_pauses_double_up_to_an_hour() -> None:
    minutes = [backoff.pause_after(empty) / timedelta(minutes=1) for empty in (0, 1, 2, 3, 5, 7, 1000)]
    assert minutes == [1, 1, 2, 4, 16, 60, 60]


# --- what a person decides ------------------------------------------------------------------------------


def unknown_order(provider: Provider) -> BatchOrder:
    """An order whose creation is unknown, and whose next look is a while away."""
    begin()
    provider.next(Fault.RESET, path=BATCHES)
    advance()
    BatchOrder.objects.update(next_poll_at=timezone.now() + timedelta(minutes=1))
    return BatchOrder.objects.get()


def test_it_is_sent_again_whenever_a_person_says_so(provider: Provider) -> None:
    batches.send_again(unknown_order(provider), by="test")
    assert advance().state == "created"
    assert len(provider.posts(BATCHES)) == 2


def test_it_is_given_up_whenever_a_person_says_so(provider: Provider, alice: User, client: Client) -> None:
    order = unknown_order(provider)
    client.force_login(alice)
    address = reverse("admin:stories_batchorder_changelist")
    client.post(address, {"action": "give_up", "_selected_action": [order.pk]})
    order.refresh_from_db()
    assert (order.state, str(order.error)) == ("ended", "alice 放弃了这份批量订单，结果不明。")
    assert set(Attempt.objects.values_list("state", flat=True)) == {"unknown"}


def test_not_while_someone_is_looking(provider: Provider, alice: User) -> None:
    order = unknown_order(provider)
    BatchOrder.objects.update(next_poll_at=timezone.now())
    looking = BatchOrder.objects.get()
    assert lease.claim(looking)
    for decide in (lambda: batches.send_again(order, by="test"), lambda: batches.give_up(order, by=alice)):
        with pytest.raises(BadState):
            decide()
    BatchOrder.objects.update(lease_until=timezone.now() - timedelta(seconds=1))  # the one who looked is gone
    batches.send_again(order, by="test")
    assert not lease.hand_back(looking, state="created"), "and changes nothing any more"


def test_who_decided_is_written_down(provider: Provider, alice: User) -> None:
    order = unknown_order(provider)
    batches.send_again(order, by=alice)
    BatchOrder.objects.update(state="create_unknown")
    batches.give_up(order, by=alice)
    said = AuditEntry.objects.order_by("pk").values_list("action", "actor", "before", "after")
    assert list(said) == [
        ("batch_sent_again", "alice", {"state": "create_unknown"}, {"state": "uploaded"}),
        ("batch_given_up", "alice", {"state": "create_unknown"}, {"state": "ended"}),
    ]


def test_two_people_decide_once(provider: Provider, alice: User) -> None:
    order = unknown_order(provider)
    stale = BatchOrder.objects.get()
    batches.send_again(order, by="test")
    for decide in (lambda: batches.send_again(stale, by="test"), lambda: batches.give_up(stale, by=alice)):
        with pytest.raises(BadState):
            decide()


def test_a_batch_that_its_provider_never_ends_can_be_given_up(provider: Provider, alice: User) -> None:
    run = begin()
    order = advance()
    with pytest.raises(BadState):
        batches.give_up(order, by=alice)  # it is only a few seconds old
    BatchOrder.objects.update(created_at=timezone.now() - timedelta(hours=31))
    order = advance(steps=1)
    assert "可以继续等，也可以放弃它" in str(order.error)
    batches.give_up(order, by=alice)
    assert count_states(run)["failed"] == 4


def test_a_cancelled_batch_that_its_provider_forgot_can_be_given_up(provider: Provider, alice: User) -> None:
    run = begin()
    advance()
    provider.batches.batches.clear()
    order = advance()
    assert (order.state, "404" in str(order.error)) == ("created", True)
    cancel_run(run)
    batches.give_up(BatchOrder.objects.get(), by=alice)
    assert set(Attempt.objects.values_list("state", flat=True)) == {"unknown"}
    assert Run.objects.get().state == "cancelled"


def test_two_remote_batches_of_one_order_are_named(provider: Provider) -> None:
    begin()
    provider.next(Fault.DONE_BUT_500, path=BATCHES)
    advance(steps=3)
    provider.batches.batches["batch_2"] = provider.batches.only() | {"id": "batch_2"}
    order = advance(steps=1)
    assert order.state == "create_unknown"
    assert "batch_1" in str(order.error) and "batch_2" in str(order.error)


def test_a_provider_that_keeps_no_metadata_is_known_by_the_file(provider: Provider) -> None:
    begin()
    provider.next(Fault.DONE_BUT_500, path=BATCHES)
    advance(steps=3)
    provider.batches.only()["metadata"] = ["odd"]
    order = advance(steps=1)
    assert (order.state, order.remote_id) == ("created", "batch_1")


# --- uploads --------------------------------------------------------------------------------------------

FILES = "/v1/files"


@pytest.mark.parametrize("fault", [Fault.DONE_BUT_500, Fault.DONE_BUT_HTML, Fault.DONE_BUT_RESET])
def test_a_file_that_arrived_after_all_is_not_sent_again(provider: Provider, fault: Fault) -> None:
    run = begin()
    provider.next(fault, path=FILES)
    order = advance()
    assert (order.state, order.input_file_id, len(provider.jobs.files)) == ("created", "file-1", 1)
    provider.batches.finish(provider.batches.only()["id"])
    advance()
    assert count_states(run)["written"] == 4


def test_a_file_that_arrived_before_its_worker_died_is_not_sent_again(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin()
    monkeypatch.setattr("stories.generation.batches.steps.hand_back", lambda *_, **__: False)
    advance(steps=1)
    BatchOrder.objects.update(state="uploading")
    advance(steps=1)
    monkeypatch.undo()
    assert advance().state == "created"
    assert len(provider.posts(FILES)) == 1


@pytest.mark.parametrize("changes", [{"bytes": 3}, {"status": "error"}, {"filename": 7}])
def test_half_a_file_is_sent_again(provider: Provider, changes: dict[str, Any]) -> None:
    begin()
    provider.next(Fault.DONE_BUT_500, path=FILES)
    advance(steps=2)
    provider.jobs.files["file-1"].update(changes)
    assert (advance().input_file_id, len(provider.posts(FILES))) == ("file-2", 2)


def test_a_provider_that_lists_no_files_gets_the_file(provider: Provider) -> None:
    begin()
    provider.always(Fault.NOT_FOUND, path=FILES, method="GET")
    provider.next(Fault.DONE_BUT_500, path=FILES)
    assert advance().state == "created"
