"""One story, to read or to watch being written; as a page and as plain text."""

from dataclasses import dataclass
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import Context, Engine
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from stories.forms import ReportForm
from stories.library import pages
from stories.library.labels import label_line
from stories.live import viewer
from stories.live.snapshots import queue_position, seconds_of_thinking, seconds_to_wait
from stories.models import EndReason, Story
from stories.readers import identity, reactions
from stories.readers.identity import Reader
from stories.views.common import readable, reader_of


@require_safe
@never_cache
def story(request: HttpRequest, pk: str) -> HttpResponse:
    return show_story(request, readable(reader_of(request), pk), ReportForm())


def show_story(
    request: HttpRequest, story: Story, report: ReportForm, *, status: int = HTTPStatus.OK
) -> HttpResponse:
    """The page of a story, with the form of a report as it stands."""
    reader = reader_of(request)
    context = reactions_context(story, reader) | {
        "text": story.final_text,
        "label": label_line(story),
        "report": report,
        "address": request.build_absolute_uri(story.get_absolute_url()),
        "unfinished": not story.has_ended,
        "position": queue_position(story) if story.state == Story.State.QUEUED else 0,
        "wait_minutes": viewer.in_minutes(seconds_to_wait(story)),
        "thinking": seconds_of_thinking(story),
        "waited": int((timezone.now() - story.created_at).total_seconds()),
        "may_control": story.origin == Story.Origin.READER and identity.may_stop(reader, story),
        "versions": _versions(reader, story),
        "end_reasons": EndReason.choices,
    }
    return render(request, "stories/story.html", context, status=status)


def reactions_context(story: Story, reader: Reader) -> dict[str, object]:
    """What the part of the page needs that changes when the reader says something of the story."""
    is_own = identity.owns(reader, story)
    return {
        "story": story,
        "reactions": reactions.own_reactions(story, reader=reader),
        "is_own": is_own,
        "may_offer": is_own and story.origin == Story.Origin.READER and story.state == Story.State.WRITTEN,
    }


@require_safe
@never_cache
def text(request: HttpRequest, pk: str) -> HttpResponse:
    story = readable(reader_of(request), pk)
    address = request.build_absolute_uri(story.get_absolute_url())
    # Plain text: there is no markup to escape for, and `&lt;` would be wrong.
    page = Context({"story": story, "address": address, "label": label_line(story)}, autoescape=False)
    plain = Engine.get_default().get_template("stories/story.txt").render(page)
    return HttpResponse(plain, content_type="text/plain; charset=utf-8")


@dataclass(frozen=True)
class Versions:
    """Where a story stands among the versions of its combo that this reader may read."""

    number: int
    total: int
    previous: Story | None
    next: Story | None


def _versions(reader: Reader, story: Story) -> Versions:
    told = [other for other in pages.versions_of(story) if identity.may_read(reader, other)]
    place = next(index for index, other in enumerate(told) if other.pk == story.pk)
    return Versions(
        number=place + 1,
        total=len(told),
        previous=told[place - 1] if place else None,
        next=told[place + 1] if place + 1 < len(told) else None,
    )
