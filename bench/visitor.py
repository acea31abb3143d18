"""A reader from outside: pages by HTTP with cookies, a story by its socket; for journeys and benchmarks."""

import http.cookiejar
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.sites import Site

FIELDS = ("dynasty", "super_power", "story_type")
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


class Step(Exception):
    """Something that did not do what it must; the message is its own words."""


@dataclass
class Watched:
    """What one connection of the story socket brought."""

    attempt: str = ""
    text: str = ""
    first_text_at: float = 0.0
    ended: str = ""


class Visitor:
    """A person without a login: pages by HTTP with cookies, the story by its socket."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> str:
        with self.opener.open(self.site.url + path, timeout=30) as reply:
            return str(reply.read().decode("utf-8"))

    def ask(self, parts: Sequence[str]) -> str:
        """Fills in /stories/new/; the id of the story that it leads to."""
        token = TOKEN.search(self.get("/stories/new/"))
        if token is None:
            raise Step("the page /stories/new/ has no form")
        fields = dict(zip(FIELDS, parts, strict=True)) | {"csrfmiddlewaretoken": token[1]}
        body = urllib.parse.urlencode(fields).encode()
        with self.opener.open(self.site.url + "/stories/new/", data=body, timeout=30) as reply:
            return urllib.parse.urlsplit(reply.url).path.split("/")[2]

    def watch(
        self, pk: str, *, attempt: str = "", offset: int = 0, leave_after: int | None = None
    ) -> Watched:
        """Follows the socket to its end, or until `leave_after` characters have come."""
        seen = Watched(attempt=attempt)
        with self._connect(pk, attempt=attempt, offset=offset) as socket:
            for raw in socket:
                take(seen, json.loads(raw), expected=offset)
                if leave_after is not None and len(seen.text) >= leave_after:
                    break
        return seen

    def _connect(self, pk: str, *, attempt: str, offset: int) -> ClientConnection:
        query = urllib.parse.urlencode({"attempt": attempt, "offset": offset} if attempt else {})
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)
        url = f"{self.site.socket_url}/ws/stories/{pk}/?{query}"
        return connect(url, origin=self.site.url, additional_headers={"Cookie": cookies})  # type: ignore[arg-type]


def take(seen: Watched, message: dict[str, Any], *, expected: int) -> None:
    """One message of the socket; raises `Step` where text does not go on where it ended."""
    if message["type"] == "hello":
        seen.attempt = message["attempt"] or ""
        if message["offset"] != expected:
            raise Step(f"hello at {message['offset']}, not {expected}")
    elif message["type"] == "restart":
        seen.attempt, seen.text = message["attempt"], ""
    elif message["type"] == "text":
        if message["offset"] != expected + len(seen.text):
            raise Step(f"text at {message['offset']}, not {expected + len(seen.text)}")
        seen.first_text_at = seen.first_text_at or time.monotonic()
        seen.text += message["text"]
    elif message["type"] == "end":
        seen.ended = message["state"]
