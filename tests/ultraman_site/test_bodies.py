"""How long a body may be: refused by its length before it is read, by its bytes where it names none."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User
from django.test import Client

from stories.library import csv_files
from stories.models import ImportedFile
from tests.factories import make_person
from tests.sites import Web
from ultraman_site import bodies

MEBIBYTE = 1024 * 1024
IMPORT = "/admin/stories/story/import/"
SENTENCE = "一次最多收 1.0 MB，更长的在读之前就退回了。请缩短后再发。"


def open_to(web: Web) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(web.url.rpartition(":")[2])), timeout=20)


def head(path: str, *lines: str) -> bytes:
    kind = "Content-Type: application/x-www-form-urlencoded"
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: 127.0.0.1", kind, *lines, "", ""]).encode()


def answer(peer: socket.socket) -> str:
    """All that the server says until it closes."""
    received = b""
    while piece := peer.recv(65536):
        received += piece
    return received.decode("utf-8").replace("\xa0", " ")


def send_until_cut_off(peer: socket.socket, piece: bytes, *, most: int) -> int:
    """How many bytes went out before the other end would take no more."""
    sent = 0
    try:
        while sent < most:
            peer.sendall(piece)
            sent += len(piece)
    except (ConnectionResetError, BrokenPipeError):
        return sent
    return sent


def signed_in(person: User) -> str:
    client = Client()
    client.force_login(person)
    return f"Cookie: sessionid={client.cookies['sessionid'].value}"


# --- by length ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "length"),
    [
        *(("/", MEBIBYTE + 1), ("/login/", 300 * MEBIBYTE), ("/stories/new/", 10**18)),
        *(("/nowhere/", 300 * MEBIBYTE), (IMPORT, MEBIBYTE + 1), (IMPORT, 300 * MEBIBYTE)),
    ],
)
def test_a_long_body_is_refused_by_its_length_before_a_byte_of_it(web: Web, path: str, length: int) -> None:
    with open_to(web) as peer:
        peer.sendall(head(path, f"Content-Length: {length}"))
        said = answer(peer)

    assert said.startswith("HTTP/1.1 413 ")
    assert SENTENCE in said
    assert "content-security-policy: " in said.lower() and "connection: close" in said.lower()


def test_it_says_so_in_english_too(web: Web) -> None:
    with open_to(web) as peer:
        peer.sendall(head("/", "Content-Length: 300000000", "Accept-Language: en"))
        assert "At most 1.0 MB is taken at once" in answer(peer)


def test_whoever_sends_on_is_cut_off(web: Web) -> None:
    with open_to(web) as peer:
        peer.sendall(head("/stories/new/", f"Content-Length: {300 * MEBIBYTE}"))
        sent = send_until_cut_off(peer, b"a" * MEBIBYTE, most=300 * MEBIBYTE)

    assert sent < 40 * MEBIBYTE  # what the two ends of a loopback connection hold


def test_who_asks_first_is_not_told_to_continue(web: Web) -> None:
    with open_to(web) as peer:
        peer.sendall(head("/", f"Content-Length: {300 * MEBIBYTE}", "Expect: 100-continue"))
        assert answer(peer).startswith("HTTP/1.1 413 ")


@pytest.mark.parametrize("method", ["GET", "PUT", "BREW"])
def test_every_method_is_bounded(web: Web, method: str) -> None:
    with open_to(web) as peer:
        peer.sendall(head("/", f"Content-Length: {MEBIBYTE + 1}").replace(b"POST", method.encode(), 1))
        assert answer(peer).startswith("HTTP/1.1 413 ")


def test_the_longest_story_fits(web: Web, alice: User) -> None:
    """20,000 characters of Chinese are 180 kB in a form; a mebibyte is read and judged by the form itself."""
    for size in (180_000, MEBIBYTE - 200):
        with open_to(web) as peer:
            body = b"text=" + b"%E9" * ((size - 5) // 3)
            peer.sendall(head("/login/", f"Content-Length: {len(body)}", "Connection: close") + body)
            assert answer(peer).startswith("HTTP/1.1 403 ")  # no token


# --- by bytes -------------------------------------------------------------------------------------------


def chunk(size: int) -> bytes:
    return b"%x\r\n" % size + b"a" * size + b"\r\n"


@pytest.mark.parametrize("path", ["/", "/stories/new/", IMPORT])
def test_a_body_without_a_length_is_counted(web: Web, path: str) -> None:
    with open_to(web) as peer:
        peer.sendall(head(path, "Transfer-Encoding: chunked"))
        for _ in range(17):
            peer.sendall(chunk(64 * 1024))
        said = answer(peer)

    assert said.startswith("HTTP/1.1 413 ")
    assert SENTENCE in said


def test_a_short_body_without_a_length_is_read(web: Web) -> None:
    with open_to(web) as peer:
        peer.sendall(head("/login/", "Transfer-Encoding: chunked", "Connection: close"))
        peer.sendall(chunk(64 * 1024) + b"0\r\n\r\n")
        assert answer(peer).startswith("HTTP/1.1 403 ")


async def test_what_is_too_long_is_dropped_and_not_kept() -> None:
    """By the middleware itself: the application is given no byte of a refused body, and at most the bound of a
    counted one. The negative control: without the middleware it is given all."""
    assert await given_to_the_application(bounded=True, length=3 * MEBIBYTE) == 0
    assert await given_to_the_application(bounded=True, length=None) <= MEBIBYTE
    assert await given_to_the_application(bounded=False, length=3 * MEBIBYTE) == 3 * MEBIBYTE


async def given_to_the_application(*, bounded: bool, length: int | None) -> int:
    given = 0
    pieces = iter([b"a" * 65536] * 48)

    async def receive() -> Any:
        piece = next(pieces, b"")
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal given
        more = True
        while more:
            message = await receive()
            given += len(message["body"])
            more = message["more_body"]

    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    coding = [(b"transfer-encoding", b"chunked")] if length is None else []
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers + coding}
    outer = bodies.BodyBound(application) if bounded else application
    await outer(scope, receive, None)
    return given


# --- a file to import -----------------------------------------------------------------------------------


def make_file(rows: int) -> bytes:
    text = "从前有座山。" * 2000
    lines = [f'"唐","隐形","轻松","{text}"' for _ in range(rows)]
    return ("dynasty,super_power,story_type,story\r\n" + "\r\n".join(lines)).encode()


@pytest.fixture
def import_as(web: Web) -> Iterator[Any]:
    """`import_as(person, content)`: the file on the importer's form."""

    def send(person: User, content: bytes) -> httpx2.Response:
        name, _, value = signed_in(person).removeprefix("Cookie: ").partition("=")
        token = "a" * 32
        cookies = {name: value, "csrftoken": token}
        with httpx2.Client(base_url=web.url, cookies=cookies, timeout=60) as client:
            files = {"file": ("stories.csv", content, "text/csv")}
            return client.post(IMPORT, data={"csrfmiddlewaretoken": token}, files=files)

    yield send


def test_an_editor_imports_more_than_anybody_else_may_send(import_as: Any, alice: User) -> None:
    content = make_file(60)
    assert len(content) > 2 * MEBIBYTE

    response = import_as(alice, content)

    kept = ImportedFile.objects.get()  # so long a file is a worker's
    assert (response.status_code, response.headers["Location"]) == (
        302,
        f"/admin/stories/importedfile/{kept.pk}/change/",
    )


def test_nobody_else_does(import_as: Any, web: Web, reader: User) -> None:
    people = [reader, User.objects.create_user("clerk", is_staff=True)]
    for person in people:
        with open_to(web) as peer:
            peer.sendall(head(IMPORT, f"Content-Length: {2 * MEBIBYTE}", signed_in(person)))
            assert answer(peer).startswith("HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "cookie", ["sessionid=" + "a" * 32, "sessionid=", 'sessionid="\\000\\000\\000\\000\\000\\000\\000\\000"']
)
def test_a_made_up_session_is_nobodys(web: Web, cookie: str) -> None:
    with open_to(web) as peer:
        peer.sendall(head(IMPORT, f"Content-Length: {2 * MEBIBYTE}", f"Cookie: {cookie}"))
        assert answer(peer).startswith("HTTP/1.1 413 ")


def test_an_editor_elsewhere_and_a_file_beyond_the_importers_bound_are_refused(web: Web) -> None:
    alice = signed_in(make_person("alice", group="editors"))
    beyond = csv_files.MAX_BYTES + bodies.FRAMING + 1
    for path, length in (("/stories/new/", 2 * MEBIBYTE), (IMPORT, beyond)):
        with open_to(web) as peer:
            peer.sendall(head(path, f"Content-Length: {length}", alice))
            assert answer(peer).startswith("HTTP/1.1 413 ")


# --- in another encoding --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "charset", ["utf-16", "UTF-7", "rot13", "hex", "idna", "latin-1", "nonsense", "x" * 900]
)
@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/json",
    ],
)
def test_a_body_in_another_encoding_is_refused_with_a_sentence(db: None, kind: str, charset: str) -> None:
    response = Client().generic(
        "POST", "/stories/new/", b"dynasty=a", content_type=f"{kind}; charset={charset}"
    )

    assert response.status_code == 415
    assert "这里只收 UTF-8 编码的内容" in response.content.decode()


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"', "U8"])
def test_utf_8_by_any_of_its_names_is_read(db: None, charset: str) -> None:
    kind = f"application/x-www-form-urlencoded; charset={charset}"
    response = Client().generic("POST", "/login/", b"username=a", content_type=kind)

    assert response.status_code == 200
