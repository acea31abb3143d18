"""A provider that is nothing but a socket: it takes a request and ends the connection in a way of its own.

with Wire(Close.FIN, at=At.REQUEST) as wire: …      wire.requests: how many arrived whole, each of them billed
"""

import json
import socket
import struct
import threading
from enum import StrEnum
from types import TracebackType
from typing import Self


class Close(StrEnum):
    """How the connection ends."""

    FIN = "FIN, as a load balancer closes"
    RST = "RST, as a process that died closes"


class At(StrEnum):
    """When it ends. All but the first two have taken the request and billed it."""

    ACCEPT = "at once"
    HALF_REQUEST = "after a part of the request"
    REQUEST = "after the request"
    STATUS = "in the middle of the status line"
    HEADER = "in the middle of a header"
    HEADERS = "after the headers"
    BODY = "in the middle of the body"


BODY = json.dumps({"choices": [{"delta": {"content": "从前"}, "message": {"content": "从前"}}]}).encode()
EVENT = b"data: " + BODY + b"\n\n"
HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 4000\r\n\r\n"
SAID = {
    At.STATUS: b"HTTP/1.1 2",
    At.HEADER: b"HTTP/1.1 200 OK\r\nContent-Ty",
    At.HEADERS: HEADERS,
    At.BODY: HEADERS + EVENT[:-30],
}
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


class Wire:
    """Listens on a port of its own. `kept`: requests of a connection that are answered before it ends."""

    def __init__(self, how: Close, *, at: At, kept: int = 0) -> None:
        self.requests = 0
        self.connections = 0
        self._over = False
        self._how, self._at, self._kept = how, at, kept
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        for _ in range(self._kept):
            if not self._take_request(connection):
                return
            connection.sendall(WHOLE % (len(BODY), BODY))
        if self._at == At.HALF_REQUEST:
            connection.recv(20)
        elif self._at != At.ACCEPT and not self._take_request(connection):
            return
        connection.sendall(SAID.get(self._at, b""))
        if self._how == Close.RST:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.shutdown(socket.SHUT_WR)
            while self._at != At.ACCEPT and connection.recv(65536):
                continue  # a FIN and nothing else: what is left unread would make it a reset

    def _take_request(self, connection: socket.socket) -> bool:
        """Reads one request whole; False if the peer is gone."""
        data = b""
        connection.settimeout(0.05)
        while b"\r\n\r\n" not in data or len(data.split(b"\r\n\r\n", 1)[1]) < _length(data):
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                if self._over:
                    return False  # a client that outlives the test keeps its connection
                continue
            if not piece:
                return False
            data += piece
        connection.settimeout(10)
        self.requests += 1
        return True


def _length(data: bytes) -> int:
    for line in data.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0
