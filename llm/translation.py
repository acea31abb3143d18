"""Turns what the SDK and its transports raise into our errors (`errors.py`), once, at the edge.

Source: https://platform.openai.com/docs/guides/error-codes and openai/_exceptions.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import httpx2
import openai

from llm.errors import (
    UNREADABLE,
    LLMError,
    OutcomeUnknown,
    OutOfMoney,
    Refused,
    ServerFailed,
    TryAgainLater,
)
from llm.rate_headers import read_rates, read_retry_after

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
