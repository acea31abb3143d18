"""A loop's broker listens from its first viewer to its last, at whatever moment that one leaves."""

import asyncio
import uuid

import pytest

from stories.live.broker import current_broker

pytestmark = pytest.mark.usefixtures("redis_server")


def test_a_loop_ends_at_whatever_moment_its_last_viewer_leaves() -> None:
    """Redis' client swallows a cancellation at some moments of connecting; `tell_story` then never ended."""

    async def watch(seconds: float) -> None:
        subscription = current_broker().subscribe(uuid.uuid4())
        await asyncio.sleep(seconds)  # the moment at which it leaves
        current_broker().unsubscribe(subscription)

    for moment in range(120):
        asyncio.run(asyncio.wait_for(watch(moment % 40 * 0.0002), 20))
