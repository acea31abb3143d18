"""The story socket: subscribes to the story's publications, sends the row, then relays what is committed.

Publications may be lost. After a gap, a newer fence or some seconds of silence the consumer reads the row again. One
task per connection sends all messages except refusals, so they are sent in the order in which they were computed.
"""

import asyncio
import json
import logging
import time
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid4

from channels.auth import get_user
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from stories.generation.streaming import request_stop
from stories.live import connection_limits, viewer
from stories.live.broker import Subscription, current_broker
from stories.live.publications import Publication
from stories.live.snapshots import in_database, take_snapshot
from stories.models import Story
from stories.readers import identity

logger = logging.getLogger(__name__)
Asgi = dict[str, Any]  # Any: the fields of a scope or a message of ASGI, which Channels does not type
SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
CLOSE_DONE, CLOSE_POLICY, CLOSE_ERROR, CLOSE_BUSY = 1000, 1008, 1011, 1013
CLOSE_NOT_ALLOWED, CLOSE_UNKNOWN = 4403, 4404
RESYNC_SECONDS = 5.0  # of silence, after which the row is read again
RESYNC_QUEUED_SECONDS = 2.0  # likewise while the story is queued, as its position changes
RESYNC_LOSSY_SECONDS = 1.0  # likewise while publications are known to be lost
ACCESS_CHECK_SECONDS = 20.0  # between checks whether this viewer may still read
SEND_SECONDS = 20.0  # a viewer that takes longer to accept one message is cut off
DISCONNECT = {"type": "websocket.disconnect", "code": CLOSE_POLICY}
MAX_OFFSET = 10_000_000
MAX_MESSAGES = 20  # from a client in each window
WINDOW_SECONDS = 10.0


class StoryConsumer(AsyncWebsocketConsumer):
    """One viewer of one story; the messages are in docs/contracts.md, "Story socket"."""

    channel_layer_alias = ""  # publications come through the broker, so a handshake needs no Redis
    story: Story | None = None
    relaying: asyncio.Task[None] | None = None
    subscription: Subscription

    # Any: Channels does not type its callables either.
    async def __call__(self, scope: object, receive: Any, send: Any) -> Any:
        """As in Channels, and able to end a connection whose client takes no message any more."""
        self.cut_off = asyncio.Event()

        # Any: ASGI's scopes, messages and applications have no types of their own here.
        async def receive_or_cut_off() -> Any:
            received = asyncio.ensure_future(receive())
            cut_off = asyncio.ensure_future(self.cut_off.wait())
            try:
                await asyncio.wait([received, cut_off], return_when=asyncio.FIRST_COMPLETED)
                return received.result() if received.done() else DISCONNECT
            finally:
                received.cancel()
                cut_off.cancel()

        return await super().__call__(scope, receive_or_cut_off, send)

    async def dispatch(self, message: Asgi) -> None:
        """As in Channels, but without going to a database thread before each message."""
        await getattr(self, message["type"].replace(".", "_"))(message)

    async def connect(self) -> None:
        await self.accept()
        self.window = connection_limits.FixedWindow(MAX_MESSAGES, seconds=WINDOW_SECONDS)
        self.reader = _reader(self.scope)
        story, refusal = await in_database(_find, self.scope["url_route"]["kwargs"]["pk"], self.reader)
        if story is None:
            await self.close(refusal)
            return
        self.socket_name = uuid4().hex
        if not await connection_limits.admit(self.reader.address, self.socket_name):
            await self.close(CLOSE_BUSY)
            return
        self.story = story
        attempt, offset = _position(self.scope["query_string"])
        self.viewer = viewer.Viewer(attempt=attempt, offset=offset)
        self.subscription = current_broker().subscribe(story.pk)
        self.relaying = asyncio.create_task(self.run())

    async def disconnect(self, code: int) -> None:
        if self.relaying:
            self.relaying.cancel()
        if self.story:
            current_broker().unsubscribe(self.subscription)
            await connection_limits.dismiss(self.reader.address, self.socket_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """A viewer may send "stop". Any other message is ignored, and too many messages end the socket."""
        if not self.window.allows():
            await self.close(CLOSE_POLICY)
            return
        if self.story and _is_stop(text_data) and await in_database(_stop, self.story, self.reader):
            self.subscription.request_resync()

    async def run(self) -> None:
        """Relays until the story ends. On an error the socket is closed, and the client connects again."""
        try:
            await self.relay_story()
        except TimeoutError:
            self.cut_off.set()  # a close message would wait behind those that are not read
        except OSError as error:  # what ASGI raises if the client left while a message was sent
            logger.debug("the viewer of story %s has left: %r", self.story, error)
        except Exception:
            logger.exception("the socket of story %s is closed after an error", self.story)
            await self.close(CLOSE_ERROR)

    async def relay_story(self) -> None:
        """Relays publications, reads the row where they do not suffice, and checks that this viewer may still read."""
        checked_at, is_lossy = time.monotonic(), False
        await self.catch_up()
        while not self.viewer.ended:
            publications = await self.subscription.take(self.resync_seconds(is_lossy=is_lossy))
            if not publications:
                # If the row had news, its publication was lost, so the row is now read more often.
                is_lossy = await self.catch_up()
            elif not await self.relay(publications):
                is_lossy = False
                await self.catch_up()
            if time.monotonic() - checked_at >= ACCESS_CHECK_SECONDS:
                checked_at = time.monotonic()
                if not await self.check_access():
                    return

    def resync_seconds(self, *, is_lossy: bool) -> float:
        """Seconds of silence until the row is read."""
        if is_lossy:
            return RESYNC_LOSSY_SECONDS
        return RESYNC_QUEUED_SECONDS if self.viewer.state == Story.State.QUEUED else RESYNC_SECONDS

    async def relay(self, publications: list[Publication]) -> bool:
        """Sends the publications' text; False if the row must be read instead, which holds the text of all of them."""
        for publication in publications:
            messages = self.viewer.relay(publication)
            if messages is None:
                return False
            await self.send_all(messages)
        return True

    async def check_access(self) -> bool:
        """Ends the socket if its viewer may no longer read the story; else counts it for another minute."""
        assert self.story is not None
        self.scope["session"] = SessionStore(self.scope["session"].session_key)
        self.scope["user"] = await get_user(self.scope)
        self.reader = _reader(self.scope)
        row, refusal = await in_database(_find, self.story.pk, self.reader)
        if row is None:
            await self.close(refusal)
            return False
        self.story = row
        await connection_limits.admit(self.reader.address, self.socket_name)
        return True

    async def catch_up(self) -> bool:
        """Sends what the row holds and the viewer does not; returns whether there was anything to send."""
        assert self.story is not None
        snapshot = await take_snapshot(self.story.pk)
        if snapshot is None:
            self.viewer.ended = True
            await self.close(CLOSE_UNKNOWN)
            return False
        messages = self.viewer.catch_up(snapshot)
        await self.send_all(messages)
        return bool(messages)

    async def send_all(self, messages: list[viewer.Message]) -> None:
        """Sends in order. Raises `TimeoutError` if the client does not take the messages in time."""
        async with asyncio.timeout(SEND_SECONDS):
            for message in messages:
                await self.send(json.dumps(message, ensure_ascii=False))
        if self.viewer.ended:
            await self.close(CLOSE_DONE)


def _find(pk: UUID, reader: identity.Reader) -> tuple[Story | None, int]:
    """The story if this reader may read it; else None and the code to close the socket with."""
    story = Story.objects.filter(pk=pk).first()
    if story is None:
        return None, CLOSE_UNKNOWN
    return (story, 0) if identity.may_read(reader, story) else (None, CLOSE_NOT_ALLOWED)


def _stop(story: Story, reader: identity.Reader) -> bool:
    """Stops the story if this reader may do that, and returns whether it may."""
    if not identity.may_stop(reader, story):
        return False
    request_stop(story)
    return True


def _reader(scope: Asgi) -> identity.Reader:
    key = identity.read_key(scope.get("cookies", {}).get(identity.COOKIE))
    address = (scope.get("client") or ["", 0])[0]
    return identity.Reader(scope["user"], key, address)


def _position(query: bytes) -> tuple[str, int]:
    """The attempt and the offset that the client says it holds; a malformed value counts as absent."""
    asked = parse_qs(query.decode("latin-1"))
    attempt, offset = asked.get("attempt", [""])[0][:64], asked.get("offset", ["0"])[0]
    plain = offset.isascii() and offset.isdigit() and len(offset) <= 8
    return attempt, min(int(offset), MAX_OFFSET) if plain else 0


def _is_stop(text: str | None) -> bool:
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("type") == "stop"
