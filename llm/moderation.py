"""Asks an endpoint's moderation page whether a text is fit to be written about.

Many compatible servers have no such page, and say so in their own ways: 404, 405, 400 or 501, a 200 that holds an
error, or (proxies) a 500. Who knows whether a page ever worked decides whether it is absent or down (`is_absent`).
Source: https://platform.openai.com/docs/api-reference/moderations.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import httpx2

from llm import clients
from llm.errors import LLMError, OutcomeUnknown, Refused, ServerFailed, unreadable
from llm.remote_objects import provider_call
from llm.translation import CONNECTION_ERRORS
from sentences import sentence_of

TIMEOUT, CONNECT_TIMEOUT = 5.0, 2.0  # seconds


class NoPage(LLMError):
    """The answer is that of an endpoint without such a page, unless the page worked before."""


def moderate(alias: str, text: str) -> list[str]:
    """The categories that the endpoint's moderation page flags in `text`, [] for none.

    Raises `NoPage` for an answer that is no moderation, `LLMError` if there was no answer in time.
    """
    timeout = httpx2.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT)
    try:
        with provider_call():
            api = clients.client(alias)  # held here: a copy works only as long as its original is referenced
            reply = api.with_options(timeout=timeout).moderations.create(input=text)
            return [name for result in _results(reply) for name in result]
    except (Refused, ServerFailed) as error:
        raise NoPage(sentence_of(error), status=error.status) from error
    except OutcomeUnknown as error:
        if isinstance(error.__cause__, CONNECTION_ERRORS):
            raise  # It was silent, or the connection broke.
        raise NoPage(sentence_of(error), status=HTTPStatus.OK) from error


# Any: the SDK does not check that an answer has the shape of its type.
def _results(reply: Any) -> Iterator[list[str]]:
    """For each flagged input its categories, "flagged" where the endpoint names none."""
    results = getattr(reply, "results", None)
    if not isinstance(results, list) or not results:
        raise unreadable(getattr(reply, "error", None) or reply)
    for result in results:
        if result.flagged:
            named = result.categories.model_dump(by_alias=True) if result.categories else {}
            yield sorted(name for name, found in named.items() if found) or ["flagged"]


def is_absent(error: LLMError, *, has_worked: bool) -> bool:
    """Whether an error of `moderate` means that there is no such page, and not that it is down.

    A page that worked before is down, whatever it says. One that never worked is absent by any answer, but not by
    silence, nor by a 429.
    """
    return isinstance(error, NoPage) and not has_worked
