"""ASGI entry: pages through Django, the story socket through Channels, a foreign Origin through neither."""

import os
from typing import Any
from urllib.parse import urlsplit

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.core.asgi import get_asgi_application

from ultraman_site.proxies import TrustedProxies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ultraman_site.settings")
pages = get_asgi_application()

from stories.routing import websocket_urlpatterns  # noqa: E402  (models load after Django is set up)


class SameOrigin:
    """Refuses a handshake whose `Origin` is not the host it asks for.

    Stands outside the session, so that a foreign page never meets a cookie. A client without an Origin is
    not a browser, and carries no one's cookies but its own (RFC 6455, 10.2).
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).netloc.lower() != headers.get(b"host", b"").decode("latin-1").lower():
            return await WebsocketDenier()(scope, receive, send)
        return await self.inner(scope, receive, send)


application = TrustedProxies(
    ProtocolTypeRouter(
        {
            "http": pages,
            "websocket": SameOrigin(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
        }
    ),
    settings.TRUSTED_PROXIES,
)
