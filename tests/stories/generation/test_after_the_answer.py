"""What came of a call is kept, whatever fails while it is written; nobody else suffers; a paused run asks no more."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from stories.generation import completion, states, streaming, sweeper
from stories.generation.text_assembly import TextAssembler
from stories.models import Attempt, Run, Story
from stories.runs.lifecycle import pause_run
from tests.factories import make_attempt, make_combo, make_model, make_run, make_serving_model, make_story
from tests.provider import CHAT, Call, Fault, Provider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]
PRICED = {"input_price": Decimal(1), "output_price": Decimal(2)}
ODD = "怪朝"


@contextmanager
def refusing(table: str, condition: str) -> Iterator[None]:
    """The database refuses every update of the table that makes a row so."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            body = f"BEFORE UPDATE ON {table} WHEN {condition} BEGIN SELECT RAISE(ABORT, 'poison'); END"
            cursor.execute(f"CREATE TRIGGER poison {body}")
        else:
            raise_it = "BEGIN RAISE EXCEPTION 'poison'; END"
            cursor.execute(f"CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ {raise_it} $$")
            row = f"BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({condition})"
            cursor.execute(f"CREATE TRIGGER poison {row} EXECUTE FUNCTION poison()")
        yield
        is_postgres = connection.vendor == "postgresql"
        cursor.execute("DROP TRIGGER poison" + (f" ON {table}" if is_postgres else ""))
        if is_postgres:
            cursor.execute("DROP FUNCTION poison")


def order(stories: int, **kw: Any) -> Run:
    run = make_run(**kw)
    for _ in range(stories):
        make_story(run=run, state=Story.State.QUEUED)
    return run


def load(story: Story) -> Story:
    return Story.objects.select_related("run", "language_model", "template").get(pk=story.pk)


def fill(story: Story) -> Story:
    completion.fill(load(story))
    return Story.objects.get(pk=story.pk)


def fill_all(run: Run) -> Run:
    for story in run.stories.order_by("slot"):
        fill(story)
    return Run.objects.get(pk=run.pk)


def saying(text: Callable[[int], str]) -> Callable[[Call, dict[str, Any]], Any]:
    """The n-th answer has this text, and is complete whatever it is."""
    asked = iter(range(10**6))

    def alter(_call: Call, event: dict[str, Any]) -> Any:
        event["choices"][0]["message"]["content"] = text(next(asked))
        return event

    return alter


# --- ten failures in a row ------------------------------------------------------------------------------


def test_a_run_whose_answers_are_complete_and_empty_pauses_after_ten(provider: Provider) -> None:
    provider.alter = saying(lambda _n: "")
    run = fill_all(order(25))
    assert len(provider.posts(CHAT)) == 10
    assert (run.state, run.failures_in_row) == (Run.State.PAUSED, 10)
    assert str(run.pause_reason) == "连续 10 篇失败，已自动暂停。模型没有写出文字。"
    assert set(Attempt.objects.values_list("state", flat=True)) == {"complete"}, "the provider bills them"


def test_a_written_story_begins_the_count_anew(provider: Provider) -> None:
    provider.alter = saying(lambda n: "从前" if n == 8 else "")
    run = fill_all(order(25))
    assert len(provider.posts(CHAT)) == 19
    assert run.state == Run.State.PAUSED


# --- a run that pauses ----------------------------------------------------------------------------------


def test_a_run_paused_while_a_limited_call_waits_for_its_turn_asks_no_more(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = order(2)
    provider.next(Fault.RATE_LIMIT, retry_after_ms=1)
    acquire, turns = completion._acquire, []

    def pausing(story: Story, *, seconds: float) -> Any:
        turns.append(seconds)
        if len(turns) == 2:
            pause_run(Run.objects.get(), "午休")
        return acquire(story, seconds=seconds)

    monkeypatch.setattr(completion, "_acquire", pausing)
    story = fill(run.stories.get(slot=0))
    assert (story.state, story.tries, len(turns)) == ("queued", 0, 2)
    assert len(provider.posts(CHAT)) == 1
    assert story.attempts.get().state == Attempt.State.REFUSED


@pytest.mark.both_databases
def test_a_run_paused_between_claim_and_reservation_asks_nothing(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = order(2)
    claim = states.claim

    def pausing(story: Story, **named: Any) -> bool:
        claimed = claim(story, **named)
        pause_run(Run.objects.get(), "午休")
        return claimed

    monkeypatch.setattr(states, "claim", pausing)
    story = fill(run.stories.get(slot=0))
    assert (story.state, story.attempts.count()) == ("queued", 0)
    assert provider.posts(CHAT) == []
    assert Run.objects.get().pause_reason == "午休"


# --- what cannot be stored ------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_a_bill_that_cannot_be_stored_costs_a_story_of_a_run_nothing_else(provider: Provider) -> None:
    run = order(2, language_model=make_model(**PRICED))
    with refusing("stories_attempt", "NEW.completion_tokens IS NOT NULL"):
        story = fill(run.stories.get(slot=0))
    other = fill(run.stories.get(slot=1))
    assert (story.state, story.text) == (other.state, other.text) == ("written", provider.text)
    attempt = story.attempts.get()
    assert (attempt.state, attempt.price, attempt.error) == (
        *("complete", attempt.reserved),
        completion.NOT_COUNTED,
    )
    assert len(provider.posts(CHAT)) == 2
    assert Run.objects.get().state == Run.State.DONE


@pytest.mark.both_databases
def test_a_text_that_cannot_be_stored_ends_its_story_and_the_run_goes_on(provider: Provider) -> None:
    run = order(2, language_model=make_model(**PRICED))
    with refusing("stories_story", "NEW.length > 0"):
        story = fill(run.stories.get(slot=0))
    other = fill(run.stories.get(slot=1))
    assert (story.state, story.end_reason, story.error) == ("failed", "unknown", completion.NOT_STORED)
    attempt = story.attempts.get()
    assert (attempt.state, attempt.price) == ("unknown", attempt.reserved)
    assert other.state == "written"
    assert len(provider.posts(CHAT)) == 2


def test_an_error_of_ours_in_reading_an_answer_ends_its_story(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = order(1, language_model=make_model(**PRICED))
    monkeypatch.setattr("llm.calls.complete", lambda _alias, ask: ask.no_such_thing)
    story = fill(run.stories.get())
    assert (story.state, story.end_reason) == ("failed", "unknown")
    assert "本站内部出错" in str(story.error)
    assert story.attempts.get().price == story.attempts.get().reserved > 0


def test_an_error_of_ours_before_the_call_ends_its_story_without_one(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = order(1)
    monkeypatch.setattr(completion, "ask_for", lambda *_args, **_named: {}["no such thing"])
    story = fill(run.stories.get())
    assert (story.state, story.end_reason, story.attempts.count()) == ("failed", "refused", 0)
    assert provider.posts(CHAT) == []


# --- readers' stories -----------------------------------------------------------------------------------


def write_together(stories: list[Story]) -> None:
    threads = [threading.Thread(target=streaming.write, args=(story,)) for story in stories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def three_readers() -> tuple[Story, list[Story]]:
    model = make_serving_model(**PRICED)
    combos = [make_combo(dynasty) for dynasty in ("唐", ODD, "宋")]
    first, odd, last = [make_story(state="queued", combo=combo, language_model=model) for combo in combos]
    return odd, [first, last]


def check_written(stories: list[Story], text: str) -> None:
    for story in stories:
        story.refresh_from_db()
        assert (story.state, story.text, story.attempts.get().state) == ("written", text, "complete")


@pytest.mark.both_databases
def test_a_bill_that_cannot_be_stored_costs_a_readers_story_nothing_else(provider: Provider) -> None:
    def alter(call: Call, event: dict[str, Any]) -> Any:
        if ODD in str(call.body) and event["usage"]:
            event["usage"]["completion_tokens"] = 13
        return event

    provider.alter = alter
    odd, others = three_readers()
    with refusing("stories_attempt", "NEW.completion_tokens = 13"):
        write_together([odd, *others])
    check_written([odd, *others], provider.text)
    attempt = odd.attempts.get()
    assert (attempt.price, attempt.error) == (attempt.reserved, completion.NOT_COUNTED)
    assert others[0].attempts.get().price < attempt.reserved


def test_an_error_of_ours_at_the_end_of_a_stream_ends_its_story_and_not_the_worker(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = TextAssembler.finish
    provider.pieces = ["从前", "有座山。"]
    provider.alter = lambda call, event: (
        event
        if ODD not in str(call.body)
        or not event["choices"]
        or not event["choices"][0]["delta"].get("content")
        else event | {"choices": [{"delta": {"content": "怪"}}]}
    )

    def failing(self: TextAssembler) -> None:
        finish(self)
        if threading.current_thread().name == "stream-engine" and self.is_odd:
            raise TypeError("no such thing")

    def add(self: TextAssembler, piece: str) -> None:
        self.is_odd = getattr(self, "is_odd", False) or "怪" in piece
        plain_add(self, piece)

    plain_add = TextAssembler.add
    monkeypatch.setattr(TextAssembler, "finish", failing)
    monkeypatch.setattr(TextAssembler, "add", add)
    odd, others = three_readers()
    write_together([odd, *others])
    check_written(others, "从前有座山。")
    odd.refresh_from_db()
    assert (odd.state, odd.end_reason, odd.text) == ("interrupted", "cut", "怪怪")
    assert "本站内部出错" in str(odd.error)


# --- the sweeper ----------------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_a_row_that_cannot_be_ended_keeps_the_sweeper_from_no_other() -> None:
    gone = timezone.now() - timedelta(seconds=1)
    model = make_serving_model()
    bad, good = [
        make_story(state="writing", text=text, lease_until=gone, language_model=model)
        for text in ("毒", "好")
    ]
    for story in (bad, good):
        make_attempt(story, state=Attempt.State.STREAMING)
    with refusing("stories_story", "NEW.text = '毒' AND NEW.state <> 'writing'"):
        assert [story.pk for story in sweeper.expire_leases()] == [good.pk]
    good.refresh_from_db()
    assert (good.state, good.end_reason) == ("interrupted", "lost")
    assert [story.pk for story in sweeper.expire_leases()] == [bad.pk], (
        "it is ended as soon as that is possible"
    )
