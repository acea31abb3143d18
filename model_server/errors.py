"""The errors a client can meet, all in OpenAI's shape.

    ApiError                 any answer of 400 or more
    ├── invalid()    400     the request is wrong; says which field
    ├── not_found()  404     no such file, job or model
    └── too_large()  413     body or file over the limit

Routes raise them; the handlers at the end turn them, and every other exception, into
`{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .disk import is_full

log = logging.getLogger("model_server")


class ApiError(Exception):
    """An answer that is not a success: HTTP status, one clear sentence, OpenAI's type, param and code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """The error as the JSON answer that the SDK turns into its exception."""
        body = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return JSONResponse({"error": body}, status_code=self.status, headers=self.headers)


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


def not_found(what: str, name: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """404: `what` is the kind of thing, `name` the id that was asked for."""
    return ApiError(HTTPStatus.NOT_FOUND, f"No such {what}: {name[:200]!r}.", param=param, code=code)


def too_large(what: str, limit: int) -> ApiError:
    """413: `limit` in bytes."""
    message = f"The {what} is larger than the limit of {limit:,} bytes."
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, code="too_large")


async def on_api_error(request: Request, error: Exception) -> Response:
    """Answers an ApiError."""
    assert isinstance(error, ApiError)
    return error.response()


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answers Starlette's own refusals: unknown URL, wrong method, broken multipart."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        message, code = f"Unknown request URL: {request.method} {request.url.path[:200]}.", "unknown_url"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message, code = f"{request.url.path[:200]} does not accept {request.method}.", "method_not_supported"
    else:
        message, code = error.detail, None
    return ApiError(error.status_code, message, code=code, headers=error.headers).response()


async def on_crash(request: Request, error: Exception) -> Response:
    """Answers any other exception; the traceback goes to the log, never to the client."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if is_full(error):
        message = "The server's disk is full: nothing was kept. Try again when there is room."
        status, code = HTTPStatus.INSUFFICIENT_STORAGE, "disk_full"
    else:
        message = "The server had an error while processing your request."
        status, code = HTTPStatus.INTERNAL_SERVER_ERROR, None
    return ApiError(status, message, kind="server_error", code=code).response()
