"""Calls whose outcome was never learnt, and what a person decides about them."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from stories.errors import BadState
from stories.generation import completion
from stories.models import Attempt, Run, SpendDay, Story
from stories.runs.unknown_calls import resolve_attempt, retry_stories
from tests.factories import make_attempt, make_model, make_person, make_run, make_story
from tests.provider import Fault, Provider

LIST = "admin:stories_attempt_changelist"


@pytest.fixture
def attempt(db: None, provider: Provider) -> Attempt:
    """A paid call of a run that was reset before its answer came."""
    model = make_model(input_price=Decimal("0.15"), output_price=Decimal("0.60"))
    run = make_run(language_model=model)
    story = make_story(run=run, state=Story.State.QUEUED)
    make_story(run=run, state=Story.State.FAILED)
    provider.next(Fault.DONE_BUT_RESET)
    completion.fill(story)
    return Attempt.objects.get()


def money() -> tuple[int, int, int, int]:
    day, run = SpendDay.objects.get(), Run.objects.get()
    return day.spent, day.reserved, run.spent, run.reserved


def test_it_counts_as_spent_until_someone_looked(attempt: Attempt) -> None:
    assert attempt.state == Attempt.State.UNKNOWN
    assert attempt.price == attempt.reserved > 0
    assert money() == (attempt.price, 0, attempt.price, 0)


def test_billed_it_stays_spent(attempt: Attempt) -> None:
    resolve_attempt(attempt, billed=True, by="tom")
    assert (attempt.state, money()[0]) == ("interrupted", attempt.reserved)
    assert "tom" in str(attempt.error)


def test_not_billed_it_is_free_again(attempt: Attempt) -> None:
    resolve_attempt(attempt, billed=False, by="tom")
    assert (attempt.state, attempt.price) == ("refused", 0)
    assert money() == (0, 0, 0, 0)


def test_two_people_decide_once(attempt: Attempt) -> None:
    resolve_attempt(Attempt.objects.get(), billed=False, by="tom")
    with pytest.raises(BadState):
        resolve_attempt(attempt, billed=True, by="alice")
    assert money() == (0, 0, 0, 0)


def test_only_what_was_never_learnt_is_written_again(provider: Provider, attempt: Attempt) -> None:
    Run.objects.update(state=Run.State.DONE)
    (story,) = retry_stories(Story.objects.select_related("run"))
    assert story.pk == attempt.story_id
    assert Run.objects.get().state == Run.State.RUNNING
    completion.fill(Story.objects.get(pk=story.pk))
    assert Story.objects.get(pk=story.pk).state == Story.State.WRITTEN
    assert Attempt.objects.count() == 2, "the second call has a row of its own"


def test_what_failed_by_an_error_in_its_answer_is_written_again_too(provider: Provider, db: None) -> None:
    run = make_run(language_model=make_model(input_price=Decimal(1), output_price=Decimal(2)))
    failed, refused = (make_story(run=run, state=Story.State.QUEUED) for _ in range(2))
    provider.next(Fault.DONE_BUT_HTML)
    completion.fill(failed)
    provider.next(Fault.BAD_REQUEST)
    completion.fill(refused)
    assert set(Story.objects.values_list("state", "end_reason")) == {("failed", "refused")}
    assert [story.pk for story in retry_stories(Story.objects.select_related("run"))] == [failed.pk]


def test_a_cancelled_run_stays_cancelled(attempt: Attempt) -> None:
    Run.objects.update(state=Run.State.CANCELLED)
    assert retry_stories(Story.objects.select_related("run")) == []


def act(client: Client, action: str, *attempts: Attempt) -> Any:
    keys = [attempt.pk for attempt in attempts]
    return client.post(reverse(LIST), {"action": action, "_selected_action": keys}, follow=True)


def test_staff_decides_in_the_ledger(client: Client, alice: User, attempt: Attempt) -> None:
    settled = make_attempt(attempt.story, fence=9, price=5)
    client.force_login(alice)
    page = act(client, "mark_not_billed", attempt, settled)
    assert "核对了 1 次" in page.content.decode()
    assert Attempt.objects.get(pk=settled.pk).price == 5
    assert money()[0] == 0
    page = act(client, "write_again", attempt)
    assert "1 篇结果不明的故事重新排队了" in page.content.decode()
    assert Story.objects.get(pk=attempt.story_id).state == Story.State.QUEUED


def test_a_run_shows_its_unknown_outcomes(client: Client, alice: User, attempt: Attempt) -> None:
    client.force_login(alice)
    page = client.get(reverse("admin:stories_run_change", args=[attempt.story.run_id])).content.decode()
    address = f"{reverse(LIST)}?story__run__id__exact={attempt.story.run_id}&amp;state__exact=unknown"
    assert address in page
    listed = client.get(address.replace("&amp;", "&")).content.decode()
    assert "结果不明" in listed


def test_who_may_not_control_runs_may_not_decide(client: Client, attempt: Attempt) -> None:
    looker = make_person("looker")
    User.objects.filter(pk=looker.pk).update(is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_attempt"))
    client.force_login(looker)
    act(client, "mark_not_billed", attempt)
    attempt.refresh_from_db()
    assert attempt.state == Attempt.State.UNKNOWN
