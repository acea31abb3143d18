"""One answer that is being generated: the engine's thread appends tokens to it, the event loop reads its text."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

from ...generation import StopStrings
from ..base import SamplingParams
from .text import Decoder

Piece = str | BaseException | None  # None: the end


@dataclass(eq=False)
class Sequence:
    """A request in the model's terms, and how far its answer has come (`Sequence` as in vLLM).

    `prompt` holds token ids, `adapter` is the adapter's folder or None, `limit` the largest number of new tokens.
    The engine's thread collects text in `outbox` and then moves it to the queue `pieces`, which belongs to `loop`.
    `position` is the place of the next token, `last_token` the token that is read next. `abandoned` is set when the
    client has gone.
    """

    base: str
    adapter: Path | None
    prompt: list[int]
    sampling: SamplingParams
    rng: random.Random
    limit: int
    end_tokens: set[int]
    decoder: Decoder
    stops: StopStrings
    loop: asyncio.AbstractEventLoop
    pieces: asyncio.Queue[Piece] = field(default_factory=asyncio.Queue)
    outbox: list[Piece] = field(default_factory=list)
    tokens: int = 0
    finish_reason: str = "stop"
    position: int = 0
    last_token: int = 0
    finished: bool = False
    abandoned: bool = False

    @property
    def ended(self) -> bool:
        """Whether no further token is needed."""
        return self.finished or self.abandoned

    def append(self, token: int) -> None:
        """Takes the next token: its text goes to the outbox, or the sequence ends."""
        self.last_token = token
        if token in self.end_tokens:
            self._finish("stop")
            return
        self.tokens += 1
        self._emit(self.stops.feed(self.decoder.feed(token)))
        if self.stops.found:
            self._finish("stop", rest=False)
        elif self.tokens >= self.limit:
            self._finish("length")

    def fail(self, error: BaseException) -> None:
        """Ends the sequence with an error."""
        if not self.finished:
            self.finished = True
            self.outbox.append(error)

    def _finish(self, reason: str, *, rest: bool = True) -> None:
        self.finish_reason = reason
        if rest:
            self._emit(self.stops.feed(self.decoder.rest()))
            self._emit("" if self.stops.found else self.stops.rest())
        self.finished = True
        self.outbox.append(None)

    def _emit(self, text: str) -> None:
        if text:
            self.outbox.append(text)


class LoraAnswer:
    """The client's side of a sequence; when it is left or garbage-collected, generation ends."""

    paced = False

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self.prompt_tokens = len(sequence.prompt)

    @property
    def finish_reason(self) -> str:
        """`stop` or `length`, once the text has ended."""
        return self._sequence.finish_reason

    @property
    def tokens(self) -> int:
        """Tokens generated so far; the end token does not count."""
        return self._sequence.tokens

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        try:
            while (piece := await self._sequence.pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self._sequence.abandoned = True

    def __del__(self) -> None:
        self._sequence.abandoned = True
