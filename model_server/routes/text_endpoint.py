"""What chat and completions share: a request becomes an order, and the answer a body or a stream of chunks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..clients import client_of
from ..database import new_id
from ..engines.base import Answer, WriteOrder, Writer
from ..generation import Output, begin, in_engine_thread, usage
from ..schemas import ChatRequest, CompletionRequest, read_json
from ..streaming import Chunk, EventStream, read_whole

Asked = TypeVar("Asked", ChatRequest, CompletionRequest)


class TextEndpoint(ABC, Generic[Asked]):
    """One endpoint that writes text; the subclass knows the shapes of its requests, choices and chunks."""

    schema: type[Asked]
    id_prefix: ClassVar[str]
    body_object: ClassVar[str]
    chunk_object: ClassVar[str]

    @abstractmethod
    def order(self, asked: Asked) -> WriteOrder:
        """The order for the engine."""

    @abstractmethod
    def prompt_tokens(self, asked: Asked) -> int:
        """Code points of the prompt, for engines that do not count tokens themselves."""

    @abstractmethod
    def choice(self, text: str) -> dict[str, Any]:
        """The part of a choice that holds the whole text."""

    @abstractmethod
    def delta(self, text: str) -> dict[str, Any]:
        """The part of a chunk's choice that holds a piece of the text; empty text for the last chunk."""

    def opening(self) -> list[dict[str, Any]]:
        """The deltas of chunks that come before the text."""
        return []

    async def create(self, request: Request) -> Response:
        """Answers a request; streamed if the client asks for it."""
        asked = await read_json(request, self.schema)
        registry, client = request.app.state.registry, client_of(request)
        engine = await in_engine_thread(lambda: registry.writer(asked.model, client=client))
        answer = await begin(engine, self.order(asked), prompt_tokens=self.prompt_tokens(asked))
        if asked.stream:
            return self._stream(request, asked, answer)
        return JSONResponse(self._body(asked, answer, await read_whole(answer, request.receive)))

    def write(self, asked: Asked, writer: Writer) -> dict[str, Any]:
        """The whole answer of a built-in engine; blocks while it is written."""
        order, tokens = self.order(asked), self.prompt_tokens(asked)
        output = Output(writer.write(order), stops=order.stops, limit=order.limit, prompt_tokens=tokens)
        return self._body(asked, output, "".join(output))

    def _head(self, asked: Asked, kind: str) -> dict[str, Any]:
        return {
            "id": new_id(self.id_prefix),
            "object": kind,
            "created": int(time.time()),
            "model": asked.model,
        }

    def _body(self, asked: Asked, answer: Answer, text: str) -> dict[str, Any]:
        choice = _choice(self.choice(text), answer.finish_reason)
        counts = usage(answer.prompt_tokens, answer.tokens)
        return self._head(asked, self.body_object) | {"choices": [choice], "usage": counts}

    def _stream(self, request: Request, asked: Asked, answer: Answer) -> EventStream:
        head = self._head(asked, self.chunk_object)

        def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> Chunk:
            return head | {"choices": [_choice(delta, finish_reason)], "usage": None}

        def closing() -> list[Chunk]:
            last = [chunk(self.delta(""), answer.finish_reason)]
            if asked.include_usage:
                last.append(head | {"choices": [], "usage": usage(answer.prompt_tokens, answer.tokens)})
            return last

        return EventStream(
            answer,
            streams=request.app.state.streams,
            per_second=request.app.state.settings.tokens_per_second,
            opening=[chunk(delta) for delta in self.opening()],
            body=lambda text: chunk(self.delta(text)),
            closing=closing,
        )


def _choice(content: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0} | content | {"logprobs": None, "finish_reason": finish_reason}
