"""POST /v1/chat/completions: how the site asks for a story."""

from __future__ import annotations

from typing import Any

from starlette.routing import Route

from ..engines.base import WriteOrder
from ..engines.prompts import conversation
from ..schemas import ChatRequest
from .text_endpoint import TextEndpoint


class ChatEndpoint(TextEndpoint[ChatRequest]):
    """Writes a story, or continues one."""

    schema = ChatRequest
    id_prefix = "chatcmpl"
    body_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def order(self, asked: ChatRequest) -> WriteOrder:
        messages = [(message.role, message.text) for message in asked.messages]
        prompt, written = conversation(messages)
        return WriteOrder(
            prompt=prompt,
            written=written,
            temperature=asked.chosen_temperature,
            top_p=asked.chosen_top_p,
            seed=asked.seed,
            messages=tuple(messages),
            stops=tuple(asked.stops),
            limit=asked.max_completion_tokens or asked.max_tokens,
        )

    def prompt_tokens(self, asked: ChatRequest) -> int:
        return sum(len(message.text) for message in asked.messages)

    def choice(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    def opening(self) -> list[dict[str, Any]]:
        return [{"delta": {"role": "assistant", "content": ""}}]


CHAT = ChatEndpoint()
routes = [Route("/chat/completions", CHAT.create, methods=["POST"])]
