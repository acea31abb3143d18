"""One odd line in a batch's result: its story alone ends, with a sentence, and its call is settled."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from llm.answers import Answer
from llm.errors import LLMError
from stories.generation import attempts, completion
from stories.generation.batches.lines import Line, read_answer, read_line, split_lines
from stories.models import Attempt, BatchOrder, Run, Story
from stories.runs.lifecycle import count_states
from tests.provider import Provider
from tests.provider.batches import TEXT, body_of, line
from tests.stories.generation.batches.test_steps import advance, begin

pytestmark = pytest.mark.django_db
HUGE = 10**30
COUNTS = [True, 12.5, float("inf"), float("nan"), HUGE, -1, "80", "x", [], {"a": 1}, None]
SEPARATED = "第一段。\u2028第二段。\u2029第三段。\u0085第四段。\x0b第五段。\x0c第六段。\x1c\x1d\x1e第七段。"


@pytest.fixture
def odd_line(provider: Provider) -> Any:
    """`odd_line(status, body)`: the run whose first line is so; `odd_line(raw=…)` takes the bytes, with `%s`."""

    def make(status: Any = 200, body: Any = None, *, raw: bytes = b"", how: str = "completed") -> Run:
        run = begin()
        advance()
        batch = provider.batches.only()
        first, *others = provider.batches.requests(batch["id"])
        good = [line(one, 200, body_of()) for one in others]
        provider.batches.end(batch["id"], how, output=["@", *good], errors=[])
        name = first["custom_id"]
        odd = raw.replace(b"%s", name.encode()) if raw else line(first, status, body).encode()
        file = batch["output_file_id"]
        provider.jobs.contents[file] = provider.jobs.contents[file].replace(b"@", odd, 1)
        assert advance(steps=1).state == "ended"
        run.refresh_from_db()
        written = run.stories.order_by("slot")[1:]
        assert {(story.state, story.text) for story in written} == {("written", TEXT)}
        assert run.reserved == 0
        return run

    return make


def outcome(run: Run) -> tuple[str, str, str]:
    """(state, reason, state of the call) of the story whose line was odd."""
    story = run.stories.order_by("slot")[0]
    return story.state, story.end_reason, story.attempts.get().state


@pytest.mark.both_databases
@pytest.mark.parametrize("value", COUNTS)
def test_a_count_that_cannot_be_keeps_the_text_and_settles_at_the_reservation(
    odd_line: Any, value: Any
) -> None:
    run = odd_line(200, body_of(usage={"prompt_tokens": 100, "completion_tokens": value}))
    assert outcome(run) == ("written", "stop", "complete")
    call = run.stories.order_by("slot")[0].attempts.get()
    assert call.price == call.reserved


@pytest.mark.parametrize("usage", ["many", [1], 7, True])
def test_an_odd_usage_is_none(odd_line: Any, usage: Any) -> None:
    run = odd_line(200, body_of(usage=usage))
    call = run.stories.order_by("slot")[0].attempts.get()
    assert (outcome(run), call.price) == (("written", "stop", "complete"), call.reserved)


def test_a_number_of_thousands_of_digits_is_about_its_own_line(odd_line: Any) -> None:
    body = json.dumps(body_of(usage={"completion_tokens": 0})).replace(": 0", ": " + "9" * 5000)
    raw = f'{{"custom_id": "%s", "response": {{"status_code": 200, "body": {body}}}}}'
    assert outcome(odd_line(raw=raw.encode())) == ("written", "stop", "complete")


@pytest.mark.parametrize("reason", [7, True, None, ["stop"], {"stop": 1}, 1.5])
def test_an_answer_that_came_whole_needs_no_finish_reason(odd_line: Any, reason: Any) -> None:
    run = odd_line(200, body_of(finish=reason))
    assert outcome(run) == ("written", "stop", "complete")
    assert run.stories.order_by("slot")[0].text == TEXT


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("eos", ("written", "stop", "complete")),
        ("END_TURN", ("written", "stop", "complete")),
        ("max_tokens", ("interrupted", "length", "interrupted")),
        ("abort", ("interrupted", "cut", "interrupted")),
    ],
)
def test_an_end_has_many_names(odd_line: Any, word: str, expected: tuple[str, str, str]) -> None:
    run = odd_line(200, body_of(finish=word))
    assert outcome(run) == expected
    assert run.stories.order_by("slot")[0].attempts.get().finish_reason == word


def test_a_refusal_has_its_words(odd_line: Any) -> None:
    body = body_of(None)
    body["choices"][0]["message"]["refusal"] = "我不能写这个。"
    run = odd_line(200, body)
    assert outcome(run) == ("failed", "content_filter", "interrupted")
    assert str(run.stories.order_by("slot")[0].error) == "模型不肯写：我不能写这个。"


@pytest.mark.parametrize("code", ["data_inspection_failed", "content_filter"])
def test_a_request_that_was_declined_is_a_refusal_too(odd_line: Any, code: str) -> None:
    run = odd_line(400, {"error": {"code": code, "message": "inappropriate"}})
    assert outcome(run) == ("failed", "content_filter", "refused")
    assert "inappropriate" in str(run.stories.order_by("slot")[0].error)


@pytest.mark.parametrize("body", [{"object": "error", "message": "busy"}, {"error": {"message": "busy"}}])
def test_an_error_in_a_200_has_its_words(odd_line: Any, body: Any) -> None:
    run = odd_line(200, body)
    assert outcome(run) == ("failed", "refused", "unknown")
    assert str(run.stories.order_by("slot")[0].error) == "模型服务中途报错：busy"
    assert run.stories.order_by("slot")[0].attempts.get().price > 0, "nobody knows whether it was billed"


@pytest.mark.both_databases
@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "\0", "末" * 30_000])
def test_text_that_no_database_keeps_as_it_is(odd_line: Any, text: str) -> None:
    assert outcome(odd_line(200, body_of(text)))[0] == "written"


def test_a_content_in_parts_is_the_text_of_its_parts(odd_line: Any) -> None:
    parts = [{"type": "reasoning", "text": "嗯"}, {"type": "text", "text": "从前"}, "有座山"]
    run = odd_line(200, body_of(parts))
    assert run.stories.order_by("slot")[0].text == "从前有座山"


@pytest.mark.parametrize("content", [7, 1.5, True, {"text": "从前"}, [{"type": "text", "text": 7}]])
def test_a_content_that_is_no_text_ends_that_story_alone(odd_line: Any, content: Any) -> None:
    run = odd_line(200, body_of(content))
    assert outcome(run) == ("failed", "unknown", "unknown")
    story = run.stories.order_by("slot")[0]
    assert str(story.error).startswith("模型服务的回答无法读懂，结果不明：")
    assert story.attempts.get().price == story.attempts.get().reserved


@pytest.mark.parametrize(
    "body", [None, 7, "text", [], {}, {"choices": []}, {"choices": "x"}, {"choices": [7]}, {"choices": [{}]}]
)
def test_a_body_without_an_answer_is_of_unknown_outcome(odd_line: Any, body: Any) -> None:
    assert outcome(odd_line(200, body)) == ("failed", "unknown", "unknown")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"custom_id": "%s"}', ("failed", "unknown", "unknown")),
        (b'{"custom_id": "%s", "response": []}', ("failed", "unknown", "unknown")),
        (b'{"custom_id": "%s", "response": {"status_code": 200, "bo', ("failed", "unknown", "unknown")),
        (b'{"custom_id": "%s", "x": ' + b"[" * 100_000, ("failed", "unknown", "unknown")),
        (b'{"custom_id": "%s", "x": "\xff\xfe"', ("failed", "unknown", "unknown")),
        (b'{"id": 1}', ("failed", "lost", "unknown")),
        (b'{"custom_id": 7, "response": {}}', ("failed", "lost", "unknown")),
        (b'{"custom_id": ["%s"]}', ("failed", "lost", "unknown")),
        (b'{"custom_id": "someone else"}', ("failed", "lost", "unknown")),
        (b"[1, 2]", ("failed", "lost", "unknown")),
        (b"not json", ("failed", "lost", "unknown")),
        (b"\x00\xff", ("failed", "lost", "unknown")),
        (b"   ", ("failed", "lost", "unknown")),
    ],
)
def test_a_line_that_cannot_be_read(odd_line: Any, raw: bytes, expected: tuple[str, str, str]) -> None:
    assert outcome(odd_line(raw=raw)) == expected


@pytest.mark.parametrize("raw", [b"not json", b'{"custom_id": 7}'])
def test_in_a_batch_that_expired_such_a_line_may_be_an_answer_that_was_billed(
    odd_line: Any, raw: bytes
) -> None:
    run = odd_line(raw=raw, how="expired")
    assert outcome(run) == ("failed", "lost", "unknown")
    assert "认不出的行" in str(run.stories.order_by("slot")[0].error)


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
def test_a_request_that_its_batch_never_came_to_waits_again(odd_line: Any, code: str) -> None:
    raw = b'{"custom_id": "%s", "response": null, "error": {"code": "CODE", "message": "not executed"}}'
    run = odd_line(raw=raw.replace(b"CODE", code.encode()), how="expired")
    assert outcome(run) == ("queued", "", "refused")


@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("status", "error", "state"),
    [
        (400, {"message": "a\0b\ud800"}, "failed"),
        (400, "just words", "failed"),
        (400, ["x"], "failed"),
        ("400", {"message": 7}, "failed"),
        (400.0, {"message": {"a": 1}}, "failed"),
        (400, {"message": "x" * 100_000}, "failed"),
        (429, {"message": "slow down"}, "queued"),
        ("503", "overloaded", "queued"),
        (402, {"message": "no balance"}, "queued"),
        (429, {"code": "insufficient_quota", "message": "no money"}, "queued"),
    ],
)
def test_a_refusal_in_any_shape(odd_line: Any, status: Any, error: Any, state: str) -> None:
    run = odd_line(status, {"error": error})
    assert (outcome(run)[0], outcome(run)[2]) == (state, "refused")
    assert run.state == ("paused" if "no " in str(error) else "running" if state == "queued" else "done")


def test_line_separators_stand_in_a_story(odd_line: Any) -> None:
    body = json.dumps(body_of(SEPARATED), ensure_ascii=False)
    raw = f'{{"custom_id": "%s", "response": {{"status_code": 200, "body": {body}}}}}\r'
    run = odd_line(raw=raw.encode())
    assert run.stories.order_by("slot")[0].text == SEPARATED


@pytest.mark.both_databases
@pytest.mark.parametrize("error", [ValueError, OverflowError, TypeError])
def test_a_line_that_the_database_does_not_take_ends_its_story_alone(
    odd_line: Any, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    take_answer = completion.take_answer

    def failing(story: Story, attempt: Attempt, answer: Answer) -> bool:
        taken = take_answer(story, attempt, answer)
        if answer.text == "坏":
            raise error("out of range")
        return taken

    monkeypatch.setattr(completion, "take_answer", failing)
    run = odd_line(200, body_of("坏"))
    assert outcome(run) == ("failed", "unknown", "unknown")
    story = run.stories.order_by("slot")[0]
    assert (story.text, str(story.error)) == ("", "模型服务的回答无法保存，结果不明。")
    assert story.attempts.get().price == story.attempts.get().reserved


@pytest.mark.both_databases
def test_a_count_that_no_column_holds_ends_its_story_alone(
    odd_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database itself says no, if the edge and the ledger let something pass."""
    for guard in ("llm.token_usage.read_count", "stories.generation.attempts._count"):
        monkeypatch.setattr(guard, lambda value: value)
    run = odd_line(200, body_of(usage={"prompt_tokens": HUGE, "completion_tokens": 1}))
    assert outcome(run) == ("failed", "unknown", "unknown")


def test_without_the_guard_one_line_holds_up_all(odd_line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    for guard in ("llm.token_usage.read_count", "stories.generation.attempts._count"):
        monkeypatch.setattr(guard, lambda value: value)
    monkeypatch.setattr(
        "stories.generation.batches.results._conclude", lambda *_: (_ for _ in ()).throw(OverflowError)
    )
    with pytest.raises(OverflowError):
        odd_line(200, body_of(usage={"prompt_tokens": HUGE, "completion_tokens": 1}))
    assert BatchOrder.objects.get().state == "created"


# --- anything at all ------------------------------------------------------------------------------------

ANY = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=9),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(
            some.sampled_from(
                ["choices", "message", "content", "error", "code", "status_code", "body", "usage"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(response=ANY, error=ANY, name=ANY)
def test_whatever_a_line_holds_it_is_an_answer_or_one_of_our_errors(
    response: Any, error: Any, name: Any
) -> None:
    raw = json.dumps({"custom_id": name, "response": response, "error": error}).encode()
    try:
        answer = read_answer(read_line(raw))
    except LLMError as error:
        assert "\0" not in str(error)
        str(error).encode()
        return
    assert isinstance(answer.text, str)
    assert isinstance(answer.finish_reason, str)
    assert answer.prompt_tokens is None or 0 <= answer.prompt_tokens <= 10**9


@settings(max_examples=200, deadline=None)
@given(raw=some.binary(max_size=200))
def test_whatever_bytes_come_they_are_a_line(raw: bytes) -> None:
    assert isinstance(read_line(raw), Line)


@settings(max_examples=200, deadline=None)
@given(content=some.binary(max_size=200), size=some.integers(1, 9))
def test_lines_do_not_depend_on_how_they_arrive(content: bytes, size: int) -> None:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    assert list(split_lines(pieces)) == [part for part in content.split(b"\n") if part.strip()]


def test_the_order_ends_and_each_call_is_billed_once(odd_line: Any) -> None:
    run = odd_line(200, body_of(7))
    whole = attempts.half(attempts.bill(run.language_model, prompt_tokens=100, completion_tokens=20)) or 0
    lost = Attempt.objects.get(state="unknown")
    assert run.spent == 3 * whole + lost.reserved
    assert count_states(run)["written"] == 3
