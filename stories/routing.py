"""The story socket's address; any other is an unknown story."""

from typing import Any, cast

from django.urls import path, re_path

from stories.consumers import CLOSE_UNKNOWN, StoryConsumer


async def unknown(scope: Any, receive: Any, send: Any) -> None:
    """Accepted and then closed, so that a browser's script learns the code."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": CLOSE_UNKNOWN})


websocket_urlpatterns = [
    path("ws/stories/<uuid:pk>/", StoryConsumer.as_asgi()),
    re_path("", cast(Any, unknown)),
]
