"""The provider that bench/bulk.py measures against: a limit of requests a minute, 200 ms an answer, a ledger.

    python -m bench.bulk_provider PORT

`POST /rules {"per_minute": 600, "headers": true, "latency": 0.2}` sets the rules and empties the ledger;
`GET /ledger` tells what was asked since. The limit is a bucket of one second's worth, filled evenly: what is
asked faster than that meets a 429, with `x-ratelimit-*` and `Retry-After` or with neither.
"""

import asyncio
import json
import math
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import uvicorn

TEXT = "唐朝的少年推开门，看见满街的灯。他和奥特曼一起打败了怪兽，然后笑着走回了长安。" * 7


@dataclass
class Rules:
    """`per_minute` 0 is no limit."""

    per_minute: int = 0
    headers: bool = True
    latency: float = 0.2
    level: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.level, self.at = 1.0, time.monotonic()

    @property
    def most(self) -> float:
        return max(1.0, self.per_minute / 60)

    def take(self) -> float:
        """0 for a call within the limit, else the seconds until there is room for one."""
        if not self.per_minute:
            return 0.0
        now = time.monotonic()
        self.level = min(self.most, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) * 60 / self.per_minute

    def said(self, wait: float) -> list[tuple[bytes, bytes]]:
        """The headers of an answer."""
        if not self.headers or not self.per_minute:
            return []
        full = (self.most - self.level) * 60 / self.per_minute
        said = {
            "x-ratelimit-limit-requests": str(self.per_minute),
            "x-ratelimit-remaining-requests": str(int(self.level)),
            "x-ratelimit-reset-requests": f"{math.ceil(full * 1000)}ms",
        }
        if wait:
            said["retry-after-ms"] = str(math.ceil(wait * 1000))
            said["retry-after"] = str(math.ceil(wait))
        return [(name.encode(), value.encode()) for name, value in said.items()]


@dataclass
class Ledger:
    """Seconds are `time.time()`."""

    written: int = 0
    refused: int = 0
    first_at: float = 0.0
    last_at: float = 0.0


class Provider:
    """The ASGI application."""

    def __init__(self) -> None:
        self.rules, self.ledger = Rules(), Ledger()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await _read(receive)
        if scope["path"] == "/rules":
            self.rules, self.ledger = Rules(**json.loads(body)), Ledger()
            await _answer(send, 200, {})
        elif scope["path"] == "/ledger":
            await _answer(send, 200, vars(self.ledger))
        elif scope["method"] == "GET":
            await _answer(send, 200, {"id": "bench", "object": "model", "created": 0, "owned_by": "bench"})
        else:
            await self._write(send)

    async def _write(self, send: Any) -> None:
        ledger = self.ledger
        ledger.first_at = ledger.first_at or time.time()
        wait = self.rules.take()
        headers = self.rules.said(wait)
        if wait:
            ledger.refused += 1
            error = {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}
            await _answer(send, 429, {"error": error}, headers)
            return
        await asyncio.sleep(self.rules.latency)
        ledger.written += 1
        ledger.last_at = time.time()
        await _answer(send, 200, _completion(), headers)


def _completion() -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT}
    usage = {"prompt_tokens": 200, "completion_tokens": len(TEXT), "total_tokens": 200 + len(TEXT)}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    frame = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "bench"}
    return frame | {"choices": [choice], "usage": usage}


async def _read(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _answer(send: Any, status: int, body: Any, headers: Any = ()) -> None:
    content = json.dumps(body).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*head, *headers]})
    await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    uvicorn.run(Provider(), port=int(sys.argv[1]), log_level="warning", lifespan="off", ws="none")
