"""POST /v1/completions: the older endpoint, for models tuned on prompt/completion lines."""

from __future__ import annotations

from typing import Any

from starlette.routing import Route

from ..engines.base import WriteOrder
from ..engines.prompts import split_completion_prompt
from ..schemas import CompletionRequest
from .text_endpoint import TextEndpoint

_DEFAULT_LIMIT = 2048  # OpenAI's own default of 16 would cut every story


class CompletionEndpoint(TextEndpoint[CompletionRequest]):
    """Completes `宋,发射激光,艰难 ->`, possibly followed by the text so far."""

    schema = CompletionRequest
    id_prefix = "cmpl"
    body_object = "text_completion"
    chunk_object = "text_completion"

    def order(self, asked: CompletionRequest) -> WriteOrder:
        prompt, written = split_completion_prompt(asked.text)
        return WriteOrder(
            prompt=prompt,
            written=written,
            temperature=asked.chosen_temperature,
            top_p=asked.chosen_top_p,
            seed=asked.seed,
            as_completion=True,
            raw=asked.text,
            stops=tuple(asked.stops),
            limit=asked.max_tokens or _DEFAULT_LIMIT,
        )

    def prompt_tokens(self, asked: CompletionRequest) -> int:
        return len(asked.text)

    def choice(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def delta(self, text: str) -> dict[str, Any]:
        return {"text": text}


COMPLETIONS = CompletionEndpoint()
routes = [Route("/completions", COMPLETIONS.create, methods=["POST"])]
