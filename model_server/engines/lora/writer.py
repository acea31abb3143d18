"""The writer of a base model or of an adapter: turns an order into a sequence and submits it to the engine."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from ...errors import invalid
from ...generation import StopStrings, in_engine_thread
from ..base import WriteOrder
from .chat import BadChat
from .engine import Engine
from .sequence import LoraAnswer, Sequence
from .text import Decoder

DEFAULT_LIMIT = 2048


class LoraWriter:
    """Writes with `base`, and with the adapter in the folder `adapter` if there is one."""

    def __init__(self, engine: Engine, base: str, adapter: Path | None = None) -> None:
        self._engine = engine
        self._base = base
        self._adapter = adapter

    async def answer(self, order: WriteOrder) -> LoraAnswer:
        """Begins to write. Raises ApiError: 400 for a prompt that the model cannot take, 429 if too many wait."""
        loop = asyncio.get_running_loop()
        sequence = await in_engine_thread(lambda: self._new_sequence(order, loop))
        self._engine.submit(sequence)
        return LoraAnswer(sequence)

    def _new_sequence(self, order: WriteOrder, loop: asyncio.AbstractEventLoop) -> Sequence:
        tokenizer = self._engine.tokenizer(self._base)
        try:
            prompt = (
                tokenizer.start_ids(order.raw)
                if order.as_completion
                else tokenizer.prompt_ids(order.messages)
            )
        except BadChat as error:
            raise invalid(str(error), param="messages") from None
        room = tokenizer.context - len(prompt)
        if room < 1 or not prompt:
            raise invalid(
                f"This model takes {tokenizer.context} tokens, prompt and answer together; the prompt has"
                f" {len(prompt)}.",
                param="prompt" if order.as_completion else "messages",
                code="context_length_exceeded",
            )
        return Sequence(
            base=self._base,
            adapter=self._adapter,
            prompt=prompt,
            sampling=order.sampling,
            rng=random.Random() if order.seed is None else random.Random(order.seed),
            limit=min(order.limit or DEFAULT_LIMIT, room),
            end_tokens=tokenizer.end_tokens,
            decoder=Decoder(tokenizer.inner, prompt),
            stops=StopStrings(order.stops),
            loop=loop,
        )
