"""Stories of a run: one whole answer each, from a real provider over HTTP."""

from datetime import timedelta
from decimal import Decimal
from threading import Barrier, Thread

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from stories.errors import OverBudget, UnknownModel
from stories.generation import attempts, completion
from stories.generation.prompts import ask_for
from stories.models import Attempt, Run, SpendDay, Story
from tests.factories import make_model, make_run, make_story
from tests.provider import Fault, Provider

CHAT = "/v1/chat/completions"


@pytest.fixture
def run(db: None, provider: Provider) -> Run:
    run = make_run()
    for _ in range(3):
        make_story(run=run, state=Story.State.QUEUED)
    return run


def fill(story: Story) -> Story:
    completion.fill(Story.objects.get(pk=story.pk))
    return Story.objects.get(pk=story.pk)


def priced_model(**kw):
    return make_model(input_price=Decimal("0.15"), output_price=Decimal("0.60"), **kw)


def test_it_works(provider: Provider, run: Run) -> None:
    story = fill(run.stories.first())
    assert (story.state, story.text, story.end_reason) == ("written", provider.text, "stop")
    body = provider.posts(CHAT)[0].body
    assert body["temperature"] == 0.5
    assert body["max_tokens"] == 2048
    assert body["top_p"] == 1
    assert "stream" not in body
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_each_call_is_a_row_with_tokens_price_and_finish_reason(provider: Provider, run: Run) -> None:
    Run.objects.update(language_model=priced_model(name="gpt-4o-mini"))
    Story.objects.update(language_model=Run.objects.get().language_model)
    attempt = fill(run.stories.first()).attempts.get()
    assert attempt.state == Attempt.State.COMPLETE
    assert attempt.completion_tokens == len(provider.text)
    expected = attempts.bill(
        attempt.language_model,
        prompt_tokens=attempt.prompt_tokens,
        completion_tokens=attempt.completion_tokens,
    )
    assert attempt.price == expected > 0
    run.refresh_from_db()
    assert (run.spent, run.reserved) == (expected, 0)
    day = SpendDay.objects.get()
    assert (day.spent, day.reserved) == (expected, 0)


def test_a_limit_is_waited_for_within_one_attempt(provider: Provider, run: Run) -> None:
    provider.next(Fault.RATE_LIMIT, retry_after_ms=20)
    story = fill(run.stories.first())
    assert story.state == Story.State.WRITTEN
    assert len(provider.posts(CHAT)) == 2
    assert story.attempts.count() == 1


@pytest.mark.parametrize(
    ("fault", "reason"), [(Fault.HTML, "refused"), (Fault.RESET, "unknown"), (Fault.GARBAGE, "unknown")]
)
def test_an_unknown_outcome_fails_counts_as_spent_and_is_not_sent_again(
    provider: Provider, run: Run, fault: Fault, reason: str
) -> None:
    Story.objects.update(language_model=priced_model())
    provider.next(fault)
    story = fill(run.stories.first())
    assert (story.state, story.end_reason) == ("failed", reason)
    attempt = story.attempts.get()
    assert attempt.state == Attempt.State.UNKNOWN
    assert attempt.price == attempt.reserved > 0
    assert len(provider.posts(CHAT)) == 1


def test_a_server_error_goes_back_to_the_queue(provider: Provider, run: Run) -> None:
    provider.next(Fault.SERVER_ERROR)
    story = fill(run.stories.first())
    assert (story.state, story.tries) == ("queued", 1)
    assert story.next_try_at > timezone.now()
    assert fill(story).state == Story.State.QUEUED, "it is not due yet"


def test_a_refusal_fails_and_says_why(provider: Provider, run: Run) -> None:
    provider.next(Fault.BAD_REQUEST, message="no such thing")
    story = fill(run.stories.first())
    assert story.state == Story.State.FAILED
    assert "no such thing" in str(story.error)
    assert story.attempts.get().price == 0


def test_out_of_quota_pauses_the_run_and_says_why(provider: Provider, run: Run) -> None:
    provider.next(Fault.QUOTA)
    story = fill(run.stories.first())
    run.refresh_from_db()
    assert (story.state, run.state) == ("queued", "paused")
    assert "quota" in str(run.pause_reason)


def test_a_run_that_would_pass_its_budget_pauses_before_the_call(provider: Provider, run: Run) -> None:
    Story.objects.update(language_model=priced_model())
    Run.objects.update(budget=1)
    story = fill(run.stories.first())
    run.refresh_from_db()
    assert (story.state, run.state) == ("queued", "paused")
    assert "预算" in str(run.pause_reason)
    assert provider.posts(CHAT) == []


def test_ten_failures_in_a_row_pause_the_run(provider: Provider, run: Run) -> None:
    provider.always(Fault.BAD_REQUEST)
    for _ in range(9):
        make_story(run=run, state=Story.State.QUEUED)
    for story in run.stories.all():
        fill(story)
    run.refresh_from_db()
    assert run.state == Run.State.PAUSED
    assert len(provider.posts(CHAT)) == 10


def test_a_run_is_done_when_its_last_story_ended(provider: Provider, run: Run) -> None:
    provider.next(Fault.BAD_REQUEST)
    for story in run.stories.all():
        run.refresh_from_db()
        assert run.state == Run.State.RUNNING
        fill(story)
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert run.finished_at is not None


def test_a_paused_run_makes_no_call(provider: Provider, run: Run) -> None:
    Run.objects.update(state=Run.State.PAUSED)
    assert fill(run.stories.first()).state == Story.State.QUEUED
    assert provider.posts(CHAT) == []


def test_a_story_that_is_being_written_is_not_written_twice(provider: Provider, run: Run) -> None:
    story = run.stories.first()
    Story.objects.filter(pk=story.pk).update(
        state="writing", fence=1, lease_until=timezone.now() + timedelta(minutes=1)
    )
    fill(story)
    assert provider.posts(CHAT) == []


def test_a_model_of_unknown_price_is_refused_under_a_daily_limit(run: Run, settings) -> None:
    settings.DAILY_SPEND_LIMIT_USD = Decimal("1")
    story = run.stories.first()
    story.language_model = make_model(input_price=None)
    with pytest.raises(UnknownModel, match="价格未知"):
        attempts.open_attempt(story, ask_for(story.language_model, story.combo, template=story.template))


def reserve_in_parallel(calls: int, reserve) -> int:
    """How many of `calls` threads could reserve a cent."""
    barrier, passed = Barrier(calls), []

    def call() -> None:
        barrier.wait()
        try:
            reserve()
            passed.append(1)
        except OverBudget:
            return
        finally:
            connection.close()

    threads = [Thread(target=call) for _ in range(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(passed)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_forty_parallel_reservations_with_money_for_ten(settings) -> None:
    settings.DAILY_SPEND_LIMIT_USD = Decimal("0.10")
    today = timezone.localdate()
    assert reserve_in_parallel(40, lambda: attempts.reserve_day(10_000, today)) == 10
    assert SpendDay.objects.get().reserved == 100_000


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_without_the_condition_the_same_forty_pass_the_limit(settings) -> None:
    """The negative control: look first, reserve after, and the limit is passed."""
    today, looked = timezone.localdate(), Barrier(40)
    SpendDay.objects.create(day=today)

    def look_then_reserve() -> None:
        if SpendDay.objects.get(day=today).reserved + 10_000 > 100_000:
            raise OverBudget
        looked.wait()
        SpendDay.objects.filter(day=today).update(reserved=F("reserved") + 10_000)

    assert reserve_in_parallel(40, look_then_reserve) > 10
