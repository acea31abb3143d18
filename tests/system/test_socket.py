"""The story socket against a real ASGI server, a real worker and a real provider."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stories.models import Story
from stories.readers.identity import new_key
from stories.tasks import enqueue_story
from tests.factories import make_approved_story, make_story
from tests.provider import Fault, Provider
from tests.servers import wait_until
from tests.sites import Web
from tests.sockets import KEY, Viewer, open_socket, queued_story

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def watch(web: Web) -> Iterator[Callable[..., Viewer]]:
    """`watch(story, "?offset=3", key=…, origin=…)`: a viewer, closed at the end."""
    with ExitStack() as stack:

        def start(story: Story, query: str = "", *, key: str = KEY, origin: str = "") -> Viewer:
            opened = open_socket(web.socket_url, story, query, key=key, origin=origin)
            return Viewer(stack.enter_context(opened))

        yield start


@pytest.mark.both_databases
def test_a_story_is_watched_from_queue_to_end(
    watch: Callable[..., Viewer], start_workers: Callable[..., Any], provider: Provider
) -> None:
    start_workers("readers", base_url=provider.base_url)
    provider.delay = 0.02
    story = queued_story()
    viewer = watch(story)
    viewer.read(until=lambda message: message["type"] == "state")
    assert viewer.messages[0] == {"type": "hello", "attempt": None, "offset": 0, "state": "queued"}
    assert viewer.messages[1] == {"type": "state", "state": "queued", "position": 1}
    enqueue_story(story)
    viewer.read()
    assert viewer.text == provider.text
    assert viewer.types[2:4] == ["restart", "state"]
    assert viewer.messages[-1] == {
        "type": "end", "state": "written", "length": len(provider.text), "reason": "stop",
    }  # fmt: skip
    assert viewer.socket.close_code == 1000


@pytest.mark.both_databases
def test_a_viewer_is_told_that_the_model_thinks_and_then_that_it_writes(
    watch: Callable[..., Viewer], start_workers: Callable[..., Any], provider: Provider
) -> None:
    start_workers("readers", base_url=provider.base_url)
    provider.pieces, provider.hold_after = ["<think>先想", "一想。", "</think>\n", "从前", "有座山。"], 2
    story = queued_story()
    viewer = watch(story)
    enqueue_story(story)
    viewer.read(until=lambda message: "thinking" in message)
    assert viewer.messages[-1] == {"type": "state", "state": "writing", "thinking": 0}
    assert viewer.text == ""
    late = watch(story)
    late.read(until=lambda message: message["type"] == "state")
    assert late.messages[0]["state"] == late.messages[1]["state"] == "writing"
    assert late.messages[1]["thinking"] >= 0
    provider.hold_after = 4
    for one in (viewer, late):
        one.read_text("从前")
        assert one.messages[-2:] == [
            {"type": "state", "state": "writing"},
            {"type": "text", "offset": 0, "text": "从前"},
        ]
    provider.release()
    for one in (viewer, late):
        one.read()
        assert (one.text, one.types[-1]) == ("从前有座山。", "end")


@pytest.mark.both_databases
def test_text_that_was_thinking_is_followed_by_restart_and_the_story(
    watch: Callable[..., Viewer], start_workers: Callable[..., Any], provider: Provider
) -> None:
    start_workers("readers", base_url=provider.base_url)
    provider.pieces, provider.hold_after = ["先想", "一想。", "</think>\n", "从前", "有座山。"], 2
    story = queued_story()
    viewer = watch(story)
    enqueue_story(story)
    viewer.read_text("先想一想。")
    old = viewer.attempt
    provider.release()
    viewer.read(until=lambda message: message["type"] == "restart")
    assert viewer.attempt != old
    viewer.read()
    assert viewer.text == "从前有座山。"
    back = watch(story, f"?attempt={old}&offset=4")
    back.read()
    assert (back.messages[0]["offset"], back.text) == (0, "从前有座山。")


def test_a_story_that_has_ended_is_replayed_from_where_the_client_is(watch: Callable[..., Viewer]) -> None:
    story = make_approved_story()
    viewer = watch(story, f"?attempt={story.attempt_name}&offset=10", key="")
    viewer.text = story.text[:10]
    viewer.read()
    assert viewer.types == ["hello", "text", "end"]
    assert viewer.text == story.text


@pytest.mark.parametrize(
    "query", ["?offset=-1", "?offset=x&attempt=%00", "?offset=9999999999999", "?attempt=a&attempt=b"]
)
def test_a_malformed_position_counts_as_absent(watch: Callable[..., Viewer], query: str) -> None:
    story = make_approved_story()
    viewer = watch(story, query)
    viewer.read()
    assert viewer.messages[0]["offset"] == 0
    assert viewer.text == story.text


def test_unknown_story_and_not_allowed_close_without_hello(watch: Callable[..., Viewer]) -> None:
    private = make_story()
    for story, key, code in ((Story(), KEY, 4404), (private, "", 4403), (private, new_key(), 4403)):
        viewer = watch(story, key=key)
        viewer.read()
        assert (viewer.messages, viewer.socket.close_code) == ([], code)


def test_a_foreign_origin_is_refused_at_the_handshake(web: Web, watch: Callable[..., Viewer]) -> None:
    story = make_approved_story()
    with pytest.raises(InvalidStatus) as refused:
        watch(story, origin="http://evil.example")
    assert refused.value.response.status_code == 403
    own = watch(story, origin=f"http://{urlsplit(web.url).netloc}")
    own.read()
    assert own.text == story.text


@pytest.mark.both_databases
def test_stop_is_for_the_owner_and_keeps_the_text(
    watch: Callable[..., Viewer], start_workers: Callable[..., Any], provider: Provider
) -> None:
    start_workers("readers", base_url=provider.base_url)
    provider.pieces, provider.hold_after = ["从前", "有座", "山。"], 2
    story = queued_story()
    Story.objects.filter(pk=story.pk).update(visibility="link")
    owner, guest = watch(story), watch(story, key=new_key())
    enqueue_story(story)
    for viewer in (owner, guest):
        viewer.read(until=lambda message: message["type"] == "text" and "有座" in message["text"])
    guest.socket.send('{"type":"stop"}')
    owner.socket.send("rubbish")
    owner.socket.send("[]")
    time.sleep(0.7)  # a stop that was obeyed would show by now
    assert Story.objects.get(pk=story.pk).state == "writing"
    owner.socket.send('{"type":"stop"}')
    for viewer in (owner, guest):
        viewer.read()
        assert viewer.messages[-1] == {
            "type": "end",
            "state": "interrupted",
            "length": 4,
            "reason": "stopped",
        }
        assert viewer.text == "从前有座"


def test_a_stopped_queued_story_is_cancelled(watch: Callable[..., Viewer]) -> None:
    story = queued_story()
    viewer = watch(story)
    viewer.socket.send('{"type":"stop"}')
    viewer.read()
    assert viewer.messages[-1] == {"type": "end", "state": "cancelled", "length": 0, "reason": "stopped"}


def test_an_idle_socket_stays_open(watch: Callable[..., Viewer]) -> None:
    """redis-py 8 would close it after five seconds."""
    viewer = watch(queued_story())
    viewer.read(until=lambda message: message["type"] == "state")
    with pytest.raises(TimeoutError):
        viewer.socket.recv(timeout=7)
    viewer.socket.send('{"type":"stop"}')
    viewer.read()
    assert viewer.messages[-1]["type"] == "end"


def test_a_killed_worker_leaves_the_text_and_the_sweeper_ends_the_story(
    watch: Callable[..., Viewer], start_workers: Callable[..., Any], provider: Provider, time_machine: Any
) -> None:
    from datetime import timedelta

    from django.utils import timezone

    from stories.generation.sweeper import expire_leases

    workers = start_workers("readers", base_url=provider.base_url)
    provider.pieces, provider.hold_after = ["从前", "有座", "山。"], 2
    story = queued_story()
    enqueue_story(story)
    viewer = watch(story)
    viewer.read(until=lambda message: message["type"] == "text" and "有座" in message["text"])
    workers.kill("readers")
    assert expire_leases() == []
    time_machine.move_to(timezone.now() + timedelta(seconds=25))
    assert len(expire_leases()) == 1
    viewer.read()
    assert viewer.text == "从前有座"
    assert viewer.messages[-1] == {"type": "end", "state": "interrupted", "length": 4, "reason": "lost"}
    assert len(provider.posts("/v1/chat")) == 1


def test_a_refusal_ends_with_its_reason(
    watch: Callable[..., Viewer], start_workers: Callable[..., Any], provider: Provider
) -> None:
    start_workers("readers", base_url=provider.base_url)
    provider.next(Fault.BAD_REQUEST)
    story = queued_story()
    enqueue_story(story)
    viewer = watch(story)
    viewer.read()
    assert viewer.messages[-1] == {"type": "end", "state": "failed", "length": 0, "reason": "refused"}


def test_an_address_has_only_so_many_sockets(watch: Callable[..., Viewer]) -> None:
    story = queued_story()
    viewers = [watch(story) for _ in range(settings.ADDRESS_SOCKETS)]
    for viewer in viewers:
        viewer.read(until=lambda message: message["type"] == "hello")
    refused = watch(story)
    refused.read()
    assert (refused.messages, refused.socket.close_code) == ([], 1013)
    viewers[0].socket.close()
    wait_until(lambda: is_welcome(watch(story)), what="the socket that was closed makes room for another")


def is_welcome(viewer: Viewer) -> bool:
    """Whether the socket says hello; one too many is closed without a word."""
    viewer.read(until=lambda message: message["type"] == "hello")
    return viewer.types == ["hello"]


def test_who_shouts_is_let_go_and_others_are_unharmed(
    watch: Callable[..., Viewer], start_workers: Callable[..., Any], provider: Provider
) -> None:
    start_workers("readers", base_url=provider.base_url)
    provider.delay = 0.02
    story = queued_story()
    quiet, loud, big = watch(story), watch(story), watch(story)
    enqueue_story(story)
    with pytest.raises(ConnectionClosed):
        for _ in range(1000):
            loud.socket.send('{"type":"hello"}')
            time.sleep(0.001)  # a thousand messages a second
    assert loud.socket.close_code == 1008
    with pytest.raises(ConnectionClosed):
        big.socket.send("x" * 2 * 1024 * 1024)
        big.read()
        big.socket.send("still there?")
    # The server closes with half of the frame unread: its goodbye (1009) may be overtaken by the reset behind it.
    assert big.socket.close_code in (1009, 1006)
    quiet.read()
    assert quiet.text == provider.text
    assert len(provider.posts("/v1/chat")) == 1


def test_who_may_no_longer_read_is_closed_within_a_minute(watch: Callable[..., Viewer]) -> None:
    story = queued_story()
    Story.objects.filter(pk=story.pk).update(visibility="link")
    guest = watch(story, key=new_key())
    guest.read(until=lambda message: message["type"] == "state")
    Story.objects.filter(pk=story.pk).update(visibility="private")
    guest.read(seconds=40)
    assert guest.socket.close_code == 4403
