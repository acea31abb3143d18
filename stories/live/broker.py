"""What viewers are told while stories are written: one message per commit, to every web process.

A *hint* says which story's row changed, and carries the committed slice if there is one. All hints of a
commit leave in one message on one topic; each process that has viewers listens once and hands the hints to
the mailboxes of the stories they are about. So neither the worker nor a web process needs more Redis
connections when there are more stories or viewers. Delivery is never trusted: the row is the truth.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError

from stories.models import Story

logger = logging.getLogger(__name__)
TOPIC = "stories"
MOST_HINTS = 10_000  # that wait to leave
MOST_AT_ONCE = 500  # in one message
MOST_WAITING = 100  # for one viewer
SEND_SECONDS = 2.0
PING = 5.0  # seconds of silence after which Redis is asked whether it is there
ALIVE = 15.0  # seconds without an answer after which the connection is made anew
RECONNECT = 1.0
Hint = dict[str, Any]


def written(story: Story, *, offset: int, text: str) -> Hint:
    """The hint for a committed slice."""
    slice_ = {"attempt": story.attempt_name, "fence": story.fence, "offset": offset, "text": text}
    return changed(story.pk) | slice_


def changed(pk: UUID) -> Hint:
    """The hint that the row changed otherwise."""
    return {"story": pk.hex}


class Sender:
    """Sends hints from one event loop, in order; when they cannot leave, they are dropped."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Hint] = asyncio.Queue(MOST_HINTS)

    def put(self, hint: Hint) -> None:
        """Queues a hint; called on the loop."""
        try:
            self._queue.put_nowait(hint)
        except asyncio.QueueFull:
            logger.warning("hints are not leaving; viewers read the row instead")

    async def send_for_ever(self) -> None:
        async with redis.asyncio.Redis.from_url(settings.REDIS_URL, max_connections=2) as client:
            while True:
                batch = [await self._queue.get()]
                while len(batch) < MOST_AT_ONCE and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                try:
                    async with asyncio.timeout(SEND_SECONDS):
                        await client.publish(TOPIC, json.dumps(batch, ensure_ascii=False))
                except (RedisError, OSError, TimeoutError) as error:
                    logger.warning("%s hints not sent: %s", len(batch), error or "Redis does not answer")


class Mailbox:
    """The hints for one viewer. One that does not read is told to read the row, whatever else it missed."""

    def __init__(self, pk: UUID) -> None:
        self.pk = pk
        self._hints: deque[Hint] = deque()
        self._filled = asyncio.Event()

    def put(self, hint: Hint) -> None:
        if len(self._hints) >= MOST_WAITING:
            self._hints.clear()
            hint = changed(self.pk)
        self._hints.append(hint)
        self._filled.set()

    def look_again(self) -> None:
        """The viewer shall read the row."""
        self.put(changed(self.pk))

    async def take(self, seconds: float) -> list[Hint]:
        """All that has come, at once; [] after so many seconds of silence."""
        if not self._hints:
            try:
                async with asyncio.timeout(seconds):
                    await self._filled.wait()
            except TimeoutError:
                return []
        hints = list(self._hints)
        self._hints.clear()
        self._filled.clear()
        return hints


class Switchboard:
    """Listens to the topic for all viewers of one event loop, as long as there are any."""

    def __init__(self) -> None:
        self._boxes: dict[str, set[Mailbox]] = {}
        self._listening: asyncio.Task[None] | None = None

    def open(self, pk: UUID) -> Mailbox:
        """A mailbox that gets every hint of the story from now on."""
        box = Mailbox(pk)
        self._boxes.setdefault(pk.hex, set()).add(box)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen_on())
        return box

    def close(self, box: Mailbox) -> None:
        boxes = self._boxes.get(box.pk.hex, set())
        boxes.discard(box)
        if not boxes:
            self._boxes.pop(box.pk.hex, None)
        if not self._boxes and self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def _listen_on(self) -> None:
        """As long as somebody listens. That is looked at anew each time, because a client that is just connecting
        may take our cancellation for a timeout of its own, and no second one comes.
        """
        while self._is_wanted():
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning("hints do not arrive, viewers read the rows: %s", error or "no answer")
            if self._is_wanted():
                await asyncio.sleep(RECONNECT)

    def _is_wanted(self) -> bool:
        return self._listening is asyncio.current_task()

    async def _listen(self) -> None:
        """Returns when nobody listens any more; raises when Redis is away or no longer answers."""
        client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=ALIVE)
        async with client, client.pubsub() as channel:
            await channel.subscribe(TOPIC)
            loop = asyncio.get_running_loop()
            heard_at = loop.time()
            while self._is_wanted():
                if loop.time() - heard_at >= ALIVE:
                    raise TimeoutError
                message = await channel.get_message(timeout=PING)
                if message is None:
                    await channel.ping()
                    continue
                heard_at = loop.time()
                self._deliver(message)

    def _deliver(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            # What was committed while nobody listened was told to nobody.
            for boxes in self._boxes.values():
                for box in boxes:
                    box.look_again()
        elif message["type"] == "message":
            self._hand_out(json.loads(message["data"]))

    def _hand_out(self, hints: Sequence[Hint]) -> None:
        for hint in hints:
            for box in self._boxes.get(hint["story"], ()):
                box.put(hint)


@cache
def _switchboards() -> WeakKeyDictionary[asyncio.AbstractEventLoop, Switchboard]:
    return WeakKeyDictionary()


def switchboard() -> Switchboard:
    """The switchboard of the running loop."""
    return _switchboards().setdefault(asyncio.get_running_loop(), Switchboard())
