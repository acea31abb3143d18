"""Who watches in the stream benchmark: sockets as a reader's browser opens them, and a bare `openai` client.

Both note when each code point of a text had arrived (CLOCK_MONOTONIC), so that the two can be laid side by
side with what the provider noted.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from typing import Any

import openai
from websockets.asyncio.client import connect

PROMPT = [{"role": "user", "content": "唐,隐形,轻松"}]


@dataclass
class Seen:
    """What one watcher saw: `arrivals` are (time, code points held then)."""

    began: float = 0.0
    text: str = ""
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    ended: str = ""
    faults: list[str] = field(default_factory=list)

    def take(self, text: str) -> None:
        self.text += text
        self.arrivals.append((time.monotonic(), len(self.text)))


def watch(urls: Sequence[str], headers: dict[str, str], ready: Event, results: "Queue[Any]") -> None:
    """The process of all viewers: connects every one, says so, and follows each to its end."""
    results.put(asyncio.run(_watch_all(urls, headers, ready)))


async def _watch_all(urls: Sequence[str], headers: dict[str, str], ready: Event) -> list[Seen]:
    greeted = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_watch(url, headers, greeted)) for url in urls]
    for _ in urls:
        await greeted.acquire()
    ready.set()
    return await asyncio.gather(*tasks)


async def _watch(url: str, headers: dict[str, str], greeted: asyncio.Semaphore) -> Seen:
    seen = Seen()
    async with connect(url, additional_headers=headers, compression=None, open_timeout=60) as socket:
        async for raw in socket:
            message = json.loads(raw)
            if message["type"] == "text":
                if message["offset"] != len(seen.text):
                    seen.faults.append(f"text at {message['offset']}, not {len(seen.text)}")
                seen.take(message["text"])
            elif message["type"] == "hello":
                greeted.release()
            elif message["type"] == "end":
                seen.ended = message["state"]
    return seen


def call(base_url: str, count: int, apart: float, results: "Queue[Any]") -> None:
    """The process of the bare client: `count` calls, begun `apart` seconds from each other."""
    results.put(asyncio.run(_call_all(base_url, count, apart)))


async def _call_all(base_url: str, count: int, apart: float) -> list[Seen]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        return await asyncio.gather(*(_call(client, number * apart) for number in range(count)))


async def _call(client: openai.AsyncOpenAI, after: float) -> Seen:
    await asyncio.sleep(after)
    seen = Seen(began=time.monotonic())
    try:
        stream: Any = await client.chat.completions.create(model="bench", messages=PROMPT, stream=True)  # type: ignore[arg-type]
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                seen.take(chunk.choices[0].delta.content)
            if chunk.choices and chunk.choices[0].finish_reason:
                seen.ended = "written"
    except openai.APIError as error:
        seen.faults.append(str(error))
    return seen
