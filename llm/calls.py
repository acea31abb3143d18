"""Asks a model and reads its whole answer; asks an endpoint for a model, and for its moderation.

Source: https://platform.openai.com/docs/api-reference (chat, completions, models, moderations).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from weakref import WeakSet

import httpx2
import openai

from llm import clients
from llm.answer_stream import AnswerReader
from llm.answers import Answer, join
from llm.errors import UNREADABLE, OutcomeUnknown, Refused
from llm.rate_headers import read_rates
from llm.separation import separate
from llm.translation import SILENT, provider_errors
from sentences import sentence as _

MODERATION_TIMEOUT = 5.0  # seconds
MAX_BYTES = 16 * 1024 * 1024  # of a whole answer


@dataclass(frozen=True)
class Ask:
    """One question to a model: chat `messages`, or a legacy `prompt`. `stop` is "" for none.

    `max_characters`: an answer is cut after so many, whatever `max_tokens` the provider keeps to.
    `opens_inside`: the model's answers may begin inside its thinking (`thinking.py`).
    """

    model: str
    messages: tuple[dict[str, str], ...]
    prompt: str
    stop: str
    temperature: float
    max_tokens: int
    max_characters: int = 20_000
    opens_inside: bool = False

    # Any: the arguments differ in type, and the SDK has no type for all of them together.
    def parameters(self) -> dict[str, object]:
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


_without_moderation: WeakSet[openai.OpenAI] = WeakSet()


def moderate(alias: str, text: str) -> list[str]:
    """The categories the endpoint's moderation page flags in `text`, [] for none. Raises ours if the call fails.

    An endpoint without such a page (404, 405) flags nothing, and is not asked again by this process.
    """
    api = clients.client(alias)
    if api in _without_moderation:
        return []
    try:
        with provider_errors():
            timeout = httpx2.Timeout(MODERATION_TIMEOUT, connect=2.0)
            reply = api.with_options(timeout=timeout).moderations.create(input=text)
    except Refused as error:
        if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
            raise
        _without_moderation.add(api)
        return []
    return [name for result in _results(reply) for name in result]


# Any: the SDK does not check that an answer has the shape of its type.
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
    """One whole answer, not streamed, cut at `ask.max_characters`.

    Raises ours, also after so many `seconds` of silence (`READ_TIMEOUT` if None).
    """
    api: Any = clients.client(alias)  # Any: no type of the SDK covers both kinds of completions
    timeout = httpx2.Timeout(
        clients.READ_TIMEOUT if seconds is None else seconds, connect=clients.CONNECT_TIMEOUT
    )
    kind = api.chat.completions if ask.messages else api.completions
    with (
        provider_errors(),
        kind.with_streaming_response.create(**ask.parameters(), timeout=timeout) as response,
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
