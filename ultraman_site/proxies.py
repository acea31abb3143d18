"""Who is at the other end of a connection, where a proxy may stand between.

The one place that reads `X-Forwarded-For` and `X-Forwarded-Proto`. It believes them only from the peers in
`TRUSTED_PROXIES`, writes what it found into the ASGI scope, and takes the headers away from everybody:
lock-out, quotas, sockets and logs read the scope and nothing else.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SCHEMES = {"http": {"http": "http", "https": "https"}, "websocket": {"http": "ws", "https": "wss"}}
CLAIMS = (b"forwarded", b"x-real-ip")


class TrustedProxies:
    """Outermost ASGI middleware: sets `client` and `scheme`. `networks` are the proxies that are believed."""

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    def __init__(self, inner: Any, networks: Sequence[Network]) -> None:
        self.inner = inner
        self.networks = networks

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    async def __call__(self, scope: Any, receive: Any, send: object) -> object:
        if scope["type"] in SCHEMES:
            scope = self._judge(scope)
        return await self.inner(scope, receive, send)

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    def _judge(self, scope: dict[str, Any]) -> dict[str, Any]:
        """The scope with the client and the scheme that hold, and without the headers that claim others."""
        headers = scope["headers"]
        judged = scope | {"headers": [pair for pair in headers if not _is_claim(pair[0])]}
        host, port = scope.get("client") or ("", 0)
        peer = read_address(host)
        if peer is None:
            return judged
        judged["client"] = (str(peer), port)
        if is_among(peer, self.networks):
            client = find_client(peer, _list(headers, b"x-forwarded-for"), self.networks)
            judged["client"] = (str(client), port if client == peer else 0)
            claimed = _list(headers, b"x-forwarded-proto")
            known = SCHEMES[scope["type"]]
            judged["scheme"] = known.get(claimed[-1].lower() if claimed else "", scope.get("scheme", "http"))
        return judged


def find_client(peer: Address, hops: Sequence[str], networks: Sequence[Network]) -> Address:
    """The nearest hop that is not one of our proxies; what stands before something unreadable is not believed."""
    client = peer
    for hop in reversed(hops):
        address = read_address(hop)
        if address is None:
            break
        client = address
        if not is_among(address, networks):
            break
    return client


def read_address(text: str) -> Address | None:
    """The address of `192.0.2.7`, `192.0.2.7:80`, `[2001:db8::7]:443`, `::ffff:192.0.2.7`; None if it is none."""
    host = text.strip().strip('"')
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_among(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def read_networks(value: str) -> list[Network]:
    """The networks of `127.0.0.1, 10.0.0.0/8, ::1`. Raises `ImproperlyConfigured` with a sentence."""
    networks = []
    for part in filter(None, (part.strip() for part in value.split(","))):
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise ImproperlyConfigured(
                "TRUSTED_PROXIES must be IP addresses or networks such as 127.0.0.1,10.0.0.0/8 "
                f"(comma-separated), not {part!r}."
            ) from error
    return networks


def _is_claim(name: bytes) -> bool:
    lowered = name.lower().replace(b"_", b"-")
    return lowered.startswith(b"x-forwarded-") or lowered in CLAIMS


def _list(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """The parts of a header that may stand several times, in their order."""
    lines = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    return [part.strip() for line in lines for part in line.split(",") if part.strip()]
