"""What many streams at once may cost: no database connection while they wait, and ever the same Redis ones."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.db import connection

from stories.models import Story
from stories.tasks import enqueue_story
from tests.conftest import QUEUES, Workers, cannot_run
from tests.factories import make_run, make_serving_model, make_story
from tests.provider import Fault, Provider
from tests.servers import wait_until
from tests.sockets import KEY

pytestmark = pytest.mark.django_db(transaction=True)
POOL = 20  # connections of a process to PostgreSQL (settings.DATABASES)
STREAMS = 60


def order(count: int) -> list[Story]:
    model = make_serving_model()
    stories = [make_story(state="queued", reader_key=KEY, language_model=model) for _ in range(count)]
    for story in stories:
        enqueue_story(story)
    return stories


def wait_for_text(stories: list[Story]) -> None:
    mine = Story.objects.filter(pk__in=[story.pk for story in stories])
    wait_until(lambda: mine.filter(state="writing", length__gt=0).count() == len(stories), seconds=30)


def redis_connections() -> int:
    """All that the server has, but for the one that asks."""
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        return len(server.client_list()) - 1


def open_databases(workers: Workers, name: str) -> int:
    """How many connections the worker holds to the test database, or could be using."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", ["streams"])
            return int(cursor.fetchone()[0])
    folder = Path(f"/proc/{workers.children[name].pid}/fd")
    if not folder.exists():
        cannot_run("no /proc: open files of a worker cannot be counted")
    links = [os.readlink(link) for link in folder.iterdir() if link.is_symlink()]
    return links.count(str(settings.DATABASES["default"]["NAME"]))


def busy_databases() -> int:
    """PostgreSQL connections of the worker that are in a query or a transaction."""
    with connection.cursor() as cursor:
        idle = "application_name = 'streams' AND state <> 'idle'"
        cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {idle}")
        return int(cursor.fetchone()[0])


@pytest.mark.both_databases
def test_streams_that_wait_hold_no_connection_and_need_no_further_ones(
    start_workers: Callable[..., Workers], provider: Provider
) -> None:
    """Sixty at once through a pool of twenty: whoever held a connection while waiting would keep others out."""
    workers = start_workers("readers", base_url=provider.base_url, PGAPPNAME="streams")
    provider.hold_after = 2
    wait_for_text(order(5))
    few = redis_connections()
    wait_for_text(order(STREAMS - 5))
    assert redis_connections() - few <= 3  # the limiter's pool of four, until it is full
    if connection.vendor == "postgresql":
        assert open_databases(workers, "readers") <= POOL
        wait_until(lambda: busy_databases() == 0, seconds=5, what="all connections are idle for a moment")
    else:
        # The engine's database thread, the heartbeat and threads between two tasks have one each: not one per stream.
        wait_until(lambda: open_databases(workers, "readers") < STREAMS / 6, seconds=5)
    provider.release()
    wait_until(lambda: Story.objects.filter(state="written").count() == STREAMS, seconds=30)


def test_a_bulk_run_never_delays_a_reader(start_workers: Callable[..., Workers], provider: Provider) -> None:
    workers = start_workers("readers", "bulk", base_url=provider.base_url)
    run, bulk_threads = make_run(), QUEUES["bulk"][1]
    provider.next(Fault.HANG, times=bulk_threads)
    for _ in range(2 * bulk_threads):
        enqueue_story(make_story(run=run, state="queued"))
    wait_until(lambda: len(provider.posts("/v1/chat")) >= bulk_threads, seconds=20)
    (story,) = order(1)
    wait_until(lambda: Story.objects.get(pk=story.pk).state == "written", seconds=3)
    assert run.stories.filter(state="written").count() == 0
    workers.stop()


def test_a_thread_that_is_free_takes_the_next_story_at_once(
    start_workers: Callable[..., Workers], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is taken ahead; still no thread stands idle until the worker's loop happens to turn."""
    monkeypatch.setitem(QUEUES, "bulk", ("bulk", 2))
    start_workers("bulk", base_url=provider.base_url)
    run = make_run()
    stories = [make_story(run=run, state="queued") for _ in range(24)]
    began = time.monotonic()
    for story in stories:
        enqueue_story(story)
    wait_until(lambda: run.stories.filter(state="written").count() == len(stories), seconds=60)
    assert time.monotonic() - began < 8, "twelve times two, each in milliseconds"


def test_more_orders_than_threads_wait_in_the_queue_and_do_not_slow_the_others(
    start_workers: Callable[..., Workers], provider: Provider
) -> None:
    """Admission: the worker takes as many stories as it has threads (64 here); the rest keep their places."""
    start_workers("readers", base_url=provider.base_url)
    provider.hold_after = 2
    stories = order(70)
    wait_until(lambda: Story.objects.filter(state="writing", length__gt=0).count() == 64, seconds=40)
    waiting = Story.objects.filter(state="queued")
    assert waiting.count() == 6
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        assert server.llen("readers") == 6  # there for another worker, not hoarded by this one
    assert len(provider.posts("/v1/chat")) == 64
    provider.release()
    wait_until(lambda: Story.objects.filter(state="written").count() == len(stories), seconds=40)
    assert {story.text for story in Story.objects.all()} == {provider.text}
