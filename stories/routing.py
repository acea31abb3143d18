"""The story socket's address; any other is an unknown story."""

from typing import Any, cast

from django.urls import path, re_path

from stories.consumers import CLOSE_UNKNOWN, StoryConsumer


# Any: ASGI's scopes, messages and applications have no types of their own here.
async def unknown(scope: object, receive: Any, send: Any) -> None:
    """Accepted and then closed, so that a browser's script learns the code."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": CLOSE_UNKNOWN})


websocket_urlpatterns = [
    path("ws/stories/<uuid:pk>/", StoryConsumer.as_asgi()),
    # Any: ASGI's scopes, messages and applications have no types of their own here.
    re_path("", cast(Any, unknown)),
]
