"""POST /v1/chat/completions: how the site asks for a story."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..clients import client_of
from ..engines.base import Answer, WriteOrder, Writer
from ..engines.prompts import conversation
from ..generation import Output, begin, in_engine_thread, usage
from ..schemas import ChatRequest, read_json
from ..store import new_id
from ..streaming import EventStream, whole


async def create_chat_completion(request: Request) -> Response:
    """Writes, or goes on writing, a story; streamed if the client asks for it."""
    asked = await read_json(request, ChatRequest)
    state = request.app.state
    client = client_of(request)
    engine = await in_engine_thread(lambda: state.registry.writer(asked.model, client=client))
    output = await begin(engine, _order(asked), prompt_tokens=_points(asked))
    if asked.stream:
        return _streamed(request, asked, output, _common(asked))
    text = await whole(output, request.receive)
    return JSONResponse(_body(asked, output, text))


def write(asked: ChatRequest, writer: Writer) -> dict[str, Any]:
    """The whole answer of a built-in engine; blocks while it is written."""
    order = _order(asked)
    output = Output(writer.write(order), stops=order.stops, limit=order.limit, prompt_tokens=_points(asked))
    return _body(asked, output, "".join(output))


def _points(asked: ChatRequest) -> int:
    return sum(len(message.text) for message in asked.messages)


def _common(asked: ChatRequest) -> dict[str, Any]:
    return {"id": new_id("chatcmpl"), "created": int(time.time()), "model": asked.model}


def _body(asked: ChatRequest, output: Answer, text: str) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": output.finish_reason,
    }
    counts = usage(output.prompt_tokens, output.tokens)
    return _common(asked) | {"object": "chat.completion", "choices": [choice], "usage": counts}


def _order(asked: ChatRequest) -> WriteOrder:
    messages = [(message.role, message.text) for message in asked.messages]
    prompt, written = conversation(messages)
    return WriteOrder(
        prompt=prompt,
        written=written,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        messages=tuple(messages),
        stops=tuple(asked.stops),
        limit=asked.max_completion_tokens or asked.max_tokens,
    )


def _streamed(request: Request, asked: ChatRequest, output: Answer, common: dict[str, Any]) -> EventStream:
    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return common | {"object": "chat.completion.chunk", "choices": [choice], "usage": None}

    def closing() -> list[dict[str, Any]]:
        last = [chunk({}, output.finish_reason)]
        if asked.include_usage:
            last.append(last[0] | {"choices": [], "usage": usage(output.prompt_tokens, output.tokens)})
        return last

    return EventStream(
        output,
        streams=request.app.state.streams,
        per_second=request.app.state.settings.tokens_per_second,
        opening=[chunk({"role": "assistant", "content": ""})],
        body=lambda text: chunk({"content": text}),
        closing=closing,
    )


routes = [Route("/chat/completions", create_chat_completion, methods=["POST"])]
