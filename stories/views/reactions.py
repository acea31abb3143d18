"""What a reader says of a story, and does with their own: every button is a form that works without scripts."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from stories.errors import StoryError
from stories.forms import ReportForm
from stories.models import Reaction, Story
from stories.readers import identity, reactions, sharing
from stories.readers.identity import Reader
from stories.views.common import own, readable, reader_of, remember, with_key
from stories.views.pages import reactions_context, show_story

TASTES = (Reaction.Kind.LIKED, Reaction.Kind.DISLIKED, "")


@require_POST
def rate(request: HttpRequest, pk: str) -> HttpResponse:
    """👍, 👎, or neither."""
    taste = request.POST.get("taste", "")
    if taste not in TASTES:
        raise SuspiciousOperation("no such taste")
    story, reader = readable(reader_of(request), pk), with_key(reader_of(request))
    return _say(request, story, reader, lambda: reactions.rate(story, reader=reader, taste=taste))


@require_POST
def finish(request: HttpRequest, pk: str) -> HttpResponse:
    story, reader = readable(reader_of(request), pk), with_key(reader_of(request))
    return _say(request, story, reader, lambda: reactions.finish(story, reader=reader))


@require_POST
def offer(request: HttpRequest, pk: str) -> HttpResponse:
    """The reader's leave, ticked or not."""
    reader = reader_of(request)
    story = own(reader, pk)
    change = sharing.offer if "offered" in request.POST else sharing.take_back
    return _say(request, story, reader, lambda: change(story, reader=reader))


@require_POST
def report(request: HttpRequest, pk: str) -> HttpResponse:
    story, reader = readable(reader_of(request), pk), with_key(reader_of(request))
    form = ReportForm(request.POST)
    if not form.is_valid():
        return show_story(request, story, form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        reactions.report(story, reader=reader, **form.cleaned_data)
    except StoryError as error:
        messages.error(request, str(error))
        return remember(redirect(story), reader)
    held = _("谢谢，编辑会看你的举报；在那以前这一篇先收起来。")
    messages.success(
        request, held if story.held_at else _("谢谢，编辑会看你的举报；在那以前这一篇还在原处。")
    )
    return remember(redirect(story if identity.may_read(reader, story) else "stories:library"), reader)


@require_POST
def share(request: HttpRequest, pk: str) -> HttpResponse:
    return _change_sharing(request, pk, sharing.share, _("已分享：有这一页地址的人都能看。"))


@require_POST
def unshare(request: HttpRequest, pk: str) -> HttpResponse:
    return _change_sharing(request, pk, sharing.unshare, _("已取消分享：别人不再能打开它。"))


def _say(request: HttpRequest, story: Story, reader: Reader, act: Callable[[], None]) -> HttpResponse:
    """Does it; the changed part of the page for htmx, else back to the page."""
    problem = ""
    try:
        act()
    except StoryError as error:
        problem = str(error)
    # Any: the middleware adds an attribute that HttpRequest does not have.
    if cast(Any, request).htmx:
        story.refresh_from_db()
        context = reactions_context(story, reader) | {"problem": problem}
        return remember(render(request, "stories/_reactions.html", context), reader)
    if problem:
        messages.error(request, problem)
    return remember(redirect(story), reader)


def _change_sharing(request: HttpRequest, pk: str, change: Callable[..., None], done: str) -> HttpResponse:
    """As JSON for the page's script, which says the rest itself; else back to the page with a sentence."""
    reader = reader_of(request)
    story, problem = own(reader, pk), ""
    try:
        change(story, reader=reader)
    except StoryError as error:
        problem = str(error)
    if request.accepts("text/html"):
        (messages.error if problem else messages.success)(request, problem or done)
        return redirect(story)
    status = HTTPStatus.CONFLICT if problem else HTTPStatus.OK
    return JsonResponse({"visibility": story.visibility, "problem": problem}, status=status)
