"""The story socket: opens a mailbox for the story's hints, replays the row, relays what is committed.

It trusts no delivery: a gap, a newer fence or some seconds of silence, and it reads the row again. One task
per connection sends everything but refusals, so that what is computed and what is sent have one order.
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
from stories.live.broker import Hint, Mailbox, switchboard
from stories.live.snapshots import in_database, take_snapshot
from stories.models import Story
from stories.readers import identity

logger = logging.getLogger(__name__)
SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
CLOSE_DONE, CLOSE_POLICY, CLOSE_ERROR, CLOSE_BUSY = 1000, 1008, 1011, 1013
CLOSE_NOT_ALLOWED, CLOSE_UNKNOWN = 4403, 4404
SILENCE = 5.0  # seconds after which the row is read again
SILENCE_QUEUED = 2.0  # likewise while the queue moves on
SILENCE_DEAF = 1.0  # likewise while hints are known to be lost
ACCESS_CHECK = 20.0  # seconds between looks whether this viewer may still read
SEND_SECONDS = 20.0  # a viewer that takes longer to take one message does not read
DISCONNECT = {"type": "websocket.disconnect", "code": CLOSE_POLICY}
MOST_OFFSET = 10_000_000
MOST_SAID = 20  # messages from a client in ten seconds


class StoryConsumer(AsyncWebsocketConsumer):
    """One viewer of one story; the messages are in docs/contracts.md, "Story socket"."""

    channel_layer_alias = ""  # hints come through the switchboard: a handshake needs no Redis
    story: Story | None = None
    watcher: asyncio.Task[None] | None = None
    mailbox: Mailbox

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """As Channels does it, but for a way to end a connection that takes nothing any more."""
        self.cut_off = asyncio.Event()

        async def hear() -> Any:
            heard = asyncio.ensure_future(receive())
            cut_off = asyncio.ensure_future(self.cut_off.wait())
            try:
                await asyncio.wait([heard, cut_off], return_when=asyncio.FIRST_COMPLETED)
                return heard.result() if heard.done() else DISCONNECT
            finally:
                heard.cancel()
                cut_off.cancel()

        return await super().__call__(scope, hear, send)

    async def dispatch(self, message: dict[str, Any]) -> None:
        """As Channels does it, without its visit to a database thread before each message."""
        await getattr(self, message["type"].replace(".", "_"))(message)

    async def connect(self) -> None:
        await self.accept()
        self.said = connection_limits.Allowance(MOST_SAID, seconds=10.0)
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
        self.viewer = viewer.Viewer(**_position(self.scope["query_string"]))
        self.mailbox = switchboard().open(story.pk)
        self.watcher = asyncio.create_task(self.watch())

    async def disconnect(self, code: int) -> None:
        if self.watcher:
            self.watcher.cancel()
        if self.story:
            switchboard().close(self.mailbox)
            await connection_limits.dismiss(self.reader.address, self.socket_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """The one thing a viewer may say is stop; anything else is ignored, too much of it ends the socket."""
        if not self.said.take():
            await self.close(CLOSE_POLICY)
            return
        if self.story and _is_stop(text_data) and await in_database(_stop, self.story, self.reader):
            self.mailbox.look_again()

    async def watch(self) -> None:
        """Ends the socket if watching fails: the client comes back, and is watched again."""
        try:
            await self.watch_row()
        except TimeoutError:
            self.cut_off.set()  # a close would wait behind what is not read
        except OSError as error:  # the ASGI word for a client that left while something was sent to it
            logger.debug("the viewer of story %s has left: %r", self.story, error)
        except Exception:
            logger.exception("the socket of story %s is no longer watched", self.story)
            await self.close(CLOSE_ERROR)

    async def watch_row(self) -> None:
        """Relays hints, reads the row where they leave a doubt, and looks whether this viewer may still read."""
        looked, deaf = time.monotonic(), False
        await self.catch_up()
        while not self.viewer.ended:
            hints = await self.mailbox.take(self.patience(deaf=deaf))
            if not hints:
                # News that came without a hint: until one is heard again, the row is read more often.
                deaf = await self.catch_up()
            elif not await self.relay(hints):
                deaf = False
                await self.catch_up()
            if time.monotonic() - looked >= ACCESS_CHECK:
                looked = time.monotonic()
                if not await self.check_access():
                    return

    def patience(self, *, deaf: bool) -> float:
        """Seconds of silence until the row is read."""
        if deaf:
            return SILENCE_DEAF
        return SILENCE_QUEUED if self.viewer.state == Story.State.QUEUED else SILENCE

    async def relay(self, hints: list[Hint]) -> bool:
        """Sends what the hints hold; False where the row must be read instead, which is ahead of all of them."""
        for hint in hints:
            messages = self.viewer.relay(hint)
            if messages is None:
                return False
            await self.send_all(messages)
        return True

    async def check_access(self) -> bool:
        """Ends the socket of who logged out, or may no longer read the story; keeps the address's place."""
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
        """Sends what brings this viewer to the row; whether that was anything."""
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
        """Sends in order. Raises `TimeoutError` for a viewer that does not read."""
        async with asyncio.timeout(SEND_SECONDS):
            for message in messages:
                await self.send(json.dumps(message, ensure_ascii=False))
        if self.viewer.ended:
            await self.close(CLOSE_DONE)


def _find(pk: UUID, reader: identity.Reader) -> tuple[Story | None, int]:
    """The story, for who may read it; else None and the code to close with."""
    story = Story.objects.filter(pk=pk).first()
    if story is None:
        return None, CLOSE_UNKNOWN
    return (story, 0) if identity.may_read(reader, story) else (None, CLOSE_NOT_ALLOWED)


def _stop(story: Story, reader: identity.Reader) -> bool:
    """Stops the story for who may; whether that was this reader."""
    if not identity.may_stop(reader, story):
        return False
    request_stop(story)
    return True


def _reader(scope: dict[str, Any]) -> identity.Reader:
    key = identity.read_key(scope.get("cookies", {}).get(identity.COOKIE))
    address = (scope.get("client") or ["", 0])[0]
    return identity.Reader(scope["user"], key, address)


def _position(query: bytes) -> dict[str, Any]:
    """What the client says it holds; malformed counts as absent."""
    asked = parse_qs(query.decode("latin-1"))
    attempt, offset = asked.get("attempt", [""])[0][:64], asked.get("offset", ["0"])[0]
    plain = offset.isascii() and offset.isdigit() and len(offset) <= 8
    return {"attempt": attempt, "offset": min(int(offset), MOST_OFFSET) if plain else 0}


def _is_stop(text: str | None) -> bool:
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("type") == "stop"
