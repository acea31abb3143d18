"""Carries publications from the workers to the viewers: one message per commit, to every web process.

    worker                           Redis              web process
    Publisher --- a list of all ---> topic "stories" -> Broker --- each to the ---> Subscription --> viewer
                  publications                                     subscriptions
                  of a commit                                      of its story

The number of Redis connections and messages grows neither with the stories nor with the viewers. Publications may be
lost, late or doubled: the row is the truth.
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

from stories.live.publications import Publication, row_changed

logger = logging.getLogger(__name__)
TOPIC = "stories"
MAX_QUEUED = 10_000  # publications of a worker that wait to be sent
MAX_BATCH = 500  # publications in one message
MAX_PENDING = 100  # publications in one subscription
SEND_SECONDS = 2.0
PING_SECONDS = 5.0  # of silence, after which Redis is asked whether it is there
DEAD_SECONDS = 15.0  # without an answer, after which the connection is replaced
RECONNECT_SECONDS = 1.0


class Publisher:
    """Sends publications from one event loop, in order. Those that cannot be sent are dropped."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Publication] = asyncio.Queue(MAX_QUEUED)

    def publish(self, publication: Publication) -> None:
        """Queues a publication; called on the loop."""
        try:
            self._queue.put_nowait(publication)
        except asyncio.QueueFull:
            logger.warning("publications are not sent, the queue is full; viewers read the row instead")

    async def send_for_ever(self) -> None:
        async with redis.asyncio.Redis.from_url(settings.REDIS_URL, max_connections=2) as client:
            while True:
                batch = [await self._queue.get()]
                while len(batch) < MAX_BATCH and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                try:
                    async with asyncio.timeout(SEND_SECONDS):
                        await client.publish(TOPIC, json.dumps(batch, ensure_ascii=False))
                except (RedisError, OSError, TimeoutError) as error:
                    logger.warning(
                        "%s publications not sent: %s", len(batch), error or "Redis does not answer"
                    )


class Subscription:
    """The publications of one story for one viewer. A viewer that falls behind is told to read the row instead."""

    def __init__(self, pk: UUID) -> None:
        self.pk = pk
        self._pending: deque[Publication] = deque()
        self._has_pending = asyncio.Event()

    def deliver(self, publication: Publication) -> None:
        """Adds a publication. When too many are pending, one that says "read the row" replaces them all."""
        if len(self._pending) >= MAX_PENDING:
            self._pending.clear()
            publication = row_changed(self.pk)
        self._pending.append(publication)
        self._has_pending.set()

    def request_resync(self) -> None:
        """Makes the viewer read the row."""
        self.deliver(row_changed(self.pk))

    async def take(self, seconds: float) -> list[Publication]:
        """All pending publications, as soon as there are any; [] after so many seconds of silence."""
        if not self._pending:
            try:
                async with asyncio.timeout(seconds):
                    await self._has_pending.wait()
            except TimeoutError:
                return []
        publications = list(self._pending)
        self._pending.clear()
        self._has_pending.clear()
        return publications


class Broker:
    """Listens to the topic for all viewers of one event loop, as long as there are any."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._listener: asyncio.Task[None] | None = None

    def subscribe(self, pk: UUID) -> Subscription:
        """A subscription that gets every publication of the story from now on."""
        subscription = Subscription(pk)
        self._subscriptions.setdefault(pk.hex, set()).add(subscription)
        if self._listener is None:
            self._listener = asyncio.create_task(self._keep_listening())
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Ends a subscription; the last one that ends also ends the listening."""
        others = self._subscriptions.get(subscription.pk.hex, set())
        others.discard(subscription)
        if not others:
            self._subscriptions.pop(subscription.pk.hex, None)
        if not self._subscriptions and self._listener is not None:
            self._listener.cancel()
            self._listener = None

    async def _keep_listening(self) -> None:
        """Listens while this task is the broker's listener.

        Cancelling the task is not enough: while it connects, the Redis client may take the cancellation for a timeout
        of its own, and a task is cancelled only once.
        """
        while self._is_listener():
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning("publications do not arrive, viewers read the rows: %s", error or "no answer")
            if self._is_listener():
                await asyncio.sleep(RECONNECT_SECONDS)

    def _is_listener(self) -> bool:
        return self._listener is asyncio.current_task()

    async def _listen(self) -> None:
        """Returns when this task is no longer the listener; raises when Redis is away or no longer answers."""
        client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=DEAD_SECONDS)
        async with client, client.pubsub() as channel:
            await channel.subscribe(TOPIC)
            loop = asyncio.get_running_loop()
            answered_at = loop.time()
            while self._is_listener():
                if loop.time() - answered_at >= DEAD_SECONDS:
                    raise TimeoutError
                message = await channel.get_message(timeout=PING_SECONDS)
                if message is None:
                    await channel.ping()
                    continue
                answered_at = loop.time()
                self._receive(message)

    # Any: the fields of a message of the Redis client.
    def _receive(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            # Whatever was published before this moment has been missed.
            for subscriptions in self._subscriptions.values():
                for subscription in subscriptions:
                    subscription.request_resync()
        elif message["type"] == "message":
            self._distribute(json.loads(message["data"]))

    def _distribute(self, publications: Sequence[Publication]) -> None:
        for publication in publications:
            for subscription in self._subscriptions.get(publication["story"], ()):
                subscription.deliver(publication)


@cache
def _brokers() -> WeakKeyDictionary[asyncio.AbstractEventLoop, Broker]:
    return WeakKeyDictionary()


def current_broker() -> Broker:
    """The broker of the running loop."""
    return _brokers().setdefault(asyncio.get_running_loop(), Broker())
