"""A database that cannot be written for a while: orders become sentences, what was paid for is kept and written."""

import errno
import http.cookiejar
import re
import sqlite3
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings as site
from django.db import OperationalError, connection, connections
from django.test import Client
from django.utils import timezone

from stories.generation import completion
from stories.generation.completion import fill
from stories.generation.connections import write_when_free
from stories.models import Attempt, Heartbeat, Story
from stories.operations import heartbeats
from stories.tasks import enqueue_story, sweep
from tests.conftest import LOGS, Workers
from tests.environment import free_port
from tests.factories import make_run, make_serving_model, make_story
from tests.provider import CHAT, Provider
from tests.servers import start_web, wait_until
from tests.sites import child_environment
from tests.sockets import KEY, Viewer, open_socket

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]
ORDER = {"dynasty": "唐", "super_power": "隐形", "story_type": "轻松"}


@contextmanager
def locked() -> Iterator[None]:
    """Somebody else writes, and does not end."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no one lock for all")
    holder = sqlite3.connect(site.DATABASES["default"]["NAME"], isolation_level=None, timeout=30)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New connections of this process wait a moment for a lock, not ten seconds."""
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "timeout", 0.1)
    connection.close()
    yield
    connection.close()


def test_everything_waits_for_a_locked_database_and_goes_on_by_itself(
    start_workers: Callable[..., Workers], provider: Provider
) -> None:
    """Real processes, which give up on the lock every second while it is held for several."""
    start_workers("readers", "bulk", base_url=provider.base_url, SQLITE_TIMEOUT="1")
    port = free_port()
    env = child_environment(base_url=provider.base_url, SQLITE_TIMEOUT="1")
    provider.pieces, provider.hold_after = [f"第{number}句。" for number in range(40)], 5
    streaming = make_story(state="queued", reader_key=KEY, language_model=make_serving_model())
    run = make_run()
    in_flight = make_story(run=run, state="queued")
    with start_web(port, log=LOGS / f"web-{port}.log", env=env):
        enqueue_story(streaming)
        wait_until(lambda: Story.objects.get(pk=streaming.pk).length > 0, seconds=30)
        provider.answer_after = 1.0
        enqueue_story(in_flight)
        wait_until(lambda: len(provider.posts(CHAT)) == 2, seconds=30)
        with open_socket(f"ws://127.0.0.1:{port}", streaming) as socket:
            viewer = Viewer(socket)
            with locked():
                provider.release()
                provider.delay = 0.1
                status, page = post_order(port)
                assert status == 503
                assert "现在太忙了" in page
                assert 'value="唐"' in page, "what was typed is still there"
                time.sleep(3)  # the answers arrive, and cannot be written
            viewer.read(seconds=30)
        wait_until(lambda: Story.objects.get(pk=in_flight.pk).state == "written", seconds=30)
    assert viewer.text == Story.objects.get(pk=streaming.pk).text == "".join(provider.pieces)
    assert Story.objects.get(pk=streaming.pk).state == "written"
    assert len(provider.posts(CHAT)) == 2, "nothing was asked or paid twice"
    assert set(Attempt.objects.values_list("state", flat=True)) == {"complete"}


def post_order(port: int) -> tuple[int, str]:
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    url = f"http://127.0.0.1:{port}/stories/new/"
    form = opener.open(url, timeout=30).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    assert token
    data = urllib.parse.urlencode({**ORDER, "csrfmiddlewaretoken": token[1]}).encode()
    try:
        with opener.open(url, data, timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.usefixtures("short_patience", "provider")
def test_a_page_that_cannot_write_says_so(client: Client) -> None:
    """Also where no view looks for it: here the counter of reactions."""
    client.raise_request_exception = False
    story = make_story(reader_key=KEY, visibility="link")
    with locked():
        reply = client.post(f"/stories/{story.pk}/rate/", {"taste": "liked"})
    assert reply.status_code == 503
    assert reply["Retry-After"] == "10"
    assert "现在太忙了" in reply.content.decode()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 503),
        (PermissionError(errno.EACCES, "Permission denied"), 500),
        (ValueError("anything else"), 500),
    ],
)
def test_a_full_disk_says_so_too_and_another_error_is_still_a_500(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    client.raise_request_exception = False

    def fail(*_args: object, **_kw: object) -> None:
        raise error

    monkeypatch.setattr("stories.library.pages.read_page", fail)
    assert client.get("/").status_code == status


# --- answers of runs ---------------------------------------------------------------------------------------


def fill_while_locked(provider: Provider, story: Story) -> list[Any]:
    """Fills the story while the database is locked from before the answer until after it; what `fill` came to."""
    came: list[Any] = []
    provider.answer_after = 0.3

    def work() -> None:
        try:
            came.append(
                fill(Story.objects.select_related("run", "language_model", "template").get(pk=story.pk))
            )
        except OperationalError as error:
            came.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: len(provider.posts(CHAT)) == 1)
    with locked():
        thread.join(1.5)
    thread.join(20)
    return came


@pytest.mark.usefixtures("short_patience")
def test_an_answer_that_cannot_be_written_yet_is_kept(provider: Provider) -> None:
    story = make_story(run=make_run(), state="queued")
    assert fill_while_locked(provider, story) == [True]
    story.refresh_from_db()
    assert (story.state, story.text) == ("written", provider.text)


@pytest.mark.usefixtures("short_patience")
def test_without_being_kept_it_would_be_lost(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "write_when_free", lambda write, **_kw: write())
    story = make_story(run=make_run(), state="queued")
    (came,) = fill_while_locked(provider, story)
    assert isinstance(came, OperationalError)
    story.refresh_from_db()
    assert (story.state, story.text) == ("writing", "")


def test_what_cannot_be_written_is_not_tried_for_ever() -> None:
    def write() -> None:
        raise OperationalError("database or disk is full")

    with pytest.raises(OperationalError):
        write_when_free(write, seconds=0)


# --- leases that nobody could renew -------------------------------------------------------------------------


def sweep_at(moment: float) -> None:
    with time_machine.travel(START + timedelta(seconds=moment), tick=False):
        sweep()


START = timezone.now().replace(microsecond=0)


def lapsed(moment: float) -> Story:
    story = make_story(state="writing", lease_until=START + timedelta(seconds=moment), text="从前", length=2)
    Attempt.objects.create(
        story=story, language_model=story.language_model, fence=story.fence, day=START.date()
    )
    return story


@pytest.mark.both_databases
def test_a_lease_that_ran_out_while_nobody_could_write_is_not_taken_at_once(provider: Provider) -> None:
    """The holder renews it in the first seconds after the lock; a sweep must not be quicker."""
    story = lapsed(20)
    sweep_at(0)
    sweep_at(35)  # the first after thirty seconds of a locked database
    sweep_at(36)  # another one that had waited with it
    assert Story.objects.get(pk=story.pk).state == "writing"
    sweep_at(46)
    assert Story.objects.get(pk=story.pk).state == "interrupted"


@pytest.mark.both_databases
def test_with_regular_sweeps_a_lost_worker_is_seen_at_once(provider: Provider) -> None:
    story = lapsed(20)
    for moment in (0, 10, 20):
        sweep_at(moment)
    assert Story.objects.get(pk=story.pk).state == "writing"
    sweep_at(30)
    assert Story.objects.get(pk=story.pk).state == "interrupted"


@pytest.mark.both_databases
def test_a_lease_is_taken_in_the_end_though_the_sweeps_come_rarely(provider: Provider) -> None:
    story = lapsed(20)
    for moment in (0, 20, 40, 60, 79):
        sweep_at(moment)
    assert Story.objects.get(pk=story.pk).state == "writing"
    sweep_at(99)
    assert Story.objects.get(pk=story.pk).state == "interrupted"


@pytest.mark.both_databases
def test_the_first_sweep_of_a_start_takes_what_an_earlier_one_left(provider: Provider) -> None:
    story = lapsed(-100)
    Heartbeat.objects.all().delete()
    sweep_at(0)
    assert Story.objects.get(pk=story.pk).state == "interrupted"


def test_without_a_gap_it_is_steady() -> None:
    assert heartbeats.beat_steadily("beat")
    assert heartbeats.beat_steadily("beat")
