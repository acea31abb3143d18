"""The pace of streams, clients that leave, and the end of the server."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.servers import wait_until

from .conftest import Server

MESSAGES = [{"role": "user", "content": "唐,隐形,轻松"}]


def test_streams_are_paced_and_whole_answers_are_not(start: Callable[..., Server]) -> None:
    server = start("--tokens-per-second", "30", "--mistake-rate", "0")
    began = time.monotonic()
    stream = server.client.chat.completions.create(
        model="base-zh", messages=MESSAGES, stream=True, max_tokens=150
    )
    arrivals = [time.monotonic() for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    assert arrivals[-1] - began >= 4.8
    assert arrivals[0] - began < 3
    assert len(arrivals) >= 40
    began = time.monotonic()
    server.client.chat.completions.create(model="base-zh", messages=MESSAGES, max_tokens=150)
    assert time.monotonic() - began < 3


def test_a_client_that_leaves_ends_its_stream(start: Callable[..., Server]) -> None:
    server = start("--tokens-per-second", "2")
    stream = server.client.chat.completions.create(model="base-zh", messages=MESSAGES, stream=True)
    next(iter(stream))
    assert server.health()["streams"] == 1
    stream.close()
    wait_until(lambda: not server.health()["streams"], seconds=15, what="the stream ends with its client")


def test_many_streams_keep_their_pace_beside_each_other(start: Callable[..., Server]) -> None:
    server = start("--tokens-per-second", "60", "--mistake-rate", "0")
    streams = [
        server.client.chat.completions.create(model="base-zh", messages=MESSAGES, stream=True, max_tokens=60)
        for _ in range(10)
    ]
    began = time.monotonic()
    texts = ["".join(chunk.choices[0].delta.content or "" for chunk in stream) for stream in streams]
    assert time.monotonic() - began < 8, "one after the other they take ten seconds"
    assert [len(text) for text in texts] == [60] * 10


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_promptly_with_streams_open(start: Callable[..., Server], sign: int) -> None:
    server = start("--tokens-per-second", "1")
    stream = server.client.chat.completions.create(model="base-zh", messages=MESSAGES, stream=True)
    next(iter(stream))
    assert server.stop(sign) < 4
    stream.close()
