"""Listening for hints begins with the first viewer of a loop and ends with the last, whatever moment that is."""

import asyncio
import uuid

import pytest

from stories.live.broker import switchboard

pytestmark = pytest.mark.usefixtures("redis_server")


def test_a_loop_ends_at_whatever_moment_its_last_viewer_leaves() -> None:
    """Redis' client swallows a cancellation at some moments of connecting; `tell_story` then never ended."""

    async def watch(seconds: float) -> None:
        mailbox = switchboard().open(uuid.uuid4())
        await asyncio.sleep(seconds)  # the moment at which it leaves
        switchboard().close(mailbox)

    for moment in range(120):
        asyncio.run(asyncio.wait_for(watch(moment % 40 * 0.0002), 20))
