"""A reader's side of the story socket, for tests: a viewer, and how it signs in."""

import json
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from stories.models import Story
from stories.readers.identity import COOKIE, new_key, sign_key
from tests.factories import make_serving_model, make_story

KEY = new_key()


class Viewer:
    """A connection as a reader's browser makes it, and what it has received."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.text, self.attempt = "", ""

    def read(self, *, until: Callable[[dict[str, Any]], bool] | None = None, seconds: float = 20) -> None:
        """Reads until a message fits, or until the server closes."""
        while True:
            try:
                message = json.loads(self.socket.recv(timeout=seconds))
            except ConnectionClosed:
                return
            self.messages.append(message)
            self._apply(message)
            if until and until(message):
                return

    def read_text(self, part: str) -> None:
        """Reads until the text holds the part."""
        self.read(until=lambda message: part in self.text)

    def _apply(self, message: dict[str, Any]) -> None:
        if message["type"] in {"hello", "restart"}:
            self.text = self.text[: message.get("offset", 0)]
            self.attempt = message["attempt"] or ""
        elif message["type"] == "text":
            assert message["offset"] == len(self.text)
            self.text += message["text"]

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    @property
    def has_ended(self) -> bool:
        return bool(self.messages) and self.messages[-1]["type"] == "end"


def open_socket(
    socket_url: str, story: Story, query: str = "", *, key: str = KEY, origin: str = "", **more: Any
) -> connect:
    """`with open_socket(…) as connection`: a connection to the story's socket, as the reader of `key`."""
    headers = {"Cookie": f"{COOKIE}={sign_key(key)}"} if key else {}
    url = f"{socket_url}/ws/stories/{story.pk}/{query}"
    return connect(url, additional_headers=headers, origin=origin or None, **more)  # type: ignore[arg-type]


def queued_story(**kw: Any) -> Story:
    """A story that the reader of `KEY` asked for."""
    return make_story(state="queued", reader_key=KEY, language_model=make_serving_model(), **kw)
