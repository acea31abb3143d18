"""ASGI entry: pages through Django, the story socket through Channels; a foreign host or Origin opens no socket."""

import os
from typing import Any
from urllib.parse import urlsplit

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http.request import split_domain_port, validate_host

from ultraman_site.proxies import TrustedProxies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ultraman_site.settings")
pages = get_asgi_application()

from stories.routing import websocket_urlpatterns  # noqa: E402  (models load after Django is set up)
from ultraman_site.bodies import BodyBound  # noqa: E402


class OwnHostAndOrigin:
    """Refuses a handshake for a host that is not ours, or whose `Origin` is not the host it asks for.

    Stands outside the session, so that a foreign page never meets a cookie. A client without an Origin is
    not a browser, and carries no one's cookies but its own (RFC 6455, 10.2).
    """

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    # Any: ASGI's scopes, messages and applications have no types of their own here.
    async def __call__(self, scope: Any, receive: Any, send: object) -> object:
        headers = dict(scope["headers"])
        host, origin = (headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"origin"))
        if not _is_ours(host) or (origin and _host_of(origin) != host):
            return await WebsocketDenier()(scope, receive, send)
        return await self.inner(scope, receive, send)


def _is_ours(host: str) -> bool:
    """By `ALLOWED_HOSTS`, as for a page; the port is not looked at."""
    domain, _port = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def _host_of(origin: str) -> str:
    """`host:port` of an origin, "" for one that cannot be read."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


application = TrustedProxies(
    ProtocolTypeRouter(
        {
            "http": BodyBound(pages),
            "websocket": OwnHostAndOrigin(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
        }
    ),
    settings.TRUSTED_PROXIES,
)
