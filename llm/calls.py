"""Asks a model and reads its whole answer; asks an endpoint for a model.

Source: https://platform.openai.com/docs/api-reference (chat, completions, models).
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import httpx2
import openai

from llm import clients
from llm.answer_stream import AnswerReader
from llm.answers import Answer, join
from llm.dialects import Dialect
from llm.errors import OutcomeUnknown, Refused
from llm.questions import Ask, Learn, ask_again, keep_nothing
from llm.rate_headers import read_rates
from llm.separation import separate
from llm.translation import SILENT, provider_errors
from sentences import sentence as _

MAX_BYTES = 16 * 1024 * 1024  # of a whole answer


def check_model(alias: str, name: str) -> None:
    """Asks the endpoint for the model before anything is ordered from it. Raises ours: down, wrong key, unknown.

    An endpoint that has no page for models (a 404 that does not say "model_not_found") passes the check.
    """
    try:
        with provider_errors():
            clients.client(alias).models.retrieve(name)
    except Refused as error:
        cause = error.__cause__
        if (
            error.status == HTTPStatus.NOT_FOUND
            and isinstance(cause, openai.APIStatusError)
            and cause.code != "model_not_found"
        ):
            return
        if error.status == HTTPStatus.NOT_FOUND:
            words = {"alias": alias, "name": name}
            raise Refused(
                _("接入点「%(alias)s」不认识模型「%(name)s」。") % words,
                status=error.status,
            ) from error
        raise


def complete(alias: str, ask: Ask, *, seconds: float | None = None, learn: Learn = keep_nothing) -> Answer:
    """One whole answer, not streamed, cut at `ask.max_characters`.

    A refusal that says how the model wants to be asked is learnt from, and the question asked again in that way.
    Raises ours, also after so many `seconds` of silence (`READ_TIMEOUT` if None).
    """
    tried: list[Dialect] = []
    while True:
        try:
            return _complete(alias, ask, seconds)
        except Refused as error:
            ask = ask_again(ask, error, learn, tried=tried, is_streamed=False)


def _complete(alias: str, ask: Ask, seconds: float | None) -> Answer:
    api: Any = clients.client(alias)  # Any: no type of the SDK covers both kinds of completions
    timeout = httpx2.Timeout(
        clients.READ_TIMEOUT if seconds is None else seconds, connect=clients.CONNECT_TIMEOUT
    )
    kind = api.chat.completions if ask.messages else api.completions
    with (
        provider_errors(),
        kind.with_streaming_response.create(
            **ask.parameters(), extra_body=dict(ask.dialect.extra), timeout=timeout
        ) as response,
    ):
        answer = separate(join(_read_pieces(response)), opens_inside=ask.opens_inside)
        return replace(cut(answer, room=ask.max_characters), rates=read_rates(response.headers))


# Any: its body is read here as bytes.
def _read_pieces(response: openai.APIResponse[Any]) -> Iterator[Answer]:
    """The answer, which some servers stream though nobody asked. Raises `OutcomeUnknown` for one that does not end."""
    reader = AnswerReader(max_line=MAX_BYTES)
    try:
        for chunk in _bounded(response.iter_bytes()):
            yield from reader.feed(chunk)
            if reader.is_done:
                return
    except (openai.OpenAIError, httpx2.HTTPError):
        if reader.has_ended:
            return
        raise
    yield from reader.close()


def _bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks of a body. Raises `OutcomeUnknown` once they are too many, or take too long."""
    deadline, size = time.monotonic() + clients.READ_TIMEOUT, 0
    for chunk in chunks:
        yield chunk
        size += len(chunk)
        if size > MAX_BYTES:
            raise OutcomeUnknown(_("模型服务的回答大得没有止境，已不再读下去，结果不明。"))
        if time.monotonic() > deadline:
            raise OutcomeUnknown(SILENT)


def cut(answer: Answer, *, room: int) -> Answer:
    """The answer with at most `room` characters of text. One that was cut has the finish_reason "length"."""
    return (
        answer
        if len(answer.text) <= room
        else replace(answer, text=answer.text[:room], finish_reason="length")
    )
