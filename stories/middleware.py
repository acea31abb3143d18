"""Gives every request its reader: the account, the signed cookie's key, the address."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from stories import counters
from stories.readers import COOKIE, Reader, read_key


def line_of(request: HttpRequest) -> str | None:
    """The address that wrong passwords are counted under, as quotas count it: an IPv6 line is one."""
    return counters.line_of(request.META.get("REMOTE_ADDR", ""))


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
