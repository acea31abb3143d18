"""What servers of the world answer, to both clients over HTTP: how they frame, end, count, refuse and break."""

import threading
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from llm import streams
from stories.generation import streaming
from stories.generation.attempts import bill
from stories.generation.completion import fill
from stories.models import Attempt, Story
from tests.factories import make_model, make_run, make_serving_model, make_story
from tests.provider import Call, Fault, Provider
from tests.provider.scripts import BREAK, DONE, OPEN, chunk, counts, event, events, raw, whole
from tests.servers import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]
PRICED = {"input_price": Decimal(1), "output_price": Decimal(2)}
TEXT = "从前有座山，山里有个少年，和奥特曼一起守着海边的城。"
PIECES = [TEXT[start : start + 5] for start in range(0, len(TEXT), 5)]
STORY = events(*map(chunk, PIECES))
SEPARATED = "第一段。\u2028第二段。\u2029第三段。\u0085第四段。\x0b第五段。\x0c第六段。\x1c\x1d\x1e第七段。"
Write = Callable[[], Story]


@pytest.fixture
def streamed(provider: Provider) -> Write:
    """Writes a reader's story."""

    def write() -> Story:
        story = make_story(state="queued", language_model=make_serving_model(**PRICED))
        streaming.write(story)
        story.refresh_from_db()
        assert len(provider.posts("/v1/chat")) == 1, "never asked again"
        return story

    return write


@pytest.fixture
def filled(provider: Provider) -> Write:
    """Writes a story of a run."""

    def write() -> Story:
        story = make_story(run=make_run(language_model=make_model(**PRICED)), state="queued")
        fill(Story.objects.select_related("run", "language_model", "template").get(pk=story.pk))
        story.refresh_from_db()
        assert len(provider.posts("/v1/chat")) == 1, "never asked again"
        return story

    return write


@pytest.fixture(params=["streamed", "filled"])
def either(request: pytest.FixtureRequest) -> Write:
    write: Write = request.getfixturevalue(request.param)
    return write


def play(provider: Provider, *parts: Any, instead: Any = None) -> None:
    """The story is these bytes, or where it is asked for whole `instead`."""

    def script(call: Call) -> Sequence[Any]:
        return parts if call.body.get("stream") or instead is None else [raw(instead)]

    provider.script = script


def call_of(story: Story) -> Attempt:
    return story.attempts.get()


def is_at_reservation(story: Story) -> bool:
    attempt = call_of(story)
    return attempt.price == attempt.reserved > 0


def assert_written(story: Story, text: str = TEXT, *, word: str = "stop") -> None:
    assert (story.state, story.end_reason, story.text) == ("written", "stop", text)
    assert (call_of(story).state, call_of(story).finish_reason) == ("complete", word)


# --- when an answer ends ----------------------------------------------------------------------------------

ENDS = [
    "stop",
    "eos",
    "eos_token",
    "end_turn",
    "STOP",
    "end",
    "stop_sequence",
    "complete",
    "停止",
    "tool_calls",
]


@pytest.mark.both_databases
@pytest.mark.parametrize("word", ENDS)
def test_a_natural_end_has_many_names(provider: Provider, either: Write, word: str) -> None:
    play(provider, *STORY, *events(chunk("", finish=word)), DONE, instead=whole(TEXT, finish=word))
    assert_written(either(), word=word)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *[("length", "length"), ("max_tokens", "length"), ("MAX_TOKENS", "length")],
        *[
            ("content_filter", "content_filter"),
            ("SAFETY", "content_filter"),
            ("sensitive", "content_filter"),
        ],
        *[("abort", "cut"), ("error", "cut"), ("insufficient_system_resource", "cut")],
    ],
)
def test_other_ends_have_many_names_too(provider: Provider, either: Write, word: str, reason: str) -> None:
    play(provider, *STORY, *events(chunk("", finish=word)), DONE, instead=whole(TEXT, finish=word))
    story = either()
    assert (story.state, story.end_reason, story.text) == ("interrupted", reason, TEXT)
    assert (call_of(story).state, call_of(story).finish_reason) == ("interrupted", word)


@pytest.mark.parametrize("nothing", [None, "", "null", "None"])
def test_done_is_an_end_where_no_finish_reason_is_said(
    provider: Provider, either: Write, nothing: Any
) -> None:
    spoken = events(*(chunk(piece, finish=nothing) for piece in PIECES))
    play(provider, *spoken, DONE, instead=whole(TEXT, finish=nothing))
    assert_written(either(), word="")


def test_a_closed_connection_alone_is_no_end(provider: Provider, streamed: Write) -> None:
    play(provider, *STORY)
    story = streamed()
    assert (story.state, story.end_reason, story.text) == ("interrupted", "cut", TEXT)


@pytest.mark.parametrize(
    "after",
    [
        [*events(chunk(finish="stop")), *events(chunk(usage=counts())), DONE, OPEN],
        [*events(chunk(finish="stop", usage=counts())), OPEN],
        [DONE, OPEN],
        [*events(chunk(finish="stop")), b": keep-alive\n\n", OPEN],
    ],
    ids=["done", "usage", "done alone", "comments"],
)
def test_a_connection_that_stays_open_after_the_end_is_closed(
    provider: Provider, streamed: Write, monkeypatch: pytest.MonkeyPatch, after: Sequence[Any]
) -> None:
    monkeypatch.setattr(streams, "MAX_EPILOGUE", 0.3)
    play(provider, *STORY, *after)
    story = streamed()
    assert (story.state, story.text) == ("written", TEXT)
    (call,) = provider.posts("/v1/chat")
    wait_until(lambda: call.closed_early_at is not None, what="the call is closed")


def test_who_stops_a_story_after_its_end_stops_nothing(
    provider: Provider, streamed: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text is whole; only the connection is still open."""
    monkeypatch.setattr(streams, "MAX_EPILOGUE", 60.0)

    play(provider, *STORY, *events(chunk(finish="stop")), OPEN)
    stories: list[Story] = []
    thread = threading.Thread(target=lambda: stories.append(streamed()))
    thread.start()
    wait_until(lambda: Story.objects.filter(text=TEXT).exists(), what="the text is committed")
    Story.objects.update(stop_requested=True)
    thread.join(30)
    assert_written(stories[0])


def test_usage_that_comes_after_the_end_is_waited_for(provider: Provider, streamed: Write) -> None:
    def late() -> Any:
        yield from STORY
        yield event(chunk(finish="stop"))
        yield from [b": still counting\n\n"] * 20
        yield event({"choices": [], "usage": counts()})
        yield OPEN

    play(provider)
    provider.script = lambda _call: late()
    assert_written(story := streamed())
    assert (call_of(story).prompt_tokens, call_of(story).completion_tokens) == (100, 20)


@pytest.mark.parametrize(
    "after",
    [
        [BREAK],
        [b"data: {not json\n\n"],
        events({"error": {"message": "The client left"}}),
        events(chunk("多余的字")),
        [b"<html>502</html>"],
        [b"event: error\ndata: too late\n\n", DONE],
    ],
    ids=["reset", "garbage", "error", "text", "html", "error event"],
)
def test_what_comes_after_the_end_matters_no_more(
    provider: Provider, either: Write, after: Sequence[Any]
) -> None:
    play(provider, *STORY, *events(chunk("", finish="stop"), {"choices": [], "usage": counts()}), *after)
    story = either()
    assert_written(story)
    assert call_of(story).price == bill(story.model, prompt_tokens=100, completion_tokens=20)


# --- framing ----------------------------------------------------------------------------------------------


def framed(said: Any) -> bytes:
    return b"event: message\r\nid: 7\r\ndata:" + raw(said) + b"\r\n\r\n"


def halves(data: bytes) -> list[bytes]:
    return [data[: len(data) // 2], data[len(data) // 2 :]]


def repeating() -> list[bytes]:
    """Each event repeats in `message` all that was said; keep-alive comments stand between them."""
    parts: list[bytes] = [b": PROCESSING\r\n\r\n", framed({"choices": [], "prompt_filter_results": []})]
    parts.append(framed(chunk(role="assistant", content=None)))
    for count, piece in enumerate(PIECES, 1):
        said = chunk(piece)
        said["choices"][0]["message"] = {"role": "assistant", "content": "".join(PIECES[:count])}
        parts += [*halves(framed(said)), b": keep-alive\r\n\r\n"]
    end = chunk(finish="stop")
    end["choices"][0] |= {"delta": None, "message": {"role": "assistant", "content": TEXT}}
    return [*parts, framed(end), framed({"choices": None, "usage": counts()}), b"data:[DONE]\r\n\r\n"]


def cumulative() -> list[bytes]:
    """No delta at all: each event's message is the text so far."""
    so_far = ["".join(PIECES[:count]) for count in range(1, len(PIECES) + 1)]
    return [*events(*({"choices": [{"message": {"content": text}}]} for text in so_far)), DONE]


END = [*events(chunk("", finish="stop", usage=counts())), DONE]
PRETTY = (
    b"\n".join(b"data: " + line for line in raw(chunk(TEXT)).replace(b"{", b"{\n").split(b"\n")) + b"\n\n"
)
FRAMINGS: dict[str, list[bytes]] = {
    "empty events": [b"data:\n\n", *STORY[:2], b"data: \n\n", b"data:\n\n", *STORY[2:], b"\n\n\n", *END],
    "CRLF, comments, ids, message repeated": repeating(),
    "the text so far in each message": cumulative(),
    "CR alone": [part.replace(b"\n", b"\r") for part in (*STORY, *END)],
    "no blank lines": [part.replace(b"\n\n", b"\n") for part in (*STORY, *END)],
    "an event of many data lines": [PRETTY, *END],
    "many data lines with CRLF": [PRETTY.replace(b"\n", b"\r\n"), *END],
    "a byte order mark": [b"\xef\xbb\xbf", *STORY, *END],
    "byte by byte": [bytes([byte]) for byte in b"".join([*STORY, *END])],
    "all at once": [b"".join([*STORY, *END])],
    "heartbeats of JSON": [
        *events({"type": "ping"}, {}),
        *STORY,
        *events({"message": "still here"}, {"choices": []}),
        *END,
    ],
    "retry and unknown fields": [b"retry: 3000\n\nid\n\n", *STORY, *END],
    "JSON lines without events": [raw(chunk(piece)) + b"\n" for piece in PIECES]
    + [raw(chunk(finish="stop"))],
    "a JSON answer": [raw(whole(TEXT, usage=counts()))],
    "a JSON answer on many lines": [b"\n" + raw(whole(TEXT, usage=counts())).replace(b",", b",\r\n\n")],
    "a JSON answer as an event": [*events(whole(TEXT, usage=counts())), DONE],
    "a JSON answer as an event, no [DONE]": events(whole(TEXT)),
    "text of a legacy page": [*events(*({"choices": [{"text": piece}]} for piece in PIECES)), DONE],
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_story_is_read_exactly_in_every_framing(provider: Provider, either: Write, framing: str) -> None:
    """Also where whole answers were asked for: some models only stream."""
    play(provider, *FRAMINGS[framing])
    story = either()
    assert (story.state, story.text) == ("written", TEXT)


def test_a_json_answer_to_a_stream_may_lack_its_finish_reason(provider: Provider, streamed: Write) -> None:
    play(provider, raw(whole(TEXT, finish=None, usage=counts())))
    story = streamed()
    assert_written(story, word="")
    assert call_of(story).price == bill(story.model, prompt_tokens=100, completion_tokens=20)


def test_characters_that_end_lines_elsewhere_stand_in_a_story(provider: Provider, either: Write) -> None:
    body = raw(whole(SEPARATED)).replace(b"\\u000b", b"\\u000B")
    play(provider, *events(*map(chunk, SEPARATED), chunk(finish="stop")), DONE, instead=body)
    assert_written(either(), SEPARATED)


# --- counts -----------------------------------------------------------------------------------------------

IN_CHOICE = chunk("", finish="stop", choice={"usage": counts()})
COUNTED: dict[str, list[bytes]] = {
    "in the last event": [*STORY, *events(chunk("", finish="stop", usage=counts()))],
    "inside the choice": [*STORY, *events(IN_CHOICE)],
    "inside the delta": [*STORY, *events(chunk("", finish="stop", **{"usage": counts()}))],
    "in an event of its own": [*STORY, *events(chunk("", finish="stop"), {"choices": [], "usage": counts()})],
    "in x_groq": [*STORY, *events(chunk("", finish="stop") | {"x_groq": {"usage": counts()}})],
    "in each, growing": [
        *events(*(chunk(piece, usage=counts(100, n)) for n, piece in enumerate(PIECES))),
        *events(chunk("", finish="stop", usage=counts())),
    ],
    "before the end": [*STORY, *events({"choices": [], "usage": counts()}, chunk("", finish="stop"))],
    "under other names": [
        *STORY,
        *events(chunk("", finish="stop", usage={"input_tokens": 100, "output_tokens": 20})),
    ],
    "as whole floats": [*STORY, *events(chunk("", finish="stop", usage=counts(100.0, 20.0)))],
}


@pytest.mark.both_databases
@pytest.mark.parametrize("place", COUNTED)
def test_counts_are_found_wherever_they_stand(provider: Provider, either: Write, place: str) -> None:
    play(provider, *COUNTED[place], DONE)
    story = either()
    assert_written(story)
    assert (call_of(story).prompt_tokens, call_of(story).completion_tokens) == (100, 20)
    assert call_of(story).price == bill(story.model, prompt_tokens=100, completion_tokens=20)


@pytest.mark.parametrize(
    "last",
    [counts(101.5, 26.25), counts("101", "26"), counts(1151, -35), counts(100, 0), "26", counts([], {})],
)
def test_a_last_count_that_cannot_be_true_takes_the_place_of_those_before(
    provider: Provider, either: Write, last: Any
) -> None:
    growing = events(*(chunk(piece, usage=counts(100, n)) for n, piece in enumerate(PIECES, 1)))
    play(provider, *growing, *events(chunk("", finish="stop", usage=last)), DONE)
    story = either()
    assert_written(story)
    assert is_at_reservation(story)


# --- errors inside a 200 ----------------------------------------------------------------------------------

BUSY = "The model is overloaded: engine queue is full."
ERROR = {"object": "error", "message": BUSY, "type": "ServiceUnavailable", "param": None, "code": 503}
SHAPES: dict[str, bytes] = {
    "vLLM": event(ERROR) + DONE,
    "OpenAI": event({"error": {"message": BUSY, "type": "server_error"}}),
    "OpenRouter": event(chunk("", finish="error") | {"error": {"code": 502, "message": BUSY}}),
    "words": event({"error": BUSY}),
    "百炼": event({"code": "InternalError", "message": BUSY, "request_id": "1"}),
    "MiniMax": event({"choices": None, "base_resp": {"status_code": 1004, "status_msg": BUSY}}),
    "FastAPI": event({"detail": BUSY}),
    "an error in an error": event({"error": {"error": {"message": BUSY}}}),
    "named error": b"event: error\ndata: " + raw({"message": BUSY}) + b"\n\n",
    "named error, words": b"event:error\r\ndata: " + BUSY.encode() + b"\r\n\r\n",
    "bare": raw(ERROR) + b"\n",
    "bare, on many lines": raw(ERROR).replace(b",", b",\n"),
}


@pytest.mark.both_databases
@pytest.mark.parametrize("shape", SHAPES)
def test_an_error_inside_a_200_fails_with_the_providers_words(
    provider: Provider, either: Write, shape: str
) -> None:
    play(provider, SHAPES[shape])
    story = either()
    assert (story.state, story.end_reason, story.text) == ("failed", "refused", "")
    assert str(story.error) == f"模型服务中途报错：{BUSY}"
    assert call_of(story).state == Attempt.State.UNKNOWN, "nobody knows whether it was billed"
    assert is_at_reservation(story)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "bare, on many lines"])
def test_an_error_in_the_middle_keeps_the_text_and_the_words(
    provider: Provider, streamed: Write, shape: str
) -> None:
    play(provider, *STORY, SHAPES[shape])
    story = streamed()
    assert (story.state, story.end_reason, story.text) == ("interrupted", "cut", TEXT)
    assert str(story.error) == f"模型服务中途报错：{BUSY}"
    assert call_of(story).state == Attempt.State.INTERRUPTED
    assert is_at_reservation(story)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "模型服务的回答是空的。"),
        (b"\n\n: keep-alive\n\n", "模型服务的回答是空的。"),
        (
            b"<html><body><h1>502</h1>Bad gateway</body></html>",
            "模型服务没有回答故事，而是说：502 Bad gateway",
        ),
        (b"upstream timed out", "模型服务没有回答故事，而是说：upstream timed out"),
    ],
)
def test_a_200_without_an_event_is_final(provider: Provider, either: Write, body: bytes, words: str) -> None:
    play(provider, body)
    story = either()
    assert (story.state, story.end_reason, str(story.error)) == ("failed", "refused", words)
    assert call_of(story).state == Attempt.State.UNKNOWN
    assert is_at_reservation(story)


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"message": "no"}, {"id": 7}, {"choices": [{}]}])
def test_json_that_is_no_answer_is_an_unknown_outcome(provider: Provider, either: Write, body: Any) -> None:
    play(provider, raw(body))
    story = either()
    assert (story.state, story.end_reason) == ("failed", "unknown")
    assert raw(body).decode().replace('"', "'") in str(story.error), "its words are kept"
    assert is_at_reservation(story)


def test_a_legacy_page_is_read_the_same(provider: Provider) -> None:
    model = make_serving_model(**PRICED, prompt_style="completion", stop=" END")
    spoken = [{"choices": [{"text": piece, "finish_reason": None}]} for piece in PIECES]
    end = {"choices": [{"text": "", "finish_reason": "eos_token"}], "usage": counts()}
    play(
        provider,
        *events(*spoken, end),
        OPEN,
        instead=end | {"choices": [{"text": TEXT, "finish_reason": "eos"}]},
    )
    reader, run = make_story(state="queued", language_model=model), make_run(language_model=model)
    streaming.write(reader)
    fill(make_story(run=run, state="queued"))
    for story in Story.objects.all():
        assert (story.state, story.text, call_of(story).completion_tokens) == ("written", TEXT, 20)
    assert {call.path for call in provider.posts()} == {"/v1/completions"}


def test_words_without_framing_in_the_middle_say_why_it_ended(provider: Provider, streamed: Write) -> None:
    play(provider, *STORY, b"upstream connect error\n")
    story = streamed()
    assert (story.state, story.end_reason, story.text) == ("interrupted", "cut", TEXT)
    assert "upstream connect error" in str(story.error)


# --- refusals ---------------------------------------------------------------------------------------------

NO = "抱歉，这个请求我不能帮忙写。"
DECLINES: dict[str, tuple[list[bytes], Any]] = {
    "refusal": (
        [*events(chunk("", refusal=None), *(chunk(refusal=c) for c in NO), chunk(finish="stop")), DONE],
        whole(None, refusal=NO),
    ),
    "refusal, without end": ([*events(chunk(refusal=NO)), DONE], whole("", refusal=NO, finish=None)),
    "parts": (
        [*events(chunk([{"type": "refusal", "refusal": NO}]), chunk(finish="stop")), DONE],
        whole([{"type": "refusal", "refusal": NO}]),
    ),
    "百炼": (
        events({"error": {"code": "data_inspection_failed", "message": NO}}),
        {"error": {"code": "data_inspection_failed", "message": NO}},
    ),
    "百炼's own page": (
        events({"code": "DataInspectionFailed", "message": NO}),
        {"code": "DataInspectionFailed", "message": NO},
    ),
}


@pytest.mark.both_databases
@pytest.mark.parametrize("shape", DECLINES)
def test_a_refusal_ends_with_the_models_words(provider: Provider, either: Write, shape: str) -> None:
    parts, body = DECLINES[shape]
    play(provider, *parts, instead=body)
    story = either()
    assert (story.state, story.end_reason, story.text) == ("failed", "content_filter", "")
    assert str(story.error) == f"模型不肯写：{NO}"
    assert call_of(story).state == Attempt.State.INTERRUPTED
    assert is_at_reservation(story)


DECLINING = [
    ("data_inspection_failed", "Output data may contain inappropriate content."),
    ("content_filter", "The response was filtered due to Azure OpenAI's content management policy."),
    ("content_policy_violation", "Your request was rejected as a result of our safety system."),
    ("invalid_request_error", "Content Exists Risk"),
    ("1301", "系统检测到输入或生成内容可能包含不安全或敏感内容"),
]


@pytest.mark.parametrize(("code", "words"), DECLINING)
def test_a_400_that_declines_is_a_refusal_and_costs_nothing(
    provider: Provider, either: Write, code: str, words: str
) -> None:
    provider.always(Fault.BAD_REQUEST, code=code, message=words)
    story = either()
    assert (story.state, story.end_reason) == ("failed", "content_filter")
    assert words in str(story.error)
    assert (call_of(story).state, call_of(story).price) == ("refused", 0)


def test_another_400_is_no_refusal_of_the_model(provider: Provider, either: Write) -> None:
    provider.always(Fault.BAD_REQUEST, message="max_tokens is too large: sensible values are below 4096")
    assert either().end_reason == "refused"


@pytest.mark.parametrize("reason", ["content_filter", "refused"])
def test_a_reader_reads_in_which_words_the_model_declined(
    provider: Provider, streamed: Write, client: Client, reason: str
) -> None:
    play(provider, *(DECLINES["refusal"][0] if reason == "content_filter" else [event({"error": BUSY})]))
    story = streamed()
    Story.objects.update(visibility="link")
    page = client.get(story.get_absolute_url()).content.decode()
    assert story.end_reason == reason
    assert (NO in page, BUSY in page) == (reason == "content_filter", False)


def test_a_filter_in_the_middle_names_what_it_found(provider: Provider, either: Write) -> None:
    found = {"hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False}}
    more = {"content_filter_results": found}
    end = chunk(finish="content_filter", choice=more)
    play(provider, *STORY, *events(end), DONE, instead=whole(TEXT, finish="content_filter", choice=more))
    story = either()
    assert (story.state, story.end_reason, story.text) == ("interrupted", "content_filter", TEXT)
    assert str(story.error) == "模型不肯写：hate"


def test_a_run_pauses_after_ten_refusals_and_says_why(provider: Provider) -> None:
    play(provider, raw(whole(None, refusal=NO)))
    run = make_run(language_model=make_model(**PRICED))
    for _ in range(15):
        make_story(run=run, state="queued")
    for story in run.stories.all():
        fill(Story.objects.select_related("run", "language_model", "template").get(pk=story.pk))
    run.refresh_from_db()
    assert (run.state, len(provider.posts("/v1/chat"))) == ("paused", 10)
    assert NO in str(run.pause_reason)


# --- thinking ---------------------------------------------------------------------------------------------

THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "先想一想。"}]}
THOUGHTS: dict[str, dict[str, Any]] = {
    "reasoning_content": {"reasoning_content": "先想一想。"},
    "reasoning": {"reasoning": "先想一想。"},
    "both": {"reasoning": "先想一想。", "reasoning_content": "先想一想。"},
    "parts": {"content": [THOUGHT]},
    "odd": {"reasoning_content": {"a": 7}},
}


@pytest.mark.parametrize("shape", THOUGHTS)
def test_thinking_that_is_told_apart_is_no_story(provider: Provider, either: Write, shape: str) -> None:
    thought = THOUGHTS[shape]
    parts = [{"type": "text", "text": piece} for piece in PIECES]
    spoken = events(chunk(**thought), *(chunk([part]) for part in parts), chunk("", finish="stop"))
    message = {**thought, "content": [*thought.get("content", []), *parts]}
    play(provider, *spoken, DONE, instead=whole(**message))
    assert_written(either())
