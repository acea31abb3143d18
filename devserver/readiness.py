"""Whether the site answers: model server, pages, socket, and (through `/health/ready`) workers and beat."""

import base64
import http.client
import json
import os
import socket
from http import HTTPStatus

from devserver.plan import HOST, Plan

TIMEOUT = 3.0
NO_STORY = "/ws/stories/00000000-0000-0000-0000-000000000000/"


def missing(plan: Plan) -> list[str]:
    """What does not answer yet; empty when the site is ready."""
    if plan.model_port and not answers(plan.model_port, "/health"):
        return ["model server"]
    silent = silent_parts(plan.port)
    if silent:
        return silent
    checks = {"pages": answers(plan.port, "/"), "socket": takes_sockets(plan.port)}
    return [name for name, is_up in checks.items() if not is_up]


def answers(port: int, path: str) -> bool:
    return _get(port, path)[0] == HTTPStatus.OK


def silent_parts(port: int) -> list[str]:
    """What `/health/ready` misses: `worker-bulk`, `beat`, …; `web` while it cannot be asked."""
    status, body = _get(port, "/health/ready")
    if status == HTTPStatus.OK:
        return []
    try:
        report = json.loads(body)
        return [str(name) for name in report["missing"]] or ["web"]
    except (ValueError, KeyError, TypeError):
        return ["web"]


def takes_sockets(port: int) -> bool:
    """Whether a WebSocket handshake is accepted (RFC 6455, section 4.1)."""
    request = (
        f"GET {NO_STORY} HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    try:
        with socket.create_connection((HOST, port), timeout=TIMEOUT) as connection:
            connection.sendall(request.encode("ascii"))
            return connection.recv(64).startswith(b"HTTP/1.1 101 ")
    except OSError:
        return False


def _get(port: int, path: str) -> tuple[int, bytes]:
    """(status, body), (0, b"") if nothing answered."""
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
