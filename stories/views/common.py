"""What the readers' pages share: the reader behind a request, the stories they may touch, a page that failed."""

import sys
from dataclasses import replace
from http import HTTPStatus
from typing import Any, TypeVar, cast

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string

from stories.generation.connections import may_pass
from stories.models import Story
from stories.readers import identity
from stories.readers.identity import Reader

Answer = TypeVar("Answer", bound=HttpResponse)


def reader_of(request: HttpRequest) -> Reader:
    """The reader whom the middleware found behind the request."""
    # Any: the middleware adds an attribute that HttpRequest does not have.
    reader: Reader = cast(Any, request).reader
    return reader


def readable(reader: Reader, pk: str) -> Story:
    """The story, for who may read it; 404, 403."""
    story = get_object_or_404(Story.objects.select_related("language_model"), pk=pk)
    if not identity.may_read(reader, story):
        raise PermissionDenied
    return story


def controllable(reader: Reader, pk: str) -> Story:
    """The story, for its reader and editors; 404, 403."""
    story = get_object_or_404(Story.objects.select_related("again_of"), pk=pk)
    if not identity.may_stop(reader, story):
        raise PermissionDenied
    return story


def own(reader: Reader, pk: str) -> Story:
    """The story, for its reader alone; 404, 403."""
    story = get_object_or_404(Story.objects.select_related("language_model"), pk=pk)
    if not identity.owns(reader, story):
        raise PermissionDenied
    return story


def with_key(reader: Reader) -> Reader:
    """The reader; a visitor without account or key gets a key to be recognised by."""
    if reader.user.is_authenticated or reader.key:
        return reader
    return replace(reader, key=identity.new_key())


def remember(response: Answer, reader: Reader) -> Answer:
    """Gives the browser the reader's key, for another year."""
    if reader.key:
        response.set_cookie(
            identity.COOKIE,
            identity.sign_key(reader.key),
            max_age=identity.COOKIE_AGE,
            httponly=True,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    """Every page's last resort: 503 with what to do where waiting may help, else 500.

    Rendered without the request: its context processors would ask the database again.
    """
    if may_pass(sys.exc_info()[1]):
        return HttpResponse(
            render_to_string("503.html"), status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "10"}
        )
    return HttpResponse(render_to_string("500.html"), status=HTTPStatus.INTERNAL_SERVER_ERROR)
