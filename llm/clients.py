"""Builds the `openai` clients, in one place. There is no class around the SDK: callers use a client as it is.

Errors are translated by `translation.provider_errors`.
"""

from functools import cache
from weakref import finalize

import httpx2
import openai
from django.conf import settings
from openai import AsyncOpenAI

from llm.endpoints import Endpoint
from llm.errors import Refused
from sentences import sentence as _

__all__ = [
    "CONNECT_TIMEOUT",
    "KEEP_ALIVE",
    "READ_TIMEOUT",
    "AsyncOpenAI",
    "async_client",
    "client",
    "endpoint",
]
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 120.0  # seconds of silence, and seconds that a whole answer may take to arrive
BLOCKING_CONNECTIONS = 1000
KEEP_ALIVE = 1.0
"""Seconds that an idle connection is kept. Servers close theirs after two (gunicorn), five (uvicorn, Node) or sixty
(load balancers). A request that is sent just then is lost, and nobody knows whether it was billed.
"""


def endpoint(alias: str) -> Endpoint:
    """The endpoint of that alias. Raises `Refused` if this deployment no longer has it."""
    try:
        return settings.LLM_ENDPOINTS[alias]
    except KeyError:
        words = {"alias": alias, "variable": f"LLM_ENDPOINT_{alias.upper()}"}
        raise Refused(_("接入点「%(alias)s」不在本站的设置里（%(variable)s）。") % words) from None


@cache
def client(alias: str) -> openai.OpenAI:
    """The blocking client of an endpoint, one per process; the SDK's own retries are off."""
    place = endpoint(alias)
    timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    http = openai.DefaultHttpxClient(timeout=timeout, limits=_limits(BLOCKING_CONNECTIONS))
    api = openai.OpenAI(base_url=place.base_url, api_key=place.key, max_retries=0, http_client=http)
    # The SDK closes only transports that it made itself. A copy of `api` works only as long as `api` is referenced.
    finalize(api, http.close)
    return api


def async_client(alias: str, *, limit: int) -> AsyncOpenAI:
    """A client for the running event loop, to be made and closed inside it, with at most `limit` connections."""
    place = endpoint(alias)
    timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    http = openai.DefaultAioHttpClient(timeout=timeout, limits=_limits(limit))
    return AsyncOpenAI(base_url=place.base_url, api_key=place.key, max_retries=0, http_client=http)


def _limits(connections: int) -> httpx2.Limits:
    return httpx2.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE
    )
