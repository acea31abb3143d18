"""How long the body of a request may be, refused before it is read.

Django's handler writes a body to disk as it comes, whole, before any view or login is asked. So its length is
looked at first, and its bytes are counted as they come: what is too long reaches Django as an empty body with
a mark in the scope, which `stories.middleware.BodyMiddleware` answers with 413.
"""

import asyncio
import logging
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.db import DatabaseError
from django.http import HttpRequest, parse_cookie
from django.urls import reverse

from stories.library.csv_files import MAX_BYTES
from stories.live.snapshots import in_database
from stories.middleware import TOO_LONG
from stories.readers.identity import REVIEW

logger = logging.getLogger(__name__)
FRAMING = 64 * 1024  # what a form puts around a file
# For so long and so much is read on behind a refusal: a client that is cut off while it sends reads no answer.
LINGER_SECONDS, LINGER_BYTES = 1.0, 4 * 1024 * 1024
END = {"type": "http.request", "body": b"", "more_body": False}


class BodyBound:
    """ASGI middleware: no more of a body is taken than `DATA_UPLOAD_MAX_MEMORY_SIZE`; of a file to import, more."""

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    async def __call__(self, scope: Any, receive: Any, send: object) -> object:
        if scope["type"] != "http":
            return await self.inner(scope, receive, send)
        headers = dict(scope["headers"])
        length = _length(headers)
        bound = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if (length is None or length > bound) and await _is_import(scope, headers):
            bound = MAX_BYTES + FRAMING
        body = BoundedBody(dict(scope), receive, send, bound)
        if length is not None and length > bound:
            body.refuse()
        return await self.inner(body.scope, body.receive, body.send)


class BoundedBody:
    """One request's way in and out. `scope[TOO_LONG]` is the bound in bytes, once it was passed."""

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    def __init__(self, scope: dict[str, object], receive: Any, send: Any, bound: int) -> None:
        self.scope = scope
        self._receive, self._send, self._bound = receive, send, bound
        self._read = 0

    def refuse(self) -> None:
        self.scope[TOO_LONG] = self._bound

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    async def receive(self) -> Any:
        if TOO_LONG in self.scope:
            return await self._receive_nothing()
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > self._bound:
            self.refuse()
            return await self._receive_nothing()
        return message

    async def _receive_nothing(self) -> object:
        """The end of the body, once; who waits for the client to leave after that is ended with the answer."""
        if self._read >= 0:
            self._read = -1
            return END
        return await asyncio.get_running_loop().create_future()

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    async def send(self, message: Any) -> None:
        """Ends the connection of a refused body with its answer: the rest of it is not waited for."""
        if TOO_LONG not in self.scope:
            await self._send(message)
            return
        if message["type"] == "http.response.start":
            await self._send({**message, "headers": [*message["headers"], (b"connection", b"close")]})
            return
        await self._send({**message, "more_body": True})
        if not message.get("more_body"):
            await self._linger()
            await self._send({**message, "body": b""})

    async def _linger(self) -> None:
        read = 0
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while read < LINGER_BYTES:
                    message = await self._receive()
                    read += len(message.get("body", b""))
                    if not message.get("more_body"):
                        return
        except TimeoutError:
            return


def _length(headers: dict[bytes, bytes]) -> int | None:
    """What the request says of its body's length; None where the body comes in chunks."""
    if b"transfer-encoding" in headers:
        return None
    return int(headers.get(b"content-length", b"0"))


# Any: ASGI's scopes, messages and applications have no types of their own here.
async def _is_import(scope: dict[str, Any], headers: dict[bytes, bytes]) -> bool:
    """Whether this is a file for the importer, from somebody who may import."""
    if scope["method"] != "POST" or scope["path"] != reverse("admin:stories_story_import"):
        return False
    session = parse_cookie(headers.get(b"cookie", b"").decode("latin-1")).get(settings.SESSION_COOKIE_NAME)
    try:
        return bool(session) and await in_database(_may_import, session)
    except DatabaseError as error:
        logger.warning("nobody may import now, the database does not say who it is: %s", error)
        return False


def _may_import(session_key: str) -> bool:
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    return get_user(request).has_perm(REVIEW)
