"""What viewers see when a part fails in the middle of a story, and that it comes back to the character."""

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from stories.models import Story
from stories.readers.identity import COOKIE, sign_key
from stories.tasks import enqueue_story, sweep, write_story
from tests.conftest import LOGS, Workers, cannot_run
from tests.environment import free_port
from tests.provider import Fault, Provider
from tests.servers import Child, start_redis, start_web, wait_until
from tests.sites import Web, child_environment
from tests.sockets import KEY, Viewer, open_socket, queued_story
from ultraman_site.celery import app

pytestmark = pytest.mark.django_db(transaction=True)
CHAT = "/v1/chat"


@pytest.fixture
def owner(client: Client) -> Client:
    """The reader who asked for the stories, at the pages."""
    client.cookies[COOKIE] = sign_key(KEY)
    return client


def pieces_of(count: int) -> list[str]:
    return [f"{number}😀e\u0301，" for number in range(count)]


def lose_the_worker(workers: Workers) -> None:
    """kill -9, and twenty seconds for its leases to run out, which we do not wait for."""
    workers.kill("readers")
    Story.objects.filter(state="writing").update(lease_until=timezone.now() - timedelta(seconds=1))


def test_a_lost_worker_is_seen_and_the_story_goes_on_from_its_text(
    web: Web, start_workers: Callable[..., Workers], provider: Provider, owner: Client
) -> None:
    workers = start_workers("readers", base_url=provider.base_url)
    provider.pieces, provider.hold_after = pieces_of(40), 20
    story, kept = queued_story(), "".join(pieces_of(20))
    enqueue_story(story)
    with open_socket(web.socket_url, story) as connection:
        viewer = Viewer(connection)
        viewer.read(until=lambda message: viewer.text == kept)
        lose_the_worker(workers)
        sweep()
        viewer.read(seconds=10)
    assert viewer.text == kept
    assert viewer.messages[-1] == {
        "type": "end", "state": "interrupted", "length": len(kept), "reason": "lost",
    }  # fmt: skip
    provider.hold_after, provider.pieces = None, pieces_of(40)[20:]
    workers.start("readers")
    assert owner.post(f"/stories/{story.pk}/continue/").status_code == 302
    with open_socket(web.socket_url, story, f"?attempt={viewer.attempt}&offset={len(kept)}") as connection:
        again = Viewer(connection)
        again.text = kept
        again.read()
    assert "restart" not in again.types
    assert again.messages[-1]["state"] == "written"
    assert again.text == Story.objects.get(pk=story.pk).text == "".join(pieces_of(40))
    assert len(provider.posts(CHAT)) == 2


def test_after_a_loss_a_new_version_leaves_the_old_one_readable(
    start_workers: Callable[..., Workers], provider: Provider, owner: Client
) -> None:
    workers = start_workers("readers", base_url=provider.base_url)
    provider.pieces, provider.hold_after = pieces_of(40), 20
    story, kept = queued_story(), "".join(pieces_of(20))
    enqueue_story(story)
    wait_until(lambda: Story.objects.get(pk=story.pk).text == kept, seconds=20)
    lose_the_worker(workers)
    sweep()
    provider.release()
    workers.start("readers")
    assert owner.post(f"/stories/{story.pk}/again/").status_code == 302
    version = Story.objects.exclude(pk=story.pk).get()
    wait_until(lambda: Story.objects.get(pk=version.pk).state == "written", seconds=20)
    assert version.again_of == story
    assert Story.objects.get(pk=story.pk).text == kept
    assert Story.objects.get(pk=version.pk).text == "".join(pieces_of(40))


def test_a_refusal_that_nobody_saw_text_of_is_tried_again_by_itself(
    web: Web, start_workers: Callable[..., Workers], provider: Provider
) -> None:
    start_workers("readers", base_url=provider.base_url)
    provider.next(Fault.RATE_LIMIT, retry_after=1)
    story = queued_story()
    with open_socket(web.socket_url, story) as connection:
        viewer = Viewer(connection)
        enqueue_story(story)
        wait_until(lambda: Story.objects.get(pk=story.pk).next_try_at is not None)
        wait_until(lambda: Story.objects.get(pk=story.pk).next_try_at < timezone.now(), what="its time")
        sweep()
        viewer.read()
    assert viewer.text == provider.text
    assert viewer.messages[-1]["state"] == "written"
    assert "interrupted" not in str(viewer.messages)
    assert len(provider.posts(CHAT)) == 2


def test_who_waits_sees_the_queue_move_on(web: Web) -> None:
    first, second = queued_story(), queued_story()
    with open_socket(web.socket_url, second) as connection:
        viewer = Viewer(connection)
        viewer.read(until=lambda message: message["type"] == "state")
        assert viewer.messages[-1] == {"type": "state", "state": "queued", "position": 2}
        Story.objects.filter(pk=first.pk).update(state="cancelled")
        viewer.read(until=lambda message: message["type"] == "state", seconds=5)
        assert viewer.messages[-1] == {"type": "state", "state": "queued", "position": 1}


def test_two_viewers_on_two_processes_see_a_stop(
    web: Web, start_workers: Callable[..., Workers], provider: Provider
) -> None:
    start_workers("readers", base_url=provider.base_url)
    provider.hold_after = 5
    story = queued_story()
    enqueue_story(story)
    port = free_port()
    with (
        start_web(port, log=LOGS / f"web-{port}.log", env=web.env),
        open_socket(web.socket_url, story) as here,
        open_socket(f"ws://127.0.0.1:{port}", story) as there,
    ):
        viewers = [Viewer(here), Viewer(there)]
        for viewer in viewers:
            viewer.read_text(provider.text[:20])
        here.send('{"type":"stop"}')
        for viewer in viewers:
            viewer.read(seconds=5)
            assert viewer.messages[-1]["reason"] == "stopped"
            assert viewer.text == provider.text[:20]
    wait_until(lambda: provider.posts(CHAT)[0].closed_early_at is not None)


# --- Redis ----------------------------------------------------------------------------------------------


def seconds_to_read(url: str) -> float:
    began = time.monotonic()
    request = urllib.request.Request(url, headers={"Cookie": f"{COOKIE}={sign_key(KEY)}"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        assert reply.status == 200
    return time.monotonic() - began


def test_with_redis_frozen_the_text_still_arrives_and_pages_answer(
    web: Web, start_workers: Callable[..., Workers], provider: Provider, redis_server: Child
) -> None:
    start_workers("readers", base_url=provider.base_url)
    provider.hold_after = 5
    story = queued_story()
    enqueue_story(story)
    with open_socket(web.socket_url, story) as connection:
        viewer = Viewer(connection)
        viewer.read_text(provider.text[:20])
        redis_server.freeze()
        assert seconds_to_read(f"{web.url}/stories/{story.pk}/") < 5
        began = time.monotonic()
        with open_socket(web.socket_url, story) as late:
            newcomer = Viewer(late)
            newcomer.read_text(provider.text[:20])
        assert time.monotonic() - began < 5
        provider.release()
        viewer.read(seconds=15)
        assert viewer.text == provider.text
        assert viewer.messages[-1]["state"] == "written"


@pytest.fixture
def own_redis() -> Iterator[Callable[[], Child]]:
    """`start = own_redis(); child = start()`: a Redis of this test alone, started again on the same port."""
    port, started = free_port(), []

    def start() -> Child:
        started.append(start_redis(port, log=LOGS / f"redis-{port}.log"))
        return started[-1]

    start.url = f"redis://127.0.0.1:{port}/0"  # type: ignore[attr-defined]
    yield start
    for child in started:
        child.stop()


def send(story: Story, *, broker: str) -> None:
    with app.connection_for_write(broker) as connection:
        write_story.apply_async(args=(str(story.pk),), connection=connection)


def test_redis_killed_and_back_costs_seconds_and_no_text(
    transactional_db: None, own_redis: Any, provider: Provider
) -> None:
    port, redis_server = free_port(), own_redis()
    env = child_environment(base_url=provider.base_url, REDIS_URL=own_redis.url)
    workers = Workers(env)
    provider.pieces, provider.hold_after = pieces_of(60), 5
    try:
        with start_web(port, log=LOGS / f"web-{port}.log", env=env):
            workers.start("readers")
            story = queued_story()
            send(story, broker=own_redis.url)
            with open_socket(f"ws://127.0.0.1:{port}", story) as connection:
                viewer = Viewer(connection)
                viewer.read_text("".join(pieces_of(5)))
                redis_server.kill()
                provider.release()
                viewer.read(seconds=15)
                assert viewer.text == "".join(pieces_of(60))
            own_redis()
            provider.delay = 0.02
            after = queued_story()
            with open_socket(f"ws://127.0.0.1:{port}", after) as connection:
                viewer = Viewer(connection)
                wait_until(lambda: sends(after, own_redis.url), seconds=10, what="Redis takes the task")
                viewer.read(seconds=30)
                assert viewer.text == "".join(pieces_of(60))
                # Read by the row alone it would come in a few large parts.
                wait_until(
                    lambda: viewer.types.count("text") >= 5, seconds=1, what="publications arrive again"
                )
    finally:
        workers.stop()


def sends(story: Story, broker: str) -> bool:
    try:
        send(story, broker=broker)
    except OSError:
        return False
    return True


def test_an_idle_socket_stays_open_for_minutes(web: Web) -> None:
    if not os.environ.get("SLOW"):
        cannot_run("three minutes of idling; SLOW=1 runs it")
    story = queued_story()
    with open_socket(web.socket_url, story) as connection:
        viewer = Viewer(connection)
        viewer.read(until=lambda message: message["type"] == "state")
        with pytest.raises(TimeoutError):
            connection.recv(timeout=180)
        connection.send('{"type":"stop"}')
        viewer.read()
        assert viewer.messages[-1]["state"] == "cancelled"
