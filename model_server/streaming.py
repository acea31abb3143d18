"""Server-sent events at a readable pace, ended at once when the client goes away.

An answer is iterated asynchronously. A blocking engine's steps run in threads (generation.py), so the event loop keeps
the pace of all streams, however many requests wait for an engine.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .engines.base import Answer
from .errors import ApiError

log = logging.getLogger("model_server")

_PIECES_PER_SECOND = 30
_UNPACED_PIECE = 16
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that has left; the standard has none

Chunk = dict[str, Any]


class StreamCounter:
    """How many streams are open; /health shows it."""

    def __init__(self) -> None:
        self.open = 0

    @contextmanager
    def count(self) -> Iterator[None]:
        """Counts a stream for as long as it runs, however it ends."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


async def paced(pieces: AsyncGenerator[str, None], per_second: float) -> AsyncGenerator[str, None]:
    """The same text in small pieces: at most 30 a second that together make `per_second` tokens; 0: no waiting."""
    size = max(1, round(per_second / _PIECES_PER_SECOND)) if per_second else _UNPACED_PIECE
    loop = asyncio.get_running_loop()
    start, sent = loop.time(), 0
    # A consumer that stops early ends the generation at once, rather than when the garbage is collected.
    async with aclosing(pieces):
        async for piece in pieces:
            for at in range(0, len(piece), size):
                part = piece[at : at + size]
                wait = start + sent / per_second - loop.time() if per_second else 0
                await asyncio.sleep(max(0, wait))
                yield part
                sent += len(part)


class EventStream(StreamingResponse):
    """Chunks as `data:` lines, ended by `data: [DONE]`; a client that leaves cancels the rest.

    `opening` chunks come first, then `body(text)` for each piece, then what `closing()` returns.
    """

    def __init__(
        self,
        output: Answer,
        *,
        streams: StreamCounter,
        per_second: float,
        opening: list[Chunk],
        body: Callable[[str], Chunk],
        closing: Callable[[], list[Chunk]],
    ) -> None:
        self._output = output
        self._streams = streams
        self._per_second = per_second if output.paced else 0.0
        self._opening = opening
        self._body = body
        self._closing = closing
        super().__init__(self._lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends, and at the same time waits for the disconnect, which a waiting generator would notice too late."""
        with self._streams.count():
            sending = asyncio.ensure_future(self.stream_response(send))
            leaving = asyncio.ensure_future(_disconnected(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                if not sending.done():
                    sending.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled() and sending.exception():
            raise sending.exception() or RuntimeError("unreachable")

    async def _lines(self) -> AsyncIterator[str]:
        for chunk in self._opening:
            yield _line(chunk)
        try:
            async with aclosing(paced(self._output.__aiter__(), self._per_second)) as pieces:
                async for text in pieces:
                    yield _line(self._body(text))
        except Exception:  # the status line was sent, so the error can only go into the stream
            log.exception("a stream failed")
            yield _line({"error": {"message": "The model failed while writing.", "type": "server_error"}})
            return
        for chunk in self._closing():
            yield _line(chunk)
        yield "data: [DONE]\n\n"


async def read_whole(output: Answer, receive: Receive) -> str:
    """The whole text of an answer that is not streamed; a client that leaves ends the writing."""
    writing = asyncio.ensure_future(_joined(output))
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            writing.cancel()
            raise ApiError(
                CLIENT_CLOSED_REQUEST,
                "The client left before the answer was written.",
                kind="client_closed_request",
            )
        return writing.result()
    finally:
        leaving.cancel()
        await asyncio.gather(writing, leaving, return_exceptions=True)


async def _joined(output: Answer) -> str:
    return "".join([piece async for piece in output])


def _line(chunk: Chunk) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
