"""Follows one story as a viewer without a socket: the terminal."""

from collections.abc import AsyncIterator

from stories.live.broker import current_broker
from stories.live.snapshots import take_snapshot
from stories.live.viewer import Message, Viewer
from stories.models import Story

RESYNC_SECONDS = 1.0  # without a publication, after which the row is read


async def follow(story: Story) -> AsyncIterator[Message]:
    """The messages of the story socket, from hello to end. Without Redis the row alone is read."""
    viewer, subscription = Viewer(attempt="", offset=0), current_broker().subscribe(story.pk)
    try:
        while not viewer.ended:
            row = await take_snapshot(story.pk)
            if row is None:
                raise Story.DoesNotExist
            for message in viewer.catch_up(row):
                yield message
            while not viewer.ended and (publications := await subscription.take(RESYNC_SECONDS)):
                relayed = [viewer.relay(publication) for publication in publications]
                for message in (message for messages in relayed for message in messages or []):
                    yield message
                if None in relayed:
                    break
    finally:
        current_broker().unsubscribe(subscription)
