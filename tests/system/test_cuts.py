"""Connections cut at random, over two web processes: every viewer ends with the row's text, to the code point."""

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from stories.models import Story
from stories.tasks import enqueue_story
from tests.conftest import LOGS
from tests.environment import free_port
from tests.provider import Provider
from tests.servers import start_web
from tests.sites import Web
from tests.sockets import Viewer, open_socket, queued_story

pytestmark = pytest.mark.django_db(transaction=True)
# What is hard to count: astral characters, combining marks, joined emoji, flags, variation selectors.
HARD = ["😀", "e\u0301", "👨\u200d👩\u200d👧", "🇨🇳", "𠮷", "❤\ufe0f", "ก\u0e33", "\n\n　　", "，"]
STORIES, CUTS = 6, 200


@pytest.fixture
def second_web(web: Web) -> Iterator[Web]:
    """Another web process on the same database and Redis."""
    port = free_port()
    with start_web(port, log=LOGS / f"web-{port}.log", env=web.env) as child:
        yield Web(f"http://127.0.0.1:{port}", child, web.env)


@dataclass
class Wanderer:
    """A viewer that loses its connection again and again and comes back to either process."""

    story: Story
    webs: tuple[Web, ...]
    luck: random.Random
    text: str = ""
    attempt: str = ""
    cuts: int = 0
    error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.connect_once():
                self.cuts += 1
        except Exception as error:
            self.error = error

    def connect_once(self) -> bool:
        """One connection, cut after nought to three messages; whether the end was seen."""
        query = f"?attempt={self.attempt}&offset={len(self.text)}"
        with open_socket(self.luck.choice(self.webs).socket_url, self.story, query) as connection:
            viewer = Viewer(connection)
            viewer.text, viewer.attempt = self.text, self.attempt
            for _ in range(self.luck.randint(0, 3)):
                if not viewer.has_ended:
                    viewer.read(until=lambda message: True)
            self.text, self.attempt = viewer.text, viewer.attempt
            if not viewer.has_ended and self.luck.random() < 0.5:
                # Networks say no goodbye; the other half of the cuts is an orderly close.
                with suppress(OSError):  # the server has just closed it: cut all the same
                    connection.socket.shutdown(socket.SHUT_RDWR)
        return viewer.has_ended


@pytest.mark.both_databases
def test_two_hundred_cuts_lose_and_double_nothing(
    web: Web, second_web: Web, start_workers: Callable[..., Any], provider: Provider
) -> None:
    start_workers("readers", base_url=provider.base_url)
    luck = random.Random(20)
    provider.pieces = ["".join(luck.choices(HARD, k=luck.randint(1, 3))) for _ in range(260)]
    provider.delay = 0.03
    stories = [queued_story() for _ in range(STORIES)]
    wanderers = [
        Wanderer(story, (web, second_web), random.Random(number)) for number, story in enumerate(stories)
    ]
    threads = [threading.Thread(target=wanderer.run) for wanderer in wanderers]
    for thread in threads:
        thread.start()
    for story in stories:
        enqueue_story(story)
    for thread in threads:
        thread.join(60)
    assert [wanderer.error for wanderer in wanderers] == [None] * STORIES
    assert sum(wanderer.cuts for wanderer in wanderers) >= CUTS
    for wanderer in wanderers:
        row = Story.objects.get(pk=wanderer.story.pk)
        assert row.state == "written"
        assert wanderer.text == row.text == "".join(provider.pieces)
    assert len(provider.posts("/v1/chat")) == STORIES
