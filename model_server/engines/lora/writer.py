"""The door of a base model or adapter: turns an order into a row of the host's batch."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from ...errors import invalid
from ...generation import Stops, in_engine_thread
from ..base import WriteOrder
from .chat import BadChat
from .engine import Host
from .sampling import Dials
from .sequence import LoraAnswer, Row
from .text import Decoder

DEFAULT_LIMIT = 2048


class LoraWriter:
    """Writes with `base`, and the adapter in the folder `adapter` if there is one."""

    def __init__(self, host: Host, base: str, adapter: Path | None = None) -> None:
        self._host = host
        self._base = base
        self._adapter = adapter

    async def answer(self, order: WriteOrder) -> LoraAnswer:
        """Begins to write. Raises ApiError: 400 for a prompt the model cannot take, 429 when there is no room."""
        loop = asyncio.get_running_loop()
        row = await in_engine_thread(lambda: self._row(order, loop))
        self._host.submit(row)
        return LoraAnswer(row)

    def _row(self, order: WriteOrder, loop: asyncio.AbstractEventLoop) -> Row:
        language = self._host.language(self._base)
        try:
            prompt = (
                language.start_ids(order.raw) if order.as_completion else language.prompt_ids(order.messages)
            )
        except BadChat as error:
            raise invalid(str(error), param="messages") from None
        room = language.context - len(prompt)
        if room < 1 or not prompt:
            raise invalid(
                f"This model takes {language.context} tokens, prompt and answer together; the prompt has"
                f" {len(prompt)}.",
                param="prompt" if order.as_completion else "messages",
                code="context_length_exceeded",
            )
        numbers = random.Random() if order.seed is None else random.Random(order.seed)
        return Row(
            base=self._base,
            adapter=self._adapter,
            prompt=prompt,
            dials=Dials(order.temperature, order.top_p, numbers),
            limit=min(order.limit or DEFAULT_LIMIT, room),
            ends=language.ends,
            decoder=Decoder(language.tokenizer, prompt),
            stops=Stops(order.stops),
            loop=loop,
        )
