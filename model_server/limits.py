"""The limits on callers: the bearer key and the requests per minute, as one ASGI middleware in front of /v1."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .clients import UNNAMED_CLIENT
from .errors import ApiError

LIMITED_PATHS = ("/v1/chat/completions", "/v1/completions")


class TokenBucket:
    """A token bucket that holds a minute's requests and refills evenly; `clock` returns seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._at = clock()

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self.limit, self._level + (now - self._at) * self.limit / 60)
        self._at = now

    def take(self) -> float:
        """Takes one token for a request; returns 0, or the seconds until there will be one."""
        self._refill()
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) * 60 / self.limit

    def headers(self) -> dict[str, str]:
        """OpenAI's three headers; the reset says when the bucket will be full."""
        self._refill()
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(int(self._level)),
            "x-ratelimit-reset-requests": format_duration((self.limit - self._level) * 60 / self.limit),
        }


def format_duration(seconds: float) -> str:
    """A duration as OpenAI writes it: `250ms`, `1s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"


class AccessControl:
    """The middleware: 401 without a right key, 429 beyond the limit, rate headers on every /v1 answer."""

    def __init__(self, app: ASGIApp, api_keys: Mapping[str, str], requests_per_minute: int | None) -> None:
        self.app = app
        self._clients = {key.encode(): client for key, client in api_keys.items()}
        self._per_minute = requests_per_minute
        self._buckets: dict[bytes, TokenBucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it here."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1"):
            await self.app(scope, receive, send)
            return
        key = _key(Headers(scope=scope).get("authorization", ""))
        bucket = self._bucket(key)
        refusal = self._refusal(scope, key, bucket)
        if refusal:
            await refusal.response()(scope, receive, _with_headers(send, bucket))
        else:
            scope.setdefault("state", {})["client"] = self._clients.get(key, UNNAMED_CLIENT)
            await self.app(scope, receive, _with_headers(send, bucket))

    def _bucket(self, key: bytes) -> TokenBucket | None:
        """One for each key, if keys are asked for; else one for all."""
        if not self._per_minute:
            return None
        known = key if key in self._clients else b""
        return self._buckets.setdefault(known, TokenBucket(self._per_minute))

    def _refusal(self, scope: Scope, key: bytes, bucket: TokenBucket | None) -> ApiError | None:
        if self._clients and not self._knows(key):
            return ApiError(HTTPStatus.UNAUTHORIZED, "Incorrect API key provided.", code="invalid_api_key")
        if bucket and scope["method"] == "POST" and scope["path"] in LIMITED_PATHS:
            wait = bucket.take()
            if wait:
                return _too_many(bucket.limit, wait)
        return None

    def _knows(self, key: bytes) -> bool:
        matches = [hmac.compare_digest(key, known) for known in self._clients]
        return any(matches)


def _key(authorization: str) -> bytes:
    scheme, _, key = authorization.partition(" ")
    return key.strip().encode() if scheme.lower() == "bearer" else b""


def _with_headers(send: Send, bucket: TokenBucket | None) -> Send:
    if bucket is None:
        return send

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(bucket.headers())
        await send(message)

    return send_with_headers


def _too_many(limit: int, wait: float) -> ApiError:
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"Rate limit reached: {limit} requests per minute. Please try again in {format_duration(wait)}.",
        kind="requests",
        code="rate_limit_exceeded",
        headers={"Retry-After": str(math.ceil(wait)), "retry-after-ms": str(math.ceil(wait * 1000))},
    )
