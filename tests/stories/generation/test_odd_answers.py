"""One odd value in one answer: that story alone, its text kept, its call settled; nobody else differs."""

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from llm.redaction import redact
from stories.generation import streaming
from stories.generation.completion import fill
from stories.generation.streaming import commits
from stories.models import Attempt, Run, Story
from stories.values.texts import MAX_LENGTH
from tests.factories import make_combo, make_model, make_run, make_serving_model, make_story
from tests.provider import Call, Fault, Provider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]
PRICED = {"input_price": Decimal(1), "output_price": Decimal(2)}
ODD = "怪朝"
GIANT, DEEP = b"1" * 5000, b"[" * 100_000
COUNTS = [
    *("100", 101.5, float("inf"), float("nan"), 10**30, -35, True, None, {}, [], {"total": 3}, [7]),
    *(2**31, 2**63, -(2**63)),
]
USAGES = ["many", 7, True, [1, 2], {"prompt_tokens": {}, "completion_tokens": []}, {"completion_tokens": 5}]
REASONS = [7, True, 1.5, ["stop"], {"reason": "stop"}, "eos\0\ud800", "x" * 100_000]
CONTENTS = [5, True, {"text": "从前"}, [{"type": "text", "text": 7}], [["从前"]]]
EVENTS: list[Any] = [
    [],
    "event",
    7,
    None,
    True,
    {"choices": "none"},
    {"choices": [7]},
    {"choices": {"0": {}}},
]
ERRORS: list[Any] = [7, ["no"], {"message": {"a": 1}}, {"message": "\0\ud800" + "长" * 100_000}, "busy"]


def usage_of(value: Any) -> dict[str, Any]:
    return {"prompt_tokens": value, "completion_tokens": value}


def is_odd(call: Call) -> bool:
    return ODD in str(call.body)


def with_usage(value: Any) -> Callable[[Call, dict[str, Any]], Any]:
    return lambda call, event: event | {"usage": value} if is_odd(call) and event["usage"] else event


def with_reason(value: Any) -> Callable[[Call, dict[str, Any]], Any]:
    def alter(call: Call, event: dict[str, Any]) -> Any:
        for choice in event["choices"] if is_odd(call) else []:
            choice["finish_reason"] = choice["finish_reason"] and value
        return event

    return alter


def instead_of_the_end(value: Any) -> Callable[[Call, dict[str, Any]], Any]:
    """In a stream the event with the finish reason, else the whole answer."""

    def alter(call: Call, event: dict[str, Any]) -> Any:
        is_end = any(choice["finish_reason"] for choice in event["choices"])
        return value if is_odd(call) and is_end else event

    return alter


def with_content(value: Any) -> Callable[[Call, dict[str, Any]], Any]:
    def alter(call: Call, event: dict[str, Any]) -> Any:
        ends = is_odd(call) and any(choice["finish_reason"] for choice in event["choices"])
        return (
            event | {"choices": [{"delta": {"content": value}, "message": {"content": value}}]}
            if ends
            else event
        )

    return alter


def order(provider: Provider) -> tuple[Story, list[Story]]:
    """An odd story between three others."""
    model = make_serving_model(**PRICED)
    combos = [make_combo(dynasty) for dynasty in ("唐", ODD, "宋", "元")]
    first, odd, *rest = [make_story(state="queued", combo=combo, language_model=model) for combo in combos]
    return odd, [first, *rest]


def write_together(stories: list[Story]) -> None:
    threads = [threading.Thread(target=streaming.write, args=(story,)) for story in stories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def check_others(provider: Provider, others: list[Story]) -> None:
    for story in others:
        story.refresh_from_db()
        assert (story.state, story.text) == ("written", provider.text)
        assert story.attempts.get().price != story.attempts.get().reserved


def settled(story: Story) -> Attempt:
    """The story's one call, which counts as spent at its reservation."""
    attempt = story.attempts.get()
    assert attempt.state not in Attempt.OPEN
    assert attempt.price == attempt.reserved > 0
    return attempt


@pytest.mark.both_databases
@pytest.mark.parametrize("usage", [*map(usage_of, COUNTS), *USAGES], ids=lambda usage: str(usage)[:40])
def test_a_count_that_cannot_be_true_is_not_said(provider: Provider, usage: Any) -> None:
    provider.alter = with_usage(usage)
    odd, others = order(provider)
    write_together([odd, *others])
    odd.refresh_from_db()
    assert (odd.state, odd.text) == ("written", provider.text)
    assert settled(odd).state == Attempt.State.COMPLETE
    assert bool(str(settled(odd).doubt)) == says_something(usage)
    check_others(provider, others)


def says_something(usage: Any) -> bool:
    """Whether a usage claims what cannot be true, rather than leaving it out."""
    if not isinstance(usage, dict):
        return True
    return any(
        value is not None and (type(value) is not int or not 0 <= value <= 10**9) for value in usage.values()
    )


@pytest.mark.both_databases
@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: str(reason)[:40])
def test_a_finish_reason_that_nobody_knows_is_an_end_and_kept(provider: Provider, reason: Any) -> None:
    provider.alter = with_reason(reason)
    odd, others = order(provider)
    write_together([odd, *others])
    odd.refresh_from_db()
    attempt = odd.attempts.get()
    assert (odd.state, odd.end_reason, odd.text) == ("written", "stop", provider.text)
    assert (attempt.state, attempt.finish_reason) == ("complete", redact(reason, most=40))
    assert attempt.completion_tokens == len(provider.text), "the usage that follows is still read"
    check_others(provider, others)


@pytest.mark.parametrize(
    "alter",
    [
        *map(instead_of_the_end, EVENTS),
        *(instead_of_the_end({"error": error}) for error in ERRORS),
        *map(instead_of_the_end, [DEEP, b"{", b"\xff\xfe", b'"\\ud800"']),
        *map(with_content, CONTENTS),
    ],
)
def test_an_event_that_cannot_be_read_keeps_the_text_before_it(provider: Provider, alter: Any) -> None:
    provider.alter = alter
    odd, others = order(provider)
    write_together([odd, *others])
    odd.refresh_from_db()
    assert (odd.state, odd.end_reason, odd.text) == ("interrupted", "cut", provider.text)
    assert 0 < len(str(odd.error)) <= 1000
    assert settled(odd).state == Attempt.State.INTERRUPTED
    check_others(provider, others)


@pytest.mark.parametrize("number", [b"Infinity", b"NaN", b"1e999", b"1" * 5000])
def test_numbers_that_json_or_python_does_not_know_are_not_said(provider: Provider, number: bytes) -> None:
    raw = b'{"choices": [], "usage": {"prompt_tokens": %b, "completion_tokens": %b}}' % (number, number)
    provider.alter = lambda call, event: raw if is_odd(call) and event["usage"] else event
    odd, others = order(provider)
    write_together([odd, *others])
    odd.refresh_from_db()
    assert (odd.state, odd.text) == ("written", provider.text)
    settled(odd)
    check_others(provider, others)


def test_a_line_without_end_is_not_read_for_ever(provider: Provider) -> None:
    provider.alter = instead_of_the_end(b"x" * 3_000_000)
    odd, others = order(provider)
    write_together([odd, *others])
    odd.refresh_from_db()
    assert (odd.state, odd.text) == ("interrupted", provider.text)
    check_others(provider, others)


# --- runs -------------------------------------------------------------------------------------------------


def fill_one(provider: Provider) -> Story:
    run = make_run(language_model=make_model(**PRICED))
    story = make_story(run=run, state="queued", combo=make_combo(ODD))
    fill(Story.objects.select_related("run", "language_model", "template").get(pk=story.pk))
    story.refresh_from_db()
    return story


@pytest.mark.both_databases
@pytest.mark.parametrize("usage", [*map(usage_of, COUNTS), *USAGES], ids=lambda usage: str(usage)[:40])
def test_in_a_run_such_a_count_is_not_said_either(provider: Provider, usage: Any) -> None:
    provider.alter = with_usage(usage)
    story = fill_one(provider)
    assert (story.state, story.text) == ("written", provider.text)
    assert settled(story).state == Attempt.State.COMPLETE
    assert bool(str(settled(story).doubt)) == says_something(usage)


def test_an_answer_without_usage_counts_at_its_reservation(provider: Provider) -> None:
    provider.alter = lambda _call, event: {name: value for name, value in event.items() if name != "usage"}
    assert settled(fill_one(provider)).state == Attempt.State.COMPLETE


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: str(reason)[:40])
def test_in_a_run_such_a_finish_reason_is_an_end_too(provider: Provider, reason: Any) -> None:
    provider.alter = with_reason(reason)
    story = fill_one(provider)
    assert (story.state, story.end_reason, story.text) == ("written", "stop", provider.text)
    assert story.attempts.get().finish_reason == redact(reason, most=40)


@pytest.mark.parametrize(
    "alter",
    [
        *map(
            instead_of_the_end,
            [[], {"choices": "none"}, {"choices": [7]}, {"choices": {"0": {}}}, DEEP, b"{"],
        ),
        *map(with_content, CONTENTS),
        instead_of_the_end(b" " * 20_000_000 + b"{}"),
    ],
)
def test_in_a_run_an_answer_that_cannot_be_read_is_an_unknown_outcome(provider: Provider, alter: Any) -> None:
    provider.alter = alter
    story = fill_one(provider)
    assert (story.state, story.end_reason, story.text) == ("failed", "unknown", "")
    assert 0 < len(str(story.error)) <= 1000
    assert settled(story).state == Attempt.State.UNKNOWN
    assert Run.objects.get().state == Run.State.DONE


@pytest.mark.parametrize("said", [*({"error": error} for error in ERRORS), "event", 7, None, GIANT, b""])
def test_in_a_run_an_error_or_nothing_instead_of_an_answer_fails_with_its_words(
    provider: Provider, said: Any
) -> None:
    provider.alter = instead_of_the_end(said)
    story = fill_one(provider)
    assert (story.state, story.end_reason, story.text) == ("failed", "refused", "")
    assert 0 < len(str(story.error)) <= 1000
    assert settled(story).state == Attempt.State.UNKNOWN, "it may have been billed"
    assert len(provider.posts()) == 1


def test_the_text_parts_of_a_content_are_the_story(provider: Provider) -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "先想一想。"}]}

    def alter(_call: Call, event: dict[str, Any]) -> Any:
        for choice in event["choices"]:
            for inner in (choice.get("delta"), choice.get("message")):
                if inner and inner.get("content"):
                    inner["content"] = [thinking, {"type": "text", "text": inner["content"]}]
        return event

    provider.alter = alter
    assert fill_one(provider).text == provider.text
    story = make_story(state="queued", language_model=make_serving_model())
    streaming.write(story)
    assert Story.objects.get(pk=story.pk).text == provider.text


# --- rows that cannot be stored -----------------------------------------------------------------------------

POISON = "毒药"
TRIGGER = {
    "sqlite": [
        f"CREATE TRIGGER poison BEFORE UPDATE ON stories_story WHEN NEW.text LIKE '%{POISON}%' "
        "BEGIN SELECT RAISE(ABORT, 'poison'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$",
        f"CREATE TRIGGER poison BEFORE UPDATE ON stories_story FOR EACH ROW WHEN (NEW.text LIKE '%{POISON}%') "
        "EXECUTE FUNCTION poison()",
    ],
}


@pytest.fixture
def poisoned() -> Any:
    """The database refuses every row whose text holds `POISON`."""
    with connection.cursor() as cursor:
        for statement in TRIGGER[connection.vendor]:
            cursor.execute(statement)
        yield
        cursor.execute(
            "DROP TRIGGER poison" + (" ON stories_story" if connection.vendor == "postgresql" else "")
        )
        if connection.vendor == "postgresql":
            cursor.execute("DROP FUNCTION poison")


@pytest.mark.both_databases
@pytest.mark.usefixtures("poisoned")
def test_a_text_that_cannot_be_stored_ends_after_a_few_tries_with_what_is_stored(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.pieces, provider.delay = ["从前", "有座", "山。"], 0.15

    def alter(call: Call, event: dict[str, Any]) -> Any:
        for choice in event["choices"] if is_odd(call) else []:
            if choice["delta"].get("content") == "山。":
                choice["delta"]["content"] = POISON
        return event

    provider.alter = alter
    odd, others = order(provider)
    write_together([odd, *others])
    odd.refresh_from_db()
    assert (odd.state, odd.end_reason, odd.text) == ("interrupted", "cut", "从前有座")
    assert odd.error == commits.NOT_STORED
    assert settled(odd).state == Attempt.State.UNKNOWN
    assert caplog.text.count("could not be stored, try") == commits.MAX_FAILED_COMMITS
    for story in others:
        story.refresh_from_db()
        assert (story.state, story.text) == ("written", "从前有座山。")


# --- answers without measure --------------------------------------------------------------------------------


def test_a_stream_without_measure_is_cut_with_its_text_kept(provider: Provider) -> None:
    provider.pieces = ["长" * 1000] * 2000
    story = make_story(state="queued", language_model=make_serving_model(prompt_style="chat", **PRICED))
    streaming.write(story)
    story.refresh_from_db()
    assert (story.state, story.end_reason) == ("interrupted", "length")
    assert story.text == "长" * 16_000  # eight characters for each of the 2,000 tokens that were asked for
    settled(story)
    assert provider.posts("/v1/chat")[0].pieces < 2000, "the call was closed"


def test_a_continuation_ends_where_a_story_may_not_be_longer(provider: Provider) -> None:
    provider.pieces = ["长" * 1000] * 30
    model = make_serving_model(prompt_style="chat")
    so_far = "短" * (MAX_LENGTH - 2500)
    story = make_story(state="queued", language_model=model, text=so_far, attempt_name="a" * 16)
    streaming.write(story)
    story.refresh_from_db()
    assert (story.end_reason, story.length) == ("length", MAX_LENGTH)


def test_a_whole_answer_without_measure_is_cut(provider: Provider) -> None:
    provider.text = "长" * 100_000
    story = fill_one(provider)
    assert (story.state, story.end_reason, story.length) == ("interrupted", "length", 8 * 2048)


# --- keys -----------------------------------------------------------------------------------------------------


def test_a_key_that_the_provider_echoes_is_on_no_row(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sk-secret-of-the-tests"
    provider.always(Fault.BAD_REQUEST, message=f"Incorrect API key provided: {key}. You sent Bearer {key}")
    story = make_story(state="queued", language_model=make_serving_model())
    streaming.write(story)
    filled = fill_one(provider)
    story.refresh_from_db()
    for row in (story, filled, story.attempts.get(), filled.attempts.get()):
        assert key not in str(row.error)
        assert "[密钥]" in str(row.error)
    assert key not in caplog.text
