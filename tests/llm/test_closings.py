"""Every way to close a connection × both clients: what was sent is never asked again, and counts as spent."""

import asyncio
import socket
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from llm import calls, clients, streams
from llm.answers import Answer
from llm.errors import OutcomeUnknown, TryAgainLater
from llm.questions import Ask
from stories.generation import streaming
from stories.generation.completion import fill
from stories.models import Attempt, Run, Story
from tests.conftest import point_at
from tests.factories import make_model, make_run, make_serving_model, make_story
from tests.wires import At, Close, Wire

ASK = Ask("gpt-x", ({"role": "user", "content": "唐,隐形,轻松"},), "", "", 0.5, 100)
Call = Callable[[], Any]


def whole() -> Answer:
    return calls.complete("default", ASK)


def streamed() -> list[Answer]:
    async def read() -> list[Answer]:
        api = clients.async_client("default", limit=10)
        try:
            return [piece async for piece in streams.stream(api, ASK)]
        finally:
            await api.close()

    return asyncio.run(read())


both_clients = pytest.mark.parametrize("call", [whole, streamed])
CLOSINGS = [(how, at) for how in Close for at in At if (how, at) != (Close.RST, At.ACCEPT)]
every_closing = pytest.mark.parametrize(("how", "at"), CLOSINGS)


@both_clients
@every_closing
def test_what_may_have_been_sent_is_an_unknown_outcome(settings: Any, how: Close, at: At, call: Call) -> None:
    with Wire(how, at=at) as wire:
        point_at(settings, wire.base_url)
        with pytest.raises(OutcomeUnknown) as caught:
            call()
    assert str(caught.value) == "与模型服务的连接中断了，结果不明。"
    assert wire.connections == 1
    assert wire.requests == (0 if at in (At.ACCEPT, At.HALF_REQUEST) else 1)


@both_clients
def test_a_reset_at_once_may_come_before_anything_was_sent(settings: Any, call: Call) -> None:
    """Who meets the reset while connecting knows that nothing left; who meets it later does not."""
    with Wire(Close.RST, at=At.ACCEPT) as wire:
        point_at(settings, wire.base_url)
        with pytest.raises((TryAgainLater, OutcomeUnknown)):
            call()
    assert (wire.connections, wire.requests) == (1, 0)


@both_clients
def test_what_never_left_may_be_asked_again(settings: Any, call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    point_at(settings, f"http://127.0.0.1:{port}/v1")  # refused
    with pytest.raises(TryAgainLater, match="连不上"):
        call()
    point_at(settings, "http://no-such-host.invalid/v1")
    with pytest.raises(TryAgainLater, match="连不上"):
        call()


@both_clients
def test_a_peer_that_speaks_no_tls_was_never_asked(settings: Any, call: Call) -> None:
    with Wire(Close.FIN, at=At.HALF_REQUEST) as wire:
        point_at(settings, wire.base_url.replace("http:", "https:"))
        with pytest.raises(TryAgainLater, match="连不上"):
            call()
    assert wire.requests == 0


@both_clients
def test_a_peer_that_accepts_nobody_was_never_asked(
    settings: Any, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "CONNECT_TIMEOUT", 0.3)
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):  # fill the queue, so that the next handshake is left unanswered
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        point_at(settings, f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        with pytest.raises(TryAgainLater, match="连不上"):
            call()


@both_clients
def test_silence_is_told_from_a_broken_connection(
    settings: Any, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "READ_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        point_at(settings, f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        with pytest.raises(OutcomeUnknown, match="没有在限定时间内回答"):
            call()


# --- idle connections -----------------------------------------------------------------------------------


def whole_twice(pause: float) -> None:
    calls.complete("default", ASK)
    time.sleep(pause)  # the connection lies idle
    calls.complete("default", ASK)


def streamed_twice(pause: float) -> None:
    async def read() -> None:
        api = clients.async_client("default", limit=10)
        try:
            for wait in (pause, 0.0):
                _pieces = [piece async for piece in streams.stream(api, ASK)]
                await asyncio.sleep(wait)  # the connection lies idle
        finally:
            await api.close()

    asyncio.run(read())


both_twice = pytest.mark.parametrize("twice", [whole_twice, streamed_twice])


@both_twice
def test_a_connection_that_is_kept_and_closes_on_the_next_request_is_no_reason_to_ask_again(
    settings: Any, twice: Callable[[float], None]
) -> None:
    with Wire(Close.FIN, at=At.REQUEST, kept=1) as wire:
        point_at(settings, wire.base_url)
        with pytest.raises(OutcomeUnknown):
            twice(0.0)
    assert (wire.connections, wire.requests) == (1, 2)


@both_twice
def test_an_idle_connection_is_given_up_before_its_peer_does(
    settings: Any, twice: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same peer; the pause is longer than ours, so that its close meets no request."""
    monkeypatch.setattr(clients, "KEEP_ALIVE", 0.05)
    with Wire(Close.FIN, at=At.REQUEST, kept=1) as wire:
        point_at(settings, wire.base_url)
        twice(0.3)
    assert (wire.connections, wire.requests) == (2, 2)


def test_connections_are_kept_for_less_time_than_any_server_keeps_them() -> None:
    assert clients.KEEP_ALIVE < 2  # gunicorn's two seconds are the shortest in use


# --- stories: one billed call, which the ledger counts as spent --------------------------------------------


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize("how", Close)
@pytest.mark.parametrize("at", [At.REQUEST, At.HEADER, At.HEADERS])
def test_a_readers_story_is_one_billed_call_and_counts_as_spent(settings: Any, how: Close, at: At) -> None:
    with Wire(how, at=at) as wire:
        point_at(settings, wire.base_url)
        model = make_serving_model(input_price=Decimal(1), output_price=Decimal(2))
        story = make_story(state=Story.State.QUEUED, language_model=model)
        for _ in range(3):  # its message, delivered again and again
            streaming.write(Story.objects.get(pk=story.pk))
    story.refresh_from_db()
    attempt = Attempt.objects.get()
    assert wire.requests == 1
    assert (story.state, story.end_reason) == ("failed", "unknown")
    assert attempt.state == Attempt.State.UNKNOWN
    assert attempt.price == attempt.reserved > 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize("how", Close)
def test_a_story_of_a_run_is_one_billed_call_and_counts_as_spent(settings: Any, how: Close) -> None:
    with Wire(how, at=At.REQUEST) as wire:
        point_at(settings, wire.base_url)
        run = make_run(language_model=make_model(input_price=Decimal(1), output_price=Decimal(2)))
        story = make_story(state=Story.State.QUEUED, run=run)
        for _ in range(3):
            assert not fill(
                Story.objects.select_related("run", "language_model", "template").get(pk=story.pk)
            )
    attempt = Attempt.objects.get()
    assert wire.requests == 1
    assert attempt.state == Attempt.State.UNKNOWN
    assert attempt.price == attempt.reserved == Run.objects.get(pk=run.pk).spent > 0
