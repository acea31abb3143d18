"""The provider of the stream benchmark: one asyncio process that writes at a fixed pace and notes each piece.

Every call gets a text of its own, which begins with the call's number; a piece of one to three characters
leaves every 30 to 40 ms, the first after `FIRST_AFTER`. `GET /sent` answers with what left, and when
(CLOCK_MONOTONIC, which all processes of a machine share).

The suite's provider (tests/provider) does not do here: with 300 streams on two cores it slowed the bare client
that the site is compared with. Its pieces came 2 to 3 s late instead of 0.3 s.
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

PIECES = 270
FIRST_AFTER = 0.5  # seconds: what hosted models take to their first character
PACE = (0.030, 0.040)  # seconds between two pieces
LETTERS = "长安汴京铸剑师驿卒少年怪兽奥特曼光海风火山城灯铃霓虹夜雨，。😀𠮷\n"
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"x-ratelimit-limit-requests: 30000\r\nx-ratelimit-remaining-requests: 29999\r\n\r\n"
)


def text_pieces(call: int, *, pieces: int = PIECES) -> list[str]:
    """The pieces of the text of a call: its number in brackets, then characters by chance."""
    luck = random.Random(call)
    rest = ["".join(luck.choices(LETTERS, k=luck.randint(1, 3))) for _ in range(pieces - 1)]
    return [f"【{call}】", *rest]


def call_of(text: str) -> int:
    """The number of the call that wrote the text."""
    return int(text[1 : text.index("】")])


@dataclass
class Provider:
    """`sent[call][n]` is when piece n left."""

    pieces: int = PIECES
    sent: dict[int, list[float]] = field(default_factory=dict)
    calls: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive over many requests."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(_content_length(head))
                await (self._tell(writer) if head.startswith(b"GET") else self._write(writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has gone
        finally:
            writer.close()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        body = json.dumps(self.sent).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        call, due = self.calls, time.monotonic() + FIRST_AFTER
        sent = self.sent[call] = []
        writer.write(HEAD + _chunk(_event({"role": "assistant", "content": ""})))
        luck, pieces = random.Random(-call), text_pieces(call, pieces=self.pieces)
        for piece in pieces:
            await asyncio.sleep(due - time.monotonic())
            sent.append(time.monotonic())
            writer.write(_chunk(_event({"content": piece})))
            due += luck.uniform(*PACE)
        usage = {"prompt_tokens": 200, "completion_tokens": sum(map(len, pieces)), "total_tokens": 0}
        writer.write(_chunk(_event({}, finish="stop")) + _chunk(_frame(choices=[], usage=usage)))
        writer.write(_chunk("[DONE]") + b"0\r\n\r\n")
        await writer.drain()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _event(delta: dict[str, str], *, finish: str | None = None) -> str:
    return _frame(choices=[{"index": 0, "delta": delta, "finish_reason": finish}], usage=None)


def _frame(**parts: Any) -> str:
    frame = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "bench",
    }
    return json.dumps(frame | parts, ensure_ascii=False)


def _chunk(event: str) -> bytes:
    data = f"data: {event}\n\n".encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def run(port: int, pieces: int) -> None:
    """The process: serves until it is ended."""

    async def serve() -> None:
        provider = Provider(pieces)
        server = await asyncio.start_server(provider.serve, "127.0.0.1", port, backlog=1024)
        await server.serve_forever()

    asyncio.run(serve())
