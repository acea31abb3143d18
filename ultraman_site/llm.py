"""The one place that speaks to a provider: builds `openai` clients and turns their errors into ours.

    LLMError                 a sentence for a person
    ├── TryAgainLater        nothing was billed; `retry_after` in seconds if the provider said so
    │   └── ServerFailed     5xx: nothing billed for a story, but an object may have been created
    ├── Refused              refused for good (other 4xx); `status` is the HTTP status
    ├── OutOfMoney           the account's quota or spending limit is used up
    └── OutcomeUnknown       sent, and never learnt how it ended; never re-sent by itself

There is no class around the SDK: callers use `client(alias)` as it is, inside `provider_errors()`.
Source: https://platform.openai.com/docs/api-reference (chat, completions, errors).
"""

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakSet

import httpx2
import openai
from django.conf import settings
from openai import AsyncOpenAI

from ultraman_site.llm_settings import Endpoint
from ultraman_site.rates import NOTHING, Rates, read_rates, read_retry_after

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 120.0
MODERATION_TIMEOUT = 5.0
OUT_OF_MONEY = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "spend_limit_exceeded",
    "usage_limit_exceeded",
)


class LLMError(Exception):
    """A provider could not do what was asked."""

    def __init__(
        self,
        sentence: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        rates: Rates = NOTHING,
    ) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after
        self.status = status
        self.rates = rates


class TryAgainLater(LLMError):
    """Nothing was billed; asking again later may work."""


class ServerFailed(TryAgainLater):
    """The provider answered 5xx."""


class Refused(LLMError):
    """The provider said no, and will say it again."""


class OutOfMoney(LLMError):
    """The provider's account is out of quota."""


class OutcomeUnknown(LLMError):
    """The call was sent; what became of it is not known."""


@dataclass(frozen=True)
class Ask:
    """One question to a model: chat `messages`, or a legacy `prompt`. `stop` is "" for none."""

    model: str
    messages: tuple[dict[str, str], ...]
    prompt: str
    stop: str
    temperature: float
    max_tokens: int

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


@dataclass(frozen=True)
class Answer:
    """A whole answer, or a piece of one. Token counts are the provider's own; `finish_reason` is "" if it gave
    none; `rates` come with a whole answer, or with the first piece.
    """

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rates: Rates = NOTHING


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
    return openai.OpenAI(base_url=place.base_url, api_key=place.key, max_retries=0, timeout=timeout)


def async_client(alias: str, *, limit: int) -> AsyncOpenAI:
    """A client for the running event loop; made and closed inside it. `limit` connections at once."""
    place = endpoint(alias)
    timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    http = openai.DefaultAioHttpClient(
        timeout=timeout, limits=httpx2.Limits(max_connections=limit, max_keepalive_connections=limit)
    )
    return AsyncOpenAI(base_url=place.base_url, api_key=place.key, max_retries=0, http_client=http)


@contextmanager
def provider_errors() -> Iterator[None]:
    """Turns what the SDK raises inside the block into one of our errors."""
    try:
        yield
    except (openai.OpenAIError, httpx2.HTTPError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise translate(error) from error


def translate(error: Exception) -> LLMError:
    """Our error for one of the SDK's (its tree: openai/_exceptions.py)."""
    if isinstance(error, openai.APIStatusError):
        return _translate_status(error)
    if isinstance(error, openai.APIConnectionError):
        if _never_connected(error):
            return TryAgainLater(
                f"连不上模型服务（{error.request.url.host}:{error.request.url.port or 443}）。"
            )
        if isinstance(error, openai.APITimeoutError):
            return OutcomeUnknown("模型服务没有在限定时间内回答，结果不明。")
        return OutcomeUnknown("与模型服务的连接中断了，结果不明。")
    if isinstance(error, openai.APIError):
        return OutcomeUnknown(f"模型服务报错：{error.message}")
    return OutcomeUnknown("模型服务的回答无法读懂，结果不明。")


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
    """True if the request cannot have left this machine: the connection was never made."""
    cause: BaseException | None = error
    while cause is not None:
        name = type(cause).__name__
        if isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout)) or name.startswith(
            "ClientConnector"
        ):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


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
        raise OutcomeUnknown("模型服务的回答无法读懂，结果不明。") from error


def complete(alias: str, ask: Ask) -> Answer:
    """One whole answer, not streamed. Raises ours."""
    with provider_errors():
        api: Any = client(alias)
        kind = api.chat.completions if ask.messages else api.completions
        response = kind.with_raw_response.create(**ask.parameters())
        reply = response.parse()
        try:
            choice = reply.choices[0]
            text = choice.message.content if ask.messages else choice.text
        except (AttributeError, IndexError, TypeError) as error:
            raise OutcomeUnknown("模型服务的回答无法读懂，结果不明。") from error
        usage = reply.usage
        return Answer(
            text=text or "",
            finish_reason=choice.finish_reason or "",
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            rates=read_rates(response.headers),
        )


async def stream(api: AsyncOpenAI, ask: Ask) -> AsyncIterator[Answer]:
    """The answer in pieces: each `Answer.text` is new text; usage and finish_reason come when they come.

    Reads the event lines itself: the SDK's objects cost twice the CPU per piece. Ends when the provider
    closes, with or without `[DONE]`; a caller that saw no `finish_reason` must not call it complete.
    """
    create: Any = (api.chat.completions if ask.messages else api.completions).with_streaming_response.create
    extra = {"stream": True, "stream_options": {"include_usage": True}}
    with provider_errors():
        async with create(**ask.parameters(), **extra) as response:
            yield Answer("", "", rates=read_rates(response.headers))
            async for line in split_lines(response.iter_bytes()):
                if line.startswith(b"data:") and (piece := _read_event(line[5:].strip())):
                    yield piece


async def split_lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines of an event stream. Readers of text lines also cut at U+2028 and NEL, which a story may hold."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _read_event(data: bytes) -> Answer | None:
    if data == b"[DONE]":
        return None
    try:
        return _answer_of(json.loads(data))
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise OutcomeUnknown("模型服务的回答无法读懂，结果不明。") from error


def _answer_of(event: Any) -> Answer:
    if event.get("error"):
        message = event["error"].get("message", "") if isinstance(event["error"], dict) else event["error"]
        raise OutcomeUnknown(f"模型服务中途报错：{message}")
    usage = event.get("usage") or {}
    choice = (event.get("choices") or [{}])[0]
    text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
    return Answer(
        text=text,
        finish_reason=choice.get("finish_reason") or "",
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
    )
