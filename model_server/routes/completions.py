"""POST /v1/completions: the older endpoint, for models tuned on prompt/completion lines."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..clients import client_of
from ..engines.base import Answer, WriteOrder, Writer
from ..engines.prompts import split_completion_prompt
from ..generation import Output, begin, in_engine_thread, usage
from ..schemas import CompletionRequest, read_json
from ..store import new_id
from ..streaming import EventStream, whole

_DEFAULT_LIMIT = 2048  # OpenAI's own default of 16 would cut every story


async def create_completion(request: Request) -> Response:
    """Completes `宋,发射激光,艰难 ->`, possibly followed by the text so far."""
    asked = await read_json(request, CompletionRequest)
    state = request.app.state
    client = client_of(request)
    engine = await in_engine_thread(lambda: state.registry.writer(asked.model, client=client))
    output = await begin(engine, _order(asked), prompt_tokens=len(asked.text))
    if asked.stream:
        return _streamed(request, asked, output, _common(asked))
    text = await whole(output, request.receive)
    return JSONResponse(_body(asked, output, text))


def write(asked: CompletionRequest, writer: Writer) -> dict[str, Any]:
    """The whole answer of a built-in engine; blocks while it is written."""
    order = _order(asked)
    output = Output(writer.write(order), stops=order.stops, limit=order.limit, prompt_tokens=len(asked.text))
    return _body(asked, output, "".join(output))


def _common(asked: CompletionRequest) -> dict[str, Any]:
    return {
        "id": new_id("cmpl"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": asked.model,
    }


def _body(asked: CompletionRequest, output: Answer, text: str) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": output.finish_reason}
    return _common(asked) | {"choices": [choice], "usage": usage(output.prompt_tokens, output.tokens)}


def _order(asked: CompletionRequest) -> WriteOrder:
    prompt, written = split_completion_prompt(asked.text)
    return WriteOrder(
        prompt=prompt,
        written=written,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        as_completion=True,
        raw=asked.text,
        stops=tuple(asked.stops),
        limit=asked.max_tokens or _DEFAULT_LIMIT,
    )


def _streamed(
    request: Request, asked: CompletionRequest, output: Answer, common: dict[str, Any]
) -> EventStream:
    def chunk(text: str, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        return common | {"choices": [choice], "usage": None}

    def closing() -> list[dict[str, Any]]:
        last = [chunk("", output.finish_reason)]
        if asked.include_usage:
            last.append(last[0] | {"choices": [], "usage": usage(output.prompt_tokens, output.tokens)})
        return last

    return EventStream(
        output,
        streams=request.app.state.streams,
        per_second=request.app.state.settings.tokens_per_second,
        opening=[],
        body=chunk,
        closing=closing,
    )


routes = [Route("/completions", create_completion, methods=["POST"])]
