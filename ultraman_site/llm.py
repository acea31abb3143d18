"""The one place that speaks to a provider: builds `openai` clients and turns their errors into ours.

There is no class around the SDK: callers use `client(alias)` as it is, inside `provider_errors()`. The errors are in
`llm_errors.py`, what an answer's values mean is read in `answers.py`.
Source: https://platform.openai.com/docs/api-reference (chat, completions, errors).
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from weakref import WeakSet, finalize

import aiohttp
import httpx2
import openai
from django.conf import settings
from openai import AsyncOpenAI

from ultraman_site.answers import Answer, read_answer, read_json, read_whole, split_lines
from ultraman_site.llm_errors import (
    UNREADABLE,
    LLMError,
    OutcomeUnknown,
    OutOfMoney,
    Refused,
    ServerFailed,
    TryAgainLater,
)
from ultraman_site.llm_settings import Endpoint
from ultraman_site.rates import read_rates, read_retry_after

# Callers know this module alone.
__all__ = [
    "Answer",
    "Ask",
    "LLMError",
    "OutOfMoney",
    "OutcomeUnknown",
    "Refused",
    "ServerFailed",
    "TryAgainLater",
    "async_client",
    "check_model",
    "client",
    "complete",
    "endpoint",
    "moderate",
    "provider_errors",
    "stream",
    "translate",
]

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 120.0  # seconds of silence, and seconds that a whole answer may take to arrive
MODERATION_TIMEOUT = 5.0
BLOCKING_CONNECTIONS = 1000
KEEP_ALIVE = 1.0
"""Seconds that an idle connection is kept. Servers close theirs after two (gunicorn), five (uvicorn, Node) or sixty
(load balancers): a request that crosses such a close is lost without anyone knowing whether it was billed.
"""
MOST_BYTES = 16 * 1024 * 1024  # of a whole answer
SILENT = "模型服务没有在限定时间内回答，结果不明。"
BROKEN = "与模型服务的连接中断了，结果不明。"
OUT_OF_MONEY = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "spend_limit_exceeded",
    "usage_limit_exceeded",
)
CONNECTION_ERRORS = (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError)
# What these tell of happened before a connection was there: nothing was sent.
BEFORE_SENDING = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
AIOHTTP_BEFORE_SENDING = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)


@dataclass(frozen=True)
class Ask:
    """One question to a model: chat `messages`, or a legacy `prompt`. `stop` is "" for none.

    `longest`: characters after which an answer is cut, whatever `max_tokens` the provider keeps to.
    """

    model: str
    messages: tuple[dict[str, str], ...]
    prompt: str
    stop: str
    temperature: float
    max_tokens: int
    longest: int = 20_000

    def parameters(self) -> dict[str, Any]:
        """The keyword arguments of `client.chat.completions.create` or `client.completions.create`."""
        common = {
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "top_p": 1,
        }
        if self.stop:
            common["stop"] = [self.stop]
        return common | ({"messages": list(self.messages)} if self.messages else {"prompt": self.prompt})


def endpoint(alias: str) -> Endpoint:
    """The endpoint of that alias. Raises `Refused` if this deployment no longer has it."""
    try:
        return settings.LLM_ENDPOINTS[alias]
    except KeyError:
        raise Refused(f"接入点「{alias}」不在本站的设置里（LLM_ENDPOINT_{alias.upper()}）。") from None


@cache
def client(alias: str) -> openai.OpenAI:
    """The blocking client of an endpoint, one per process; the SDK's own retries are off."""
    place = endpoint(alias)
    timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    http = openai.DefaultHttpxClient(timeout=timeout, limits=_limits(BLOCKING_CONNECTIONS))
    api = openai.OpenAI(base_url=place.base_url, api_key=place.key, max_retries=0, http_client=http)
    finalize(
        api, http.close
    )  # the SDK closes only a transport of its own making; who copies `api` must hold it
    return api


def async_client(alias: str, *, limit: int) -> AsyncOpenAI:
    """A client for the running event loop; made and closed inside it. `limit` connections at once."""
    place = endpoint(alias)
    timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    http = openai.DefaultAioHttpClient(timeout=timeout, limits=_limits(limit))
    return AsyncOpenAI(base_url=place.base_url, api_key=place.key, max_retries=0, http_client=http)


def _limits(connections: int) -> httpx2.Limits:
    return httpx2.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE
    )


@contextmanager
def provider_errors() -> Iterator[None]:
    """Turns what the SDK raises inside the block into one of our errors."""
    try:
        yield
    except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, ValueError, RecursionError) as error:
        # ValueError: the SDK lets through what its JSON reader says of a page that is none, or of a giant number.
        raise translate(error) from error


def translate(error: Exception) -> LLMError:
    """Our error for one of the SDK's (its tree: openai/_exceptions.py)."""
    if isinstance(error, openai.APIStatusError):
        return _translate_status(error)
    if isinstance(error, openai.APIConnectionError) and _never_connected(error):
        return TryAgainLater(f"连不上模型服务（{error.request.url.host}:{error.request.url.port or 443}）。")
    if isinstance(error, CONNECTION_ERRORS):
        return OutcomeUnknown(SILENT if _is_silence(error) else BROKEN)
    if isinstance(error, openai.APIError):
        return OutcomeUnknown(f"模型服务报错：{error.message}")
    return OutcomeUnknown(UNREADABLE)


def _translate_status(error: openai.APIStatusError) -> LLMError:
    # The body's own words; the SDK's message repeats the status and quotes the whole body.
    said = error.body.get("message") if isinstance(error.body, dict) else None
    words = f"{error.status_code}：{said or error.message}"
    code = f"{error.code or ''} {error.type or ''}"
    if error.status_code in {402, 429}:
        if any(reason in code for reason in OUT_OF_MONEY):
            return OutOfMoney(f"模型服务的额度已用完（{words}）。", status=error.status_code)
        return TryAgainLater(
            f"模型服务请求过多（{words}）。",
            retry_after=read_retry_after(error.response.headers),
            status=error.status_code,
            rates=read_rates(error.response.headers),
        )
    if error.status_code >= 500:
        return ServerFailed(f"模型服务出错（{words}）。", status=error.status_code)
    if error.status_code == 401:
        return Refused(f"模型服务不认这个密钥（{words}）。请检查 OPENAI_API_KEY。", status=401)
    if error.status_code == 404:
        return Refused(f"模型服务不认识所要的模型或对象（{words}）。", status=404)
    return Refused(f"模型服务拒绝了（{words}）。", status=error.status_code)


def _never_connected(error: BaseException) -> bool:
    """True if the request cannot have left this machine: the connection was never made.

    The SDK's transport calls every broken connection of aiohttp a connect timeout: what aiohttp itself said decides.
    """
    causes = list(_causes_of(error))
    if theirs := [cause for cause in causes if isinstance(cause, aiohttp.ClientError)]:
        return isinstance(theirs[-1], AIOHTTP_BEFORE_SENDING)
    return any(isinstance(cause, BEFORE_SENDING) for cause in causes)


def _is_silence(error: BaseException) -> bool:
    """True if the provider said nothing for too long; the SDK calls some broken connections a timeout, too."""
    theirs = [cause for cause in _causes_of(error) if isinstance(cause, aiohttp.ClientError)]
    if theirs:
        return isinstance(theirs[-1], aiohttp.ServerTimeoutError)
    return isinstance(error, (openai.APITimeoutError, httpx2.TimeoutException))


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """What the error was raised from, and so on; what merely happened before it is none of its causes."""
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__


def check_model(alias: str, name: str) -> None:
    """Asks the endpoint for the model before anything is ordered from it. Raises ours: down, wrong key, unknown.

    An endpoint without a model page (404 that names no model) is believed.
    """
    try:
        with provider_errors():
            client(alias).models.retrieve(name)
    except Refused as error:
        cause = error.__cause__
        if (
            error.status == 404
            and isinstance(cause, openai.APIStatusError)
            and cause.code != "model_not_found"
        ):
            return
        if error.status == 404:
            raise Refused(f"接入点「{alias}」不认识模型「{name}」。", status=404) from error
        raise


_without_moderation: WeakSet[openai.OpenAI] = WeakSet()


def moderate(alias: str, text: str) -> list[str]:
    """The categories the endpoint's moderation page flags in `text`, [] for none. Raises ours if the call fails.

    An endpoint without such a page (404, 405) flags nothing, and is not asked again by this process.
    """
    api = client(alias)
    if api in _without_moderation:
        return []
    try:
        with provider_errors():
            timeout = httpx2.Timeout(MODERATION_TIMEOUT, connect=2.0)
            reply = api.with_options(timeout=timeout).moderations.create(input=text)
    except Refused as error:
        if error.status not in {404, 405}:
            raise
        _without_moderation.add(api)
        return []
    return [name for result in _results(reply) for name in result]


def _results(reply: Any) -> Iterator[list[str]]:
    """For each flagged input its categories, "flagged" where the endpoint names none."""
    try:
        for result in reply.results:
            if result.flagged:
                named = result.categories.model_dump(by_alias=True) if result.categories else {}
                yield sorted(name for name, found in named.items() if found) or ["flagged"]
    except (AttributeError, TypeError) as error:
        raise OutcomeUnknown(UNREADABLE) from error


def complete(alias: str, ask: Ask, *, seconds: float | None = None) -> Answer:
    """One whole answer, not streamed, cut at `ask.longest`. Raises ours; `seconds` of silence: `READ_TIMEOUT`."""
    api: Any = client(alias)
    timeout = httpx2.Timeout(READ_TIMEOUT if seconds is None else seconds, connect=CONNECT_TIMEOUT)
    kind = api.chat.completions if ask.messages else api.completions
    with (
        provider_errors(),
        kind.with_streaming_response.create(**ask.parameters(), timeout=timeout) as response,
    ):
        answer = read_whole(read_json(_read_body(response)))
        return replace(_cut(answer, room=ask.longest), rates=read_rates(response.headers))


def _read_body(response: Any) -> bytes:
    """The bytes of an answer. Raises `OutcomeUnknown` for one that does not end."""
    deadline = time.monotonic() + READ_TIMEOUT
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > MOST_BYTES:
            raise OutcomeUnknown("模型服务的回答大得没有止境，已不再读下去，结果不明。")
        if time.monotonic() > deadline:
            raise OutcomeUnknown(SILENT)
    return bytes(body)


def _cut(answer: Answer, *, room: int) -> Answer:
    """The answer as far as there is `room` for its text; what is longer ends as the provider's own limit ends it."""
    return (
        answer
        if len(answer.text) <= room
        else replace(answer, text=answer.text[:room], finish_reason="length")
    )


async def stream(api: AsyncOpenAI, ask: Ask) -> AsyncIterator[Answer]:
    """The answer in pieces: each `Answer.text` is new text; usage and finish_reason come when they come.

    Reads the event lines itself: the SDK's objects cost twice the CPU per piece. Ends when the provider
    closes, with or without `[DONE]`, or at `ask.longest` with finish_reason "length"; a caller that saw no
    `finish_reason` must not call it complete.
    """
    create: Any = (api.chat.completions if ask.messages else api.completions).with_streaming_response.create
    extra = {"stream": True, "stream_options": {"include_usage": True}}
    room = ask.longest
    with provider_errors():
        async with create(**ask.parameters(), **extra) as response:
            yield Answer("", "", rates=read_rates(response.headers))
            async for line in split_lines(response.iter_bytes()):
                if not line.startswith(b"data:") or (data := line[5:].strip()) == b"[DONE]":
                    continue
                piece = read_answer(read_json(data))
                yield _cut(piece, room=room)
                room -= len(piece.text)
                if room < 0:
                    return
