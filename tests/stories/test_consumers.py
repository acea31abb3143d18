"""The consumer by itself, between a made-up server and the real rows: order, silence, and who does not read."""

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser

from stories import consumers
from stories.consumers import StoryConsumer
from stories.live import broker, publications, snapshots
from stories.live.publications import Publication
from stories.models import Story
from tests.factories import make_story
from tests.servers import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


class Connection:
    """One socket as the server knows it: `say` what the client sends, `messages` what it was sent."""

    def __init__(self, story: Story) -> None:
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.messages: list[dict[str, Any]] = []
        self.text, self.closed = "", 0
        self.stuck = False
        self.scope = {
            "type": "websocket",
            "url_route": {"kwargs": {"pk": story.pk}},
            "query_string": b"",
            "user": AnonymousUser(),
            "client": ["127.0.0.1", 1],
            "cookies": {},
        }
        self.say({"type": "websocket.connect"})
        self.task = asyncio.create_task(StoryConsumer.as_asgi()(self.scope, self.heard.get, self._send))

    def say(self, message: dict[str, Any]) -> None:
        self.heard.put_nowait(message)

    async def _send(self, message: dict[str, Any]) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        # A socket takes its time, and the next publication comes meanwhile.
        await asyncio.sleep(random.random() / 500)
        if message["type"] == "websocket.send":
            self._take(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self.closed = message["code"]
            self.say({"type": "websocket.disconnect", "code": message["code"]})

    def _take(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if message["type"] == "text":
            assert message["offset"] == len(self.text), "a gap or a repetition on the wire"
            self.text += message["text"]

    async def until(self, done: Any) -> None:
        await asyncio.to_thread(wait_until, done, seconds=10, every=0.01)


@pytest.fixture
async def connections() -> AsyncIterator[list[Connection]]:
    opened: list[Connection] = []
    yield opened
    for connection in opened:
        connection.say({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait([connection.task], timeout=5)
    assert broker.current_broker()._subscriptions == {}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Seconds of silence and of sending become tenths."""
    for name in ("RESYNC_SECONDS", "RESYNC_QUEUED_SECONDS", "RESYNC_LOSSY_SECONDS", "SEND_SECONDS"):
        monkeypatch.setattr(consumers, name, 0.3)
    yield


async def shared_story(**kw: Any) -> Story:
    return await sync_to_async(make_story)(
        visibility="link", attempt_name="a1", language_model=None, template=None, **kw
    )


async def commit(story: Story, piece: str) -> Publication:
    """Commits a piece as a worker does, and returns its publication."""
    offset = len(story.text)
    story.text += piece
    await Story.objects.filter(pk=story.pk).aupdate(text=story.text, length=len(story.text))
    return publications.text_committed(story, offset=offset, text=piece)


async def test_publications_lost_doubled_late_and_mixed_with_reads_give_the_text_in_order(
    connections: list[Connection],
) -> None:
    luck, story = random.Random(3), await shared_story(state="writing")
    connections += [Connection(story) for _ in range(5)]
    hub, late = broker.current_broker(), []
    for number in range(150):
        published = await commit(story, f"{number}😀e\u0301，")
        late.append(published)
        deliveries = [[], [published], [published, published], luck.sample(late, 1)]
        for one in luck.choice([*deliveries, [publications.row_changed(story.pk)]]):
            hub._distribute([one])
        await asyncio.sleep(0.002)  # the connections send meanwhile
    await Story.objects.filter(pk=story.pk).aupdate(state="written", end_reason="stop")
    hub._distribute([publications.row_changed(story.pk)])
    for connection in connections:
        await connection.until(lambda connection=connection: connection.closed)
        assert (connection.text, connection.closed) == (story.text, 1000)
        assert connection.messages[0]["type"] == "hello"
        assert connection.messages[-1]["type"] == "end"


async def test_without_any_publication_the_row_is_read_after_a_silence(
    connections: list[Connection], quick: None
) -> None:
    story = await shared_story(state="writing")
    connections.append(connection := Connection(story))
    await connection.until(lambda: connection.messages)
    await commit(story, "从前有座山。")
    await connection.until(lambda: connection.text == "从前有座山。")


async def test_who_does_not_read_is_cut_off_and_leaves_nothing_behind(
    connections: list[Connection], quick: None
) -> None:
    story = await shared_story(state="writing")
    stuck, well = Connection(story), Connection(story)
    connections.append(well)
    await stuck.until(lambda: stuck.messages and well.messages)
    stuck.stuck = True
    for number in range(300):
        broker.current_broker()._distribute([await commit(story, f"{number}，")])
    await asyncio.wait_for(stuck.task, 5)
    await well.until(lambda: well.text == story.text)
    assert len(broker.current_broker()._subscriptions[story.pk.hex]) == 1


async def test_a_subscription_that_overflows_says_read_the_row() -> None:
    subscription = broker.Subscription(uuid.uuid4())
    for number in range(broker.MAX_PENDING + 1):
        subscription.deliver({"story": subscription.pk.hex, "text": str(number)})
    assert await subscription.take(1) == [publications.row_changed(subscription.pk)]
    assert await subscription.take(0.01) == []


async def test_viewers_of_a_hundred_stories_share_their_reads(
    connections: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    stories = [await shared_story(state="writing") for _ in range(100)]
    connections += [Connection(story) for story in stories]
    for connection in connections:
        await connection.until(lambda connection=connection: connection.messages)
    reads = []
    take = snapshots.take_snapshots
    monkeypatch.setattr(snapshots, "take_snapshots", lambda keys: reads.append(len(keys)) or take(keys))
    for story in stories:
        await commit(story, "从前。")
    broker.current_broker()._distribute([publications.row_changed(story.pk) for story in stories])
    for connection in connections:
        await connection.until(lambda connection=connection: connection.text == "从前。")
    assert sum(reads) == 100
    assert len(reads) <= 3
