"""A reader has a story written: asks, stops, goes on, writes again."""

import logging
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from stories.errors import QuotaUsedUp, StoryError, Unsuitable
from stories.forms import AskForm, surprise
from stories.generation.connections import AWAY
from stories.generation.stop import request_stop
from stories.readers import orders, quotas
from stories.tasks import enqueue_story
from stories.values.combos import AXES
from stories.views.common import controllable, reader_of, remember, with_key

logger = logging.getLogger(__name__)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def new(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        wished = {axis: request.GET[axis] for axis in AXES if axis in request.GET}
        return _show_form(request, AskForm(initial=surprise() if "random" in request.GET else wished))
    form = AskForm(request.POST)
    if not form.is_valid():
        return _show_form(request, form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    reader = with_key(reader_of(request))
    try:
        story = orders.order_story(form.combo, reader=reader)
    except StoryError as error:
        form.add_error(None, str(error))
        return _show_form(request, form, status=_status_of(error))
    except AWAY:
        logger.exception("an order could not be written")
        form.add_error(None, _("现在太忙了，这一篇没有排上：配料都还在，请过一会儿再点一次。"))
        return _show_form(request, form, status=HTTPStatus.SERVICE_UNAVAILABLE)
    enqueue_story(story)
    return remember(redirect(story), reader)


@require_POST
def stop(request: HttpRequest, pk: str) -> HttpResponse:
    story = controllable(reader_of(request), pk)
    request_stop(story)
    return redirect(story)


@require_POST
def go_on(request: HttpRequest, pk: str) -> HttpResponse:
    return _queue(request, pk, order=orders.continue_story)


@require_POST
def retry(request: HttpRequest, pk: str) -> HttpResponse:
    return _queue(request, pk, order=orders.retry_story)


@require_POST
def again(request: HttpRequest, pk: str) -> HttpResponse:
    story = controllable(reader_of(request), pk)
    reader = with_key(reader_of(request))
    try:
        story = orders.write_again(story, reader=reader)
    except StoryError as error:
        messages.error(request, str(error))
        return redirect(story)
    enqueue_story(story)
    return remember(redirect(story), reader)


def _show_form(request: HttpRequest, form: AskForm, *, status: int = HTTPStatus.OK) -> HttpResponse:
    quota = quotas.quota_left(reader_of(request))
    return render(request, "stories/new.html", {"form": form, "quota": quota}, status=status)


def _status_of(error: StoryError) -> int:
    if isinstance(error, Unsuitable):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, QuotaUsedUp) else HTTPStatus.SERVICE_UNAVAILABLE


# Any: more than one type comes here, and each is used by what it has.
def _queue(request: HttpRequest, pk: str, *, order: Any) -> HttpResponse:
    story = controllable(reader_of(request), pk)
    try:
        order(story, reader=reader_of(request))
    except StoryError as error:
        messages.error(request, str(error))
    else:
        enqueue_story(story)
    return redirect(story)
