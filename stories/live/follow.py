"""Follows one story as a viewer without a socket: the terminal."""

from collections.abc import AsyncIterator

from stories.live.broker import switchboard
from stories.live.snapshots import take_snapshot
from stories.live.viewer import Message, Viewer
from stories.models import Story

PATIENCE = 1.0  # seconds without a hint after which the row is read


async def follow(story: Story) -> AsyncIterator[Message]:
    """The messages of the story socket, from hello to end. Without Redis the row alone is read."""
    viewer, mailbox = Viewer(attempt="", offset=0), switchboard().open(story.pk)
    try:
        while not viewer.ended:
            row = await take_snapshot(story.pk)
            if row is None:
                raise Story.DoesNotExist
            for message in viewer.catch_up(row):
                yield message
            while not viewer.ended and (hints := await mailbox.take(PATIENCE)):
                relayed = [viewer.relay(hint) for hint in hints]
                for message in (message for messages in relayed for message in messages or []):
                    yield message
                if None in relayed:
                    break
    finally:
        switchboard().close(mailbox)
