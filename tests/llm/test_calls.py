"""What each answer of a provider means to us, over real HTTP with the real SDK."""

import asyncio
import logging
import time

import pytest
from django.core.exceptions import ImproperlyConfigured

from llm import calls, clients, streams
from llm.answers import Answer
from llm.endpoints import NO_KEY, Endpoint, read_endpoints
from llm.errors import (
    FailedAnswer,
    LLMError,
    OutcomeUnknown,
    OutOfMoney,
    Refused,
    ServerFailed,
    TryAgainLater,
)
from llm.event_stream import LineSplitter
from llm.questions import Ask
from llm.retry import retry_rate_limited
from tests.environment import free_port
from tests.provider import CHAT, COMPLETIONS, Fault
from tests.provider.scripts import BREAK, chunk, event, events
from tests.servers import wait_until

SECRET = "sk-secret-of-the-tests"
ASK = Ask(
    model="base-zh",
    messages=({"role": "user", "content": "宋,发射激光,艰难"},),
    prompt="",
    stop="",
    temperature=0.5,
    max_tokens=2048,
)
PROMPT = Ask(
    model="ft:1",
    messages=(),
    prompt="宋,发射激光,艰难 ->",
    stop=" END",
    temperature=0.7,
    max_tokens=2000,
)


async def read(ask: Ask = ASK) -> list[Answer]:
    async with clients.async_client("default", limit=2) as api:
        return [piece async for piece in streams.stream(api, ask)]


async def read_until_error() -> tuple[str, LLMError | None]:
    """The text that came, and our error that ended it."""
    text = ""
    try:
        async with clients.async_client("default", limit=2) as api:
            async for piece in streams.stream(api, ASK):
                text += piece.text
    except LLMError as error:
        return text, error
    return text, None


# --- whole answers --------------------------------------------------------------------------------------


def test_a_chat_answer_arrives_whole_with_its_usage(provider):
    answer = calls.complete("default", ASK)

    counts = {"prompt_tokens": 9, "completion_tokens": len(provider.text)}
    assert answer == Answer(provider.text, "stop", finish_word="stop", **counts)
    (call,) = provider.posts()
    assert call.path == CHAT
    assert call.key == SECRET
    assert call.body == {
        "model": "base-zh",
        "messages": [{"role": "user", "content": "宋,发射激光,艰难"}],
        "temperature": 0.5,
        "max_tokens": 2048,
        "top_p": 1,
    }


def test_a_legacy_prompt_goes_to_completions_with_its_stop_string(provider):
    answer = calls.complete("default", PROMPT)

    assert answer.text == provider.text
    (call,) = provider.posts()
    assert call.path == COMPLETIONS
    assert call.body == {
        "model": "ft:1",
        "prompt": "宋,发射激光,艰难 ->",
        "stop": [" END"],
        "temperature": 0.7,
        "max_tokens": 2000,
        "top_p": 1,
    }


FAULTS = [
    (Fault.RATE_LIMIT, TryAgainLater, 429),
    (Fault.QUOTA, OutOfMoney, 429),
    (Fault.BAD_REQUEST, Refused, 400),
    (Fault.UNAUTHORIZED, Refused, 401),
    (Fault.FORBIDDEN, Refused, 403),
    (Fault.NOT_FOUND, Refused, 404),
    (Fault.SERVER_ERROR, ServerFailed, 500),
    (Fault.HTML, FailedAnswer, None),
    (Fault.GARBAGE, OutcomeUnknown, None),
    (Fault.RESET, OutcomeUnknown, None),
    (Fault.DONE_BUT_500, ServerFailed, 500),
    (Fault.DONE_BUT_HTML, FailedAnswer, None),
    (Fault.DONE_BUT_RESET, OutcomeUnknown, None),
]


@pytest.mark.parametrize(("fault", "kind", "status"), FAULTS, ids=[fault.name for fault, _, _ in FAULTS])
def test_each_fault_becomes_one_decision_and_the_sdk_never_asks_twice(provider, fault, kind, status):
    provider.always(fault)

    with pytest.raises(LLMError) as caught:
        calls.complete("default", ASK)

    assert type(caught.value) is kind
    assert caught.value.status == status
    assert len(provider.posts()) == 1


def test_the_sdk_by_itself_would_ask_three_times(provider):
    """Negative control of the test above: the ledger does see the SDK's own retries."""
    provider.always(Fault.RATE_LIMIT, retry_after_ms=1)

    with (
        pytest.raises(calls.openai.RateLimitError),
        clients.client("default").with_options(max_retries=2) as api,
    ):
        api.chat.completions.create(**ASK.parameters())

    assert len(provider.posts()) == 3


def test_a_silent_provider_is_an_unknown_outcome(provider, monkeypatch):
    monkeypatch.setattr(clients, "READ_TIMEOUT", 0.3)
    clients.client.cache_clear()
    provider.next(Fault.HANG)

    with pytest.raises(OutcomeUnknown, match="没有在限定时间内回答"):
        calls.complete("default", ASK)

    assert len(provider.posts()) == 1


def test_a_closed_port_is_try_again_later_and_names_the_address(settings):
    port = free_port()
    settings.LLM_ENDPOINTS = {"default": Endpoint("default", f"http://127.0.0.1:{port}/v1", "none")}
    clients.client.cache_clear()

    with pytest.raises(TryAgainLater, match=f"127.0.0.1:{port}") as caught:
        calls.complete("default", ASK)

    assert caught.value.retry_after is None


async def test_a_closed_port_is_try_again_later_for_a_stream_too(settings):
    address = f"http://127.0.0.1:{free_port()}/v1"
    settings.LLM_ENDPOINTS = {"default": Endpoint("default", address, "none")}

    text, error = await read_until_error()

    assert (text, type(error)) == ("", TryAgainLater)


def test_an_unknown_endpoint_is_refused_by_name(provider):
    with pytest.raises(Refused, match="LLM_ENDPOINT_ELSEWHERE"):
        calls.complete("elsewhere", ASK)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [({"retry_after": 7}, 7.0), ({"retry_after_ms": 250}, 0.25), ({}, None), ({"retry_after": "soon"}, None)],
)
def test_the_provider_says_how_long_to_wait(provider, options, seconds):
    provider.next(Fault.RATE_LIMIT, **options)

    with pytest.raises(TryAgainLater) as caught:
        calls.complete("default", ASK)

    assert caught.value.retry_after == seconds


# --- waiting --------------------------------------------------------------------------------------------


def test_a_retry_waits_as_long_as_the_provider_says(provider):
    provider.next(Fault.RATE_LIMIT, times=2, retry_after_ms=400)

    answer = retry_rate_limited(lambda: calls.complete("default", ASK))

    first, second, third = provider.posts()
    assert answer.text == provider.text
    assert second.at - first.answered_at >= 0.4
    assert third.at - second.answered_at >= 0.4


def test_retries_end(provider):
    provider.always(Fault.RATE_LIMIT, retry_after_ms=200)
    began = time.monotonic()

    with pytest.raises(TryAgainLater):
        retry_rate_limited(lambda: calls.complete("default", ASK), max_seconds=1)

    assert time.monotonic() - began < 20
    assert 1 <= len(provider.posts()) <= 6


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.QUOTA, Fault.FORBIDDEN, Fault.RESET])
def test_only_rate_limits_are_retried(provider, fault):
    provider.always(fault)

    with pytest.raises(LLMError):
        retry_rate_limited(lambda: calls.complete("default", ASK))

    assert len(provider.posts()) == 1


# --- streams --------------------------------------------------------------------------------------------


async def test_a_stream_brings_pieces_then_the_reason_then_the_usage(provider):
    provider.pieces = ["从前，", "有一位", "铸剑师。"]

    pieces = await read()

    assert [piece.text for piece in pieces if piece.text] == ["从前，", "有一位", "铸剑师。"]
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["stop"]
    assert pieces[-1].completion_tokens == len("从前，有一位铸剑师。")
    (call,) = provider.posts()
    assert call.body["stream"] is True and call.body["stream_options"] == {"include_usage": True}


def test_a_line_ends_at_a_newline_and_at_nothing_else_that_text_may_hold():
    """U+2028, NEL and form feed are characters of a story; readers of text lines cut there."""
    sent = 'data: {"a": "一\u2028二\x85三\x0c四"}\r\n\r\ndata: [DONE]'.encode()

    splitter = LineSplitter()
    lines = [line for start in range(0, len(sent), 3) for line in splitter.feed(sent[start : start + 3])]
    lines += splitter.finish()
    assert b"\n".join(lines) == sent
    assert [line.strip() for line in lines] == [sent[:-16], b"", b"data: [DONE]"]


async def test_a_legacy_stream_reads_the_same(provider):
    provider.pieces = ["从前，", "有一位"]

    pieces = await read(PROMPT)

    assert "".join(piece.text for piece in pieces) == "从前，有一位"
    assert provider.posts()[0].path == COMPLETIONS


async def test_split_surrogates_and_nuls_pass_as_they_came(provider):
    """Joining and replacing is the writer's business: it alone sees both halves."""
    provider.pieces = ["龙", "\ud83d", "\udc09", "\x00"]

    pieces = await read()

    assert [piece.text for piece in pieces if piece.text] == ["龙", "\ud83d", "\udc09", "\x00"]


@pytest.mark.parametrize(
    ("fault", "text", "kind"),
    [
        (Fault.GARBAGE, "一二", OutcomeUnknown),
        (Fault.ERROR_EVENT, "一二", FailedAnswer),
        (Fault.RESET, "一二", OutcomeUnknown),
        (Fault.RATE_LIMIT, "", TryAgainLater),
        (Fault.QUOTA, "", OutOfMoney),
        (Fault.SERVER_ERROR, "", ServerFailed),
        (Fault.NOT_FOUND, "", Refused),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_a_broken_stream_keeps_its_text_and_raises_ours(provider, fault, text, kind):
    provider.pieces = ["一", "二", "三", "四"]
    provider.next(fault)

    got, error = await read_until_error()

    assert (got, type(error)) == (text, kind)
    assert len(provider.posts()) == 1


async def test_an_error_event_says_the_providers_words(provider):
    provider.next(Fault.ERROR_EVENT)

    _, error = await read_until_error()

    assert str(error) == "模型服务中途报错：The model is overloaded"


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [(Fault.NO_FINISH, []), (Fault.LENGTH, ["length"]), (Fault.CONTENT_FILTER, ["content_filter"])],
)
async def test_only_the_provider_says_that_a_story_is_complete(provider, fault, reasons):
    provider.next(fault)

    pieces = await read()

    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == reasons
    assert "".join(piece.text for piece in pieces) == provider.text


@pytest.mark.parametrize("after", [BREAK, b"data: {not json\n\n", event({"error": "late"})])
async def test_a_break_after_the_end_raises_nothing(provider, after):
    provider.script = lambda _call: [*events(chunk("从前", finish="stop")), after]

    text, error = await read_until_error()

    assert (text, error) == ("从前", None)


async def test_an_html_page_instead_of_a_stream_brings_nothing(provider):
    provider.next(Fault.HTML)

    text, _ = await read_until_error()

    assert text == ""


async def test_a_silent_stream_is_an_unknown_outcome(provider, monkeypatch):
    monkeypatch.setattr(clients, "READ_TIMEOUT", 0.3)
    provider.next(Fault.STALL, after=1)

    text, error = await read_until_error()

    assert (text, type(error)) == (provider.text[:4], OutcomeUnknown)


async def test_who_stops_reading_closes_the_call(provider):
    provider.delay = 0.02
    async with clients.async_client("default", limit=2) as api:
        pieces = streams.stream(api, ASK)
        await anext(pieces)
        await pieces.aclose()
    await asyncio.to_thread(wait_until, lambda: provider.posts()[0].closed_early_at)

    assert provider.posts()[0].closed_early_at is not None
    assert provider.posts()[0].pieces < 10


# --- the key --------------------------------------------------------------------------------------------


def test_the_key_never_shows(provider, caplog):
    caplog.set_level(logging.DEBUG)
    provider.next(Fault.UNAUTHORIZED)

    with pytest.raises(Refused) as caught:
        calls.complete("default", ASK)

    assert provider.posts()[0].key == SECRET
    shown = [repr(clients.endpoint("default")), str(caught.value), repr(caught.value), caplog.text]
    assert [text for text in shown if SECRET in text] == []


def test_prompts_never_reach_the_log_of_a_deployment(provider, caplog):
    caplog.set_level(logging.INFO)

    calls.complete("default", ASK)

    assert "发射激光" not in caplog.text


# --- where endpoints come from --------------------------------------------------------------------------


def test_without_any_setting_the_local_model_server_is_asked():
    endpoints = read_endpoints({})

    assert endpoints == {"default": Endpoint("default", "http://127.0.0.1:8100/v1", NO_KEY)}


def test_an_address_without_a_key_sends_none():
    endpoints = read_endpoints({"OPENAI_BASE_URL": "http://models.example/v1/"})

    assert endpoints["default"] == Endpoint("default", "http://models.example/v1", "none")


def test_a_key_and_a_model_without_an_address_mean_openai():
    endpoints = read_endpoints({"OPENAI_API_KEY": "sk-1", "OPENAI_MODEL": "gpt-4.1-mini"})

    assert endpoints["default"] == Endpoint("default", "https://api.openai.com/v1", "sk-1")


def test_an_openai_key_without_a_model_is_refused_with_a_sentence():
    with pytest.raises(ImproperlyConfigured, match="OPENAI_MODEL is not"):
        read_endpoints({"OPENAI_API_KEY": "sk-1"})


def test_further_endpoints_are_named_by_their_alias():
    endpoints = read_endpoints(
        {"LLM_ENDPOINT_NEBIUS": "https://a.example/v1", "LLM_KEY_NEBIUS": "k", "LLM_ENDPOINT_LAB": ""}
    )

    assert set(endpoints) == {"default", "nebius"}
    assert endpoints["nebius"] == Endpoint("nebius", "https://a.example/v1", "k")


# --- whether a model exists -----------------------------------------------------------------------------


def test_a_model_is_asked_for_before_anything_is_ordered_from_it(provider):
    provider.models = {"base-zh"}

    calls.check_model("default", "base-zh")
    with pytest.raises(Refused, match="接入点「default」不认识模型「gpt-9」。"):
        calls.check_model("default", "gpt-9")

    assert [call.path for call in provider.gets()] == ["/v1/models/base-zh", "/v1/models/gpt-9"]


def test_a_wrong_key_is_told_apart_from_an_unknown_model(provider):
    provider.next(Fault.UNAUTHORIZED, method="GET")

    with pytest.raises(Refused, match="OPENAI_API_KEY") as caught:
        calls.check_model("default", "base-zh")

    assert caught.value.status == 401
