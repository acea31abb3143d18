"""Turns what the SDK and its transports raise into our errors (`errors.py`), once, at the edge.

Source: https://platform.openai.com/docs/guides/error-codes and openai/_exceptions.py.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import aiohttp
import httpx2
import openai

from llm.balance import is_out_of_money
from llm.declines import is_declined
from llm.errors import (
    UNREADABLE,
    Declined,
    LLMError,
    OutcomeUnknown,
    OutOfMoney,
    Refusal,
    Refused,
    ServerFailed,
    TryAgainLater,
)
from llm.rate_headers import read_rates, read_retry_after
from llm.redaction import redact
from sentences import sentence as _

SILENT = _("模型服务没有在限定时间内回答，结果不明。")
BROKEN = _("与模型服务的连接中断了，结果不明。")
AT_ONCE = re.compile(r"concurren|simultaneous|in[ -]flight|parallel requests|并发|同时", re.IGNORECASE)
"""Words of a 429 whose limit is one of calls under way at once, and not of calls a minute."""
CONNECTION_ERRORS = (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError)
# Each of these means that no connection was made, so nothing was sent.
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
        # ValueError: the SDK lets it through when a page is no JSON, or holds a number of thousands of digits.
        raise translate(error) from error


def translate(error: Exception) -> LLMError:
    """Our error for one of the SDK's (its tree: openai/_exceptions.py)."""
    if isinstance(error, openai.APIStatusError):
        return _translate_status(error)
    if isinstance(error, openai.APIConnectionError) and _never_connected(error):
        url = error.request.url
        return TryAgainLater(
            _("连不上模型服务（%(host)s:%(port)s）。") % {"host": url.host, "port": url.port or 443}
        )
    if isinstance(error, CONNECTION_ERRORS):
        return OutcomeUnknown(SILENT if _is_silence(error) else BROKEN)
    if isinstance(error, openai.APIError):
        return OutcomeUnknown(_("模型服务报错：%(words)s") % {"words": error.message})
    return OutcomeUnknown(UNREADABLE)


def _translate_status(error: openai.APIStatusError) -> LLMError:
    said = {"words": f"{error.status_code}：{_words_of(error)}"}
    if is_out_of_money(error.status_code, error.body) or is_out_of_money(error.status_code, _body_of(error)):
        return OutOfMoney(_("模型服务的额度已用完（%(words)s）。") % said, status=error.status_code)
    if error.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return TryAgainLater(
            _("模型服务请求过多（%(words)s）。") % said,
            retry_after=read_retry_after(error.response.headers),
            status=error.status_code,
            rates=read_rates(error.response.headers),
            at_once=AT_ONCE.search(_body_of(error) or error.message) is not None,
        )
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFailed(_("模型服务出错（%(words)s）。") % said, status=error.status_code)
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        return Refused(
            _("模型服务不认这个密钥（%(words)s）。请检查 OPENAI_API_KEY。") % said, status=error.status_code
        )
    if error.status_code == HTTPStatus.NOT_FOUND:
        return Refused(_("模型服务不认识所要的模型或对象（%(words)s）。") % said, status=error.status_code)
    code = f"{error.code or ''} {error.type or ''}"
    kind = Declined if is_declined(code, said["words"]) else Refused
    refused = kind(_("模型服务拒绝了（%(words)s）。") % said, status=error.status_code)
    refused.refusal = Refusal(
        error.status_code, redact(error.code), redact(error.param), redact(_body_of(error) or error.message)
    )
    return refused


def _words_of(error: openai.APIStatusError) -> str:
    """The body's own words; the SDK's message repeats the status and quotes the whole body."""
    message = error.body.get("message") if isinstance(error.body, dict) else error.body
    return message if isinstance(message, str) and message else error.message


def _body_of(error: openai.APIStatusError) -> str:
    """The whole body. The SDK's `body` is only what stands under "error", and a code may stand beside that."""
    try:
        return error.response.text
    except httpx2.StreamError:
        return ""


def _never_connected(error: BaseException) -> bool:
    """True if the request cannot have left this machine: the connection was never made.

    The SDK's transport reports every broken aiohttp connection as a connect timeout, so aiohttp's own error decides.
    """
    causes = list(_causes_of(error))
    if theirs := [cause for cause in causes if isinstance(cause, aiohttp.ClientError)]:
        return isinstance(theirs[-1], AIOHTTP_BEFORE_SENDING)
    return any(isinstance(cause, BEFORE_SENDING) for cause in causes)


def _is_silence(error: BaseException) -> bool:
    """True if the provider was silent for too long. The SDK reports some broken connections as a timeout, too."""
    theirs = [cause for cause in _causes_of(error) if isinstance(cause, aiohttp.ClientError)]
    if theirs:
        return isinstance(theirs[-1], aiohttp.ServerTimeoutError)
    return isinstance(error, (openai.APITimeoutError, httpx2.TimeoutException))


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error that this one was raised from, the one that that was raised from, and so on."""
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__
