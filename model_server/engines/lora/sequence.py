"""One answer on its way: taken token by token by the generating thread, handed piece by piece to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

from ...generation import Stops
from .sampling import Dials
from .text import Decoder

Piece = str | BaseException | None  # None: the end


@dataclass(eq=False)
class Row:
    """An order in the words of the model: token ids, an adapter's folder or None, dials, limit, end tokens."""

    base: str
    adapter: Path | None
    prompt: list[int]
    dials: Dials
    limit: int
    ends: set[int]
    decoder: Decoder
    stops: Stops
    loop: asyncio.AbstractEventLoop
    pieces: asyncio.Queue[Piece] = field(default_factory=asyncio.Queue)
    outbox: list[Piece] = field(default_factory=list)
    tokens: int = 0
    finish_reason: str = "stop"
    position: int = 0
    last: int = 0
    finished: bool = False
    left: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be written."""
        return self.finished or self.left

    def take(self, token: int) -> None:
        """The next token: text for the outbox, or the end."""
        self.last = token
        if token in self.ends:
            self._finish("stop")
            return
        self.tokens += 1
        self._say(self.stops.feed(self.decoder.feed(token)))
        if self.stops.found:
            self._finish("stop", rest=False)
        elif self.tokens >= self.limit:
            self._finish("length")

    def fail(self, error: BaseException) -> None:
        """Ends it with an error."""
        if not self.finished:
            self.finished = True
            self.outbox.append(error)

    def _finish(self, reason: str, *, rest: bool = True) -> None:
        self.finish_reason = reason
        if rest:
            self._say(self.stops.feed(self.decoder.rest()))
            self._say("" if self.stops.found else self.stops.rest())
        self.finished = True
        self.outbox.append(None)

    def _say(self, text: str) -> None:
        if text:
            self.outbox.append(text)


class LoraAnswer:
    """The client's end of a row; leaving it, or losing it, ends the writing."""

    paced = False

    def __init__(self, row: Row) -> None:
        self._row = row
        self.prompt_tokens = len(row.prompt)

    @property
    def finish_reason(self) -> str:
        """`stop` or `length`, once the text has ended."""
        return self._row.finish_reason

    @property
    def tokens(self) -> int:
        """Tokens of the model written so far; the end token does not count."""
        return self._row.tokens

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        try:
            while (piece := await self._row.pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self._row.left = True

    def __del__(self) -> None:
        self._row.left = True
