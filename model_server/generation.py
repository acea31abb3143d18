"""Between an engine and a client: stop strings, the token limit, and the counts.

For the built-in engines a token is one code point; an engine that is `Answering` counts its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from .engines.base import Answer, Answering, WriteOrder, Writer

_ENGINE_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="engine")

Result = TypeVar("Result")


async def in_engine_thread(function: Callable[[], Result]) -> Result:
    """Runs blocking model work outside the event loop, in a small pool of its own."""
    return await asyncio.get_running_loop().run_in_executor(_ENGINE_THREADS, function)


async def begin(writer: Writer | Answering, order: WriteOrder, *, prompt_tokens: int) -> Answer:
    """The answer to `order`; `prompt_tokens` are code points, for writers that do not count themselves."""
    if isinstance(writer, Answering):
        return await writer.answer(order)
    return Output(writer.write(order), stops=order.stops, limit=order.limit, prompt_tokens=prompt_tokens)


class Output:
    """The answer of a built-in writer; stop strings and the limit are applied here.

    Iterate it for its pieces, in a thread or asynchronously; afterwards `finish_reason` and `tokens` hold.
    """

    paced = True

    def __init__(
        self, pieces: Iterator[str], *, stops: Sequence[str], limit: int | None, prompt_tokens: int = 0
    ) -> None:
        self._pieces = pieces
        self._stops = StopStrings(stops)
        self._limit = limit
        self.prompt_tokens = prompt_tokens
        self.finish_reason = "stop"
        self.tokens = 0

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        pieces = iter(self)
        while (piece := await in_engine_thread(lambda: next(pieces, None))) is not None:
            yield piece

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            yield from self._within_limit(self._stops.feed(piece))
            if self._stops.found or self.finish_reason == "length":
                return
        yield from self._within_limit(self._stops.rest())

    def _within_limit(self, text: str) -> Iterator[str]:
        if self._limit is not None and self.tokens + len(text) > self._limit:
            text = text[: self._limit - self.tokens]
            self.finish_reason = "length"
        if text:
            self.tokens += len(text)
            yield text


class StopStrings:
    """Ends a text before the first stop string, which may be spread over two pieces.

    An ending that could be the beginning of a stop string is held back until the next piece.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """The part of the text so far that may go out; call it no more once `found` is set."""
        self._held += piece
        ends = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if ends:
            self.found = True
            ready, self._held = self._held[: min(ends)], ""
            return ready
        keep = self._length_of_partial_stop()
        ready, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return ready

    def rest(self) -> str:
        """The text that was held back; called after the last piece."""
        held, self._held = self._held, ""
        return held

    def _length_of_partial_stop(self) -> int:
        for size in range(max((len(stop) for stop in self._stops), default=0) - 1, 0, -1):
            if any(len(stop) > size and stop.startswith(self._held[-size:]) for stop in self._stops):
                return min(size, len(self._held))
        return 0


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
