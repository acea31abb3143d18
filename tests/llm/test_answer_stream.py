"""Whatever bytes come, and however they are cut: the same answer, or one of our errors."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from llm.answer_stream import AnswerReader
from llm.answers import Answer, join, read_whole
from llm.declines import is_declined
from llm.errors import FailedAnswer, LLMError, OutcomeUnknown
from llm.finish_reasons import read_finish_reason
from llm.token_usage import TokenUsage, read_count, read_usage
from tests.provider.scripts import DONE, chunk, counts, event, events, raw, whole


def read(*parts: bytes) -> Answer:
    reader = AnswerReader()
    return join([*(piece for part in parts for piece in reader.feed(part)), *reader.close()])


def test_thinking_is_told_apart_and_joined() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "二。"}]}
    said = [
        chunk(reasoning_content="一。"),
        chunk([thought, {"type": "text", "text": "从前"}]),
        chunk("有座山"),
    ]
    answer = read(*events(*said, chunk(finish="stop")), DONE)
    assert (answer.thinking, answer.text, answer.finish_reason) == ("一。二。", "从前有座山", "stop")


def test_a_whole_answer_is_read_as_its_stream_is() -> None:
    body = whole("从前", finish="eos", usage=counts(), reasoning="想。")
    assert read(raw(body)) == read_whole(body)
    assert read_whole(body) == Answer(
        "从前", "stop", finish_word="eos", thinking="想。", prompt_tokens=100, completion_tokens=20
    )


USAGES: list[tuple[dict[str, Any], TokenUsage]] = [
    (
        counts(
            prompt_tokens_details={"cached_tokens": 64}, completion_tokens_details={"reasoning_tokens": 7}
        ),
        TokenUsage(100, 20, cached=64, reasoning=7),
    ),
    (counts(prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36), TokenUsage(100, 20, cached=64)),
    (counts(cached_tokens=64), TokenUsage(100, 20, cached=64)),
    (
        {"input_tokens": 100, "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 7}},
        TokenUsage(100, 20, reasoning=7),
    ),
    ({"input_tokens": 3, "output_tokens": 20, "cache_read_input_tokens": 900}, TokenUsage(3, 20)),
    (counts(prompt_tokens_details={"cached_tokens": -1}), TokenUsage(100, 20)),
    (counts(prompt_tokens_details=7, completion_tokens_details=["x"]), TokenUsage(100, 20)),
]


@pytest.mark.parametrize(("usage", "expected"), USAGES, ids=str)
def test_cached_and_thought_tokens_stand_in_many_places(usage: dict[str, Any], expected: TokenUsage) -> None:
    assert read_usage(usage) == expected


@pytest.mark.parametrize(
    ("value", "count"),
    [(0, 0), (7, 7), (7.0, 7), (7.5, None), ("7", None), (-1, None), (True, None), (1e30, None)],
)
def test_a_count_is_a_whole_number_that_can_be(value: Any, count: int | None) -> None:
    assert read_count(value) == count


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("stop", ("stop", "stop")),
        ("End-Turn", ("stop", "End-Turn")),
        ("max-tokens", ("length", "max-tokens")),
        ("network_error", ("", "network_error")),
        ("null", ("", "")),
        (None, ("", "")),
        (False, ("", "")),
        (7, ("", "7")),
        ("长" * 100, ("stop", "长" * 39 + "…")),
    ],
)
def test_a_finish_reason_is_one_of_three_or_none(value: Any, expected: tuple[str, str]) -> None:
    assert read_finish_reason(value) == expected


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        ("data_inspection_failed", "", True),
        ("content_filter invalid_request_error", "", True),
        ("ResponsibleAIPolicyViolation", "", True),
        ("1301", "", True),
        ("13010", "", False),
        ("invalid_request_error", "Content Exists Risk", True),
        ("invalid_request_error", "max_tokens is too large", False),
        ("context_length_exceeded", "", False),
        ("", "", False),
    ],
)
def test_what_declines_is_told_from_what_is_wrong(code: str, words: str, expected: bool) -> None:
    assert is_declined(code, words) is expected


def test_a_text_without_end_is_not_kept() -> None:
    reader = AnswerReader()
    with pytest.raises(OutcomeUnknown):
        for _ in range(100):
            list(reader.feed(b"data: " + b"x" * 100_000))


def test_an_event_of_lines_without_end_is_not_kept() -> None:
    reader = AnswerReader()
    with pytest.raises(OutcomeUnknown):
        for _ in range(100):
            list(reader.feed(b"data: {" + b"x" * 100_000 + b"\n"))


def test_lines_that_are_no_events_are_not_kept() -> None:
    reader = AnswerReader()
    for _ in range(100):
        assert list(reader.feed(b"x" * 100_000 + b"\n")) == []
    with pytest.raises(FailedAnswer) as caught:
        list(reader.close())
    assert len(str(caught.value)) < 300


def test_nesting_that_python_cannot_write_is_one_of_our_errors() -> None:
    for depth in (500, 990, 1_000, 100_000):
        with pytest.raises(OutcomeUnknown):
            read(event(b"[" * depth + b"]" * depth))


# --- anything at all ----------------------------------------------------------------------------------------

NAMES = [
    *("choices", "delta", "message", "content", "text", "type", "thinking", "reasoning_content", "refusal"),
    *(
        "finish_reason",
        "usage",
        "prompt_tokens",
        "completion_tokens",
        "prompt_tokens_details",
        "error",
        "object",
    ),
    *("code", "content_filter_results", "x_groq", "detail"),
]
VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=9),
    lambda inner: (
        some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=15,
)
EVENTS = VALUES | some.fixed_dictionaries(
    {"choices": some.lists(some.fixed_dictionaries({"delta": VALUES, "finish_reason": VALUES}), max_size=2)},
    optional={"usage": VALUES, "error": VALUES},
)


def check(answer: Answer) -> None:
    for words in (answer.text, answer.thinking, answer.refusal, answer.finish_word, answer.odd_usage):
        assert isinstance(words, str)
    assert answer.finish_reason in ("stop", "length", "content_filter", "")
    for count in (
        *(answer.prompt_tokens, answer.completion_tokens),
        *(answer.cached_tokens, answer.reasoning_tokens),
    ):
        assert count is None or (type(count) is int and 0 <= count <= 10**9)


@settings(max_examples=400, deadline=None)
@given(said=some.lists(EVENTS, max_size=4))
def test_whatever_json_comes_it_is_an_answer_or_one_of_our_errors(said: list[Any]) -> None:
    for parts in (events(*said), [json.dumps(one).encode() + b"\n" for one in said]):
        try:
            check(read(*parts))
        except LLMError as error:
            assert 0 < len(str(error)) <= 1000
            assert "\0" not in str(error)


@settings(max_examples=300, deadline=None)
@given(
    body=some.binary(max_size=200)
    | some.lists(some.sampled_from([b"data: {}", b"\n", b"\r", b"{", b"[DONE]", b":"])).map(b"".join)
)
def test_whatever_bytes_come_they_are_an_answer_or_one_of_our_errors(body: bytes) -> None:
    try:
        check(read(body))
    except LLMError as error:
        assert 0 < len(str(error)) <= 1000


def outcome(parts: list[bytes]) -> tuple[Answer | None, str]:
    try:
        return read(*parts), ""
    except LLMError as error:
        return None, str(error)


@settings(max_examples=300, deadline=None)
@given(
    said=some.lists(
        some.sampled_from(
            [
                *events(chunk("从前"), chunk("有\u2028座山", finish="stop"), {"error": "忙"}),
                DONE,
                b": c\r\n\r\n",
            ]
        )
    ),
    newline=some.sampled_from([b"\n", b"\r\n", b"\r"]),
    size=some.integers(1, 40),
)
def test_an_answer_does_not_depend_on_how_its_bytes_arrive(
    said: list[bytes], newline: bytes, size: int
) -> None:
    body = b"".join(said).replace(b"\r\n", b"\n").replace(b"\n", newline)
    assert outcome([body[start : start + size] for start in range(0, len(body), size)]) == outcome([body])
