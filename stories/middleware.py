"""What every request goes through: its body is one we can read, and it has a reader (account, key, address)."""

import codecs
from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from stories.readers.identity import COOKIE, Reader, read_key
from stories.values import addresses

TOO_LONG = "stories.too_long"  # in the ASGI scope of a body that was refused: the bound it passed, in bytes


class BodyMiddleware:
    """Answers what nobody needs to read: a body longer than its bound, or in another encoding than UTF-8.

    Stands before whatever asks for `request.POST`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        most = getattr(request, "scope", {}).get(TOO_LONG)
        if most is not None:
            return render(request, "413.html", {"most": most}, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if not is_utf8((request.content_params or {}).get("charset", "utf-8")):
            return render(request, "415.html", status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        if request.encoding:
            request.encoding = "utf-8"  # Django knows it by this name alone
        return self.get_response(request)


def is_utf8(charset: str) -> bool:
    """Whether that is a name of UTF-8; `utf8` and `U8` are."""
    try:
        return codecs.lookup(charset).name == "utf-8"
    except (LookupError, ValueError):
        return False


def line_of(request: HttpRequest) -> str | None:
    """The address that wrong passwords are counted under, as quotas count it: an IPv6 line is one."""
    return addresses.line_of(request.META.get("REMOTE_ADDR", ""))


class ReaderMiddleware:
    """Sets `request.reader`. The cookie itself is set when a reader first asks for a story or says something.

    Once an account has taken over what the cookie's reader wrote, the browser forgets the cookie: whoever
    uses it after a logout is a new reader.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = read_key(request.COOKIES.get(COOKIE))
        request.reader = Reader(request.user, key, request.META.get("REMOTE_ADDR", ""))  # type: ignore[attr-defined]
        response = self.get_response(request)
        if getattr(request, "forget_reader", False):
            response.delete_cookie(COOKIE, samesite="Lax")
        return response
