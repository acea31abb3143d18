"""The story socket's handshake, byte by byte: whatever is sent, there is an answer."""

import socket
import uuid

import pytest
from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.factories import make_approved_story
from tests.sites import Web
from tests.sockets import Viewer
from ultraman_site.handshake import AnsweringProtocol

UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
HOST = b"Host: 127.0.0.1\r\n"


def shake(
    web: Web, *, query: bytes = b"", headers: bytes = HOST, method: bytes = b"GET", path: str = ""
) -> str:
    """The status line that a handshake is answered with; a connection that nobody answers on fails the test."""
    target = (path or f"/ws/stories/{uuid.uuid4()}/").encode("latin-1") + query
    port = int(web.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(method + b" " + target + b" HTTP/1.1\r\n" + UPGRADE + headers + b"\r\n")
        return peer.recv(4096).partition(b"\r\n")[0].decode("latin-1")


def test_a_query_of_twenty_kilobytes_is_answered(web: Web) -> None:
    assert shake(web, query=b"?attempt=" + b"a" * 20_000) == "HTTP/1.1 414 Request-URI Too Long"
    assert shake(web, query=b"?attempt=" + b"a" * 7_000) == "HTTP/1.1 101 Switching Protocols"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Cookie: a=" + b"b" * 9_000 + b"\r\n", "431"),
        (b"".join(b"X-%d: 1\r\n" % number for number in range(200)), "431"),
        (b"Content-Length: 5\r\n", "400"),
        (b"Sec-WebSocket-Protocol: \xff\r\n", "400"),
        (b"Cookie: sessionid=\xe5; reader=\xff; csrftoken=\r\n", "101"),
        (b"Cookie: sessionid=\"\\000\\000\\000\\000\\000\\000\\000\\000\"\r\n", "101"),
        (b"Accept-Language: " + b"\xff" * 900 + b"\r\n", "101"),
        (b"Origin: http://[::1\r\n", "403"),
        (b"Origin: \xe5\xff\r\n", "403"),
        (b"Origin: null\r\n", "403"),
        (b"Origin: http://127.0.0.1:1\r\n", "403"),
        (b"Origin: http://127.0.0.1\r\n", "101"),
    ],
)  # fmt: skip
def test_odd_headers_are_answered(web: Web, headers: bytes, status: str) -> None:
    assert shake(web, headers=HOST + headers).split()[1] == status


@pytest.mark.parametrize("method", [b"POST", b"OPTIONS", b"BREW"])
def test_only_a_get_opens_a_socket(web: Web, method: bytes) -> None:
    assert shake(web, method=method).split()[1] == "405"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"127.0.0.1", "101"),
        (b"127.0.0.1:8000", "101"),
        (b"LOCALHOST", "101"),
        (b"[::1]:8000", "101"),
        (b"evil.example", "403"),
        (b"127.0.0.1.evil.example", "403"),
        (b"127.0.0.1@evil.example", "403"),
        (b"evil.example:127.0.0.1", "403"),
        (b"\xff", "403"),
        (b"", "403"),
    ],
)
def test_a_host_that_is_not_ours_opens_no_socket(web: Web, host: bytes, status: str) -> None:
    """As for a page: a name that somebody pointed at this address (DNS rebinding) is not the site's."""
    assert shake(web, headers=b"Host: " + host + b"\r\n").split()[1] == status
    origin = b"Origin: http://" + host + b"\r\n"
    if status == "403":
        assert shake(web, headers=b"Host: " + host + b"\r\n" + origin).split()[1] == status


@pytest.mark.parametrize(
    "path",
    ["/", "/ws/", "/ws/nowhere/", "/ws/stories/1/", "/ws/stories/%00%ff/", "/stories/new/", "//", "/ws%2f"],
)
def test_an_unknown_address_is_an_unknown_story(web: Web, path: str) -> None:
    with connect(f"{web.socket_url}{path}") as opened:
        with pytest.raises(ConnectionClosed):
            opened.recv(timeout=10)
        assert opened.close_code == 4404
    assert "Traceback" not in web.child.output


def test_the_rest_goes_on_meanwhile(web: Web) -> None:
    story = make_approved_story()
    for _ in range(20):
        shake(web, query=b"?" + b"a" * 20_000)
    with connect(f"{web.socket_url}/ws/stories/{story.pk}/") as opened:
        viewer = Viewer(opened)
        viewer.read()

    assert viewer.text == story.text


async def test_uvicorns_own_class_leaves_the_client_waiting() -> None:
    """The negative control: the same bytes, fed to the class without our answer, bring nothing back."""

    def written_by(kind: type[WebSocketsSansIOProtocol]) -> bytes:
        transport = FakeTransport()
        config = Config(app=lambda scope: None, ws="none", log_config=None)
        protocol = kind(config=config, server_state=ServerState(), app_state={})
        protocol.transport = transport  # type: ignore[assignment]
        protocol.data_received(b"GET /?" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n")
        return transport.written

    assert written_by(WebSocketsSansIOProtocol) == b""
    assert written_by(AnsweringProtocol).startswith(b"HTTP/1.1 414 ")


class FakeTransport:
    """Keeps what is written to it."""

    written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        return None
