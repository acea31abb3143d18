"""The same over a real server, byte by byte: pages and the story socket, by whatever a client may send."""

import random
import socket
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.test import Client
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.factories import make_approved_story, make_story
from tests.fuzz import odd
from tests.sites import Web

pytestmark = pytest.mark.django_db(transaction=True)
ACCIDENTS = (
    "Fatal error",
    "Exception in ASGI",
    "Internal Server Error",
    "Task exception",
    "is closed after an error",
)
PAGES = [
    "/",
    "/stories/new/",
    "/stories/mine/",
    "/login/",
    "/admin/",
    "/admin/stories/story/",
    "/nowhere/",
    "/i18n/setlang/",
]


@pytest.fixture
def root(web: Web) -> str:
    """The cookie of somebody who may do everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="root"))
    return f"sessionid={client.cookies['sessionid'].value}"


def ask(web: Web, request: bytes) -> bytes:
    """The status of the answer, b"" where the server closed without one; silence for ten seconds fails."""
    with socket.create_connection(("127.0.0.1", int(web.url.rpartition(":")[2])), timeout=10) as peer:
        peer.sendall(request)
        return peer.recv(4096).partition(b" ")[2][:3]


def accidents_in(log: str) -> list[str]:
    """What the server says of errors of its own, with the lines that follow."""
    places = [log.find(word) for word in ACCIDENTS]
    return [log[max(0, place - 300) : place + 4500] for place in places if place >= 0]


def encode(request: odd.Request, cookie: str) -> bytes:
    """As a client writes it; what no header can carry is left out by the sample."""
    headers = {"Host": "127.0.0.1", "Cookie": cookie, "Connection": "close"} | request.headers
    if request.method == "POST":
        headers = {"Content-Type": request.kind, "Content-Length": str(len(request.body))} | headers
    target = request.path + (f"?{request.query}" if request.query else "")
    lines = [
        f"{request.method} {target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1", "replace") + request.body


def odd_requests(story: Any) -> list[odd.Request]:
    pages = [*PAGES, story.get_absolute_url(), f"/admin/stories/story/{story.pk}/change/"]
    dice = random.Random("wire")
    requests = [
        request
        for path in pages
        for request in [*odd.with_headers(path), *(odd.Request(path, raw) for raw in odd.RAW)]
    ]
    chosen = dice.sample(requests, 150)
    chosen += [odd.Request(path, headers={"Cookie": cookie}) for path in PAGES[:2] for cookie in odd.COOKIES]
    for kind in [*odd.CODECS, "application/x-www-form-urlencoded; charset=utf-16"]:
        for path in PAGES:
            chosen += [
                odd.Request(path, "q=1", "POST", b"a=1", kind),
                odd.Request(path, "q=1", headers={"Content-Type": kind}),
            ]
    chosen += [
        odd.Request(path, f"after={quote(mark)}")
        for path in ("/", "/stories/mine/")
        for mark in odd.MARKS[:12]
    ]
    chosen += [odd.Request("/", headers={"Content-Length": value}) for value in ("x", "-1", "9" * 50, "1, 2")]
    return chosen


@pytest.mark.both_databases
def test_odd_requests_are_answered_and_leave_no_trace_in_the_log(web: Web, root: str) -> None:
    story = make_approved_story()
    before = len(web.child.output)
    answers = {
        f"{request} as {cookie[:9]}": ask(web, encode(request, cookie))
        for cookie in ("", root)
        for request in odd_requests(story)
    }

    assert {request: status for request, status in answers.items() if not b"200" <= status < b"500"} == {}
    assert accidents_in(web.child.output[before:]) == []


# --- the story socket -----------------------------------------------------------------------------------

FRAMES: list[Any] = [
    *(
        "",
        "x",
        "[]",
        "{}",
        "null",
        "1e999",
        '{"type":1}',
        '{"type":"stop"}',
        '{"type":"🐉"}',
        '{"type":["stop"]}',
    ),
    *("[" * 9000, '{"type":"stop","type":"go"}', "\0", "唐" * 9000, "NaN", '{"type":"websocket.disconnect"}'),
    *(b"", b"\0", b"\xff" * 900, b'{"type":"stop"}'),
]
QUERIES = [
    *odd.RAW[:-1],
    *(f"{name}={quote(value)}" for name in ("attempt", "offset") for value in odd.VALUES if len(value) < 900),
    *("offset=1&offset=2", "attempt", "?", "#", "attempt=" + "%00" * 900, "&".join(["a=1"] * 900)),
]


def converse(web: Web, path: str, query: str, headers: dict[str, str], frames: list[Any]) -> str:
    """How one conversation ended: "open", a close code, or the status that refused it."""
    try:
        with connect(
            f"{web.socket_url}{path}?{query}", additional_headers=headers, open_timeout=10
        ) as opened:
            for frame in frames:
                opened.send(frame)
            opened.ping().wait(5)
            return "open" if opened.close_code is None else str(opened.close_code)
    except WebSocketException as error:
        response = getattr(error, "response", None)
        return (
            str(response.status_code)
            if response
            else str(getattr(getattr(error, "rcvd", None), "code", error))
        )


@pytest.mark.both_databases
def test_odd_conversations_end_as_they_should(web: Web, root: str) -> None:
    """1011 is an accident of ours, as is a 5xx; so is what the log calls an accident."""
    stories = [
        make_approved_story(),
        make_story(state="queued", visibility="link"),
        make_story(reader_key="f" * 32),
    ]
    paths = [f"/ws/stories/{story.pk}/" for story in stories]
    paths += [
        f"/ws/stories/{uuid.UUID(odd.UUID)}/",
        "/ws/",
        "/ws/stories/x/",
        "/ws/stories/%00/",
        "/%ff",
        "/ws/stories/" + "a" * 900,
    ]
    dice, before, ends = random.Random("socket"), len(web.child.output), {}
    for number in range(150):
        cookie = dice.choice(["", root, *odd.COOKIES])
        headers = {"Cookie": cookie} if cookie.isascii() and cookie else {}
        talk = (dice.choice(paths[:3] * 4 + paths), dice.choice(QUERIES), headers, dice.choices(FRAMES, k=3))
        ends[f"{number} {talk}"] = converse(web, *talk)

    # The last: a close frame that was lost, because we were still sending when the server had said all and left.
    lost = "no close frame received or sent"
    known = {lost, "open", "1000", "1007", "1008", "4403", "4404", "403", "400", "414", "431"}
    assert {talk: end for talk, end in ends.items() if end not in known} == {}
    assert accidents_in(web.child.output[before:]) == []
