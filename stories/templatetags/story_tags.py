"""How pages show a combo and a text; `static/js/stream.js` splits paragraphs by the same rule."""

import re
from dataclasses import dataclass
from typing import Any

from django import template
from django.urls import reverse
from django.utils.http import urlencode

from stories.models import Story
from stories.values.combos import AXES

register = template.Library()

BREAKS = re.compile(r"[\r\n]+")
INDENT = " \t\u3000"
LOUD_END, QUIET_END, PAUSES = "！？!?…”", "。.", "，、；：,;:"
MIN_TITLE, MAX_TITLE = 6, 24


@register.inclusion_tag("stories/_combo.html")
def combo(story: Story, *, linked: bool = False) -> dict[str, object]:
    """Three small labels: dynasty · power · type. Takes a story or a combo. `linked`: each to its stories."""
    return {"parts": [Part(axis, getattr(story, axis)) for axis in AXES], "linked": linked}


@dataclass(frozen=True)
class Part:
    """One ingredient of a combo, with the query that finds its stories in the library."""

    axis: str
    name: str

    @property
    def query(self) -> str:
        return urlencode({self.axis: self.name})


@register.inclusion_tag("stories/_act.html", takes_context=True)
def act(
    # Any: what Django's templates and admin take: values of any type.
    context: dict[str, Any],
    name: str,
    label: str,
    *,
    states: str,
    primary: bool = False,
) -> dict[str, Any]:  # Any: as above
    """One button that changes the story on the page; shown in the named states alone, also as they change."""
    story: Story = context["story"]
    return {
        "csrf_token": context.get("csrf_token"),
        "address": reverse(f"stories:{name}", args=[story.pk]),
        "name": name,
        "label": label,
        "states": states,
        "primary": primary,
        "shown": story.state in states.split(),
    }


@register.filter
def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text: its lines without the blanks around them, empty ones left out."""
    return [line for raw in BREAKS.split(text) if (line := raw.strip(INDENT))]


@register.filter
def opening(text: str) -> str:
    """The first sentence, or as much of it as makes a good title in a list."""
    return _split_opening(text)[0]


@register.filter
def excerpt(text: str) -> str:
    """What follows the opening, for the lines under it; "" if the opening says it all."""
    return _split_opening(text)[1].lstrip(QUIET_END + PAUSES)


def _split_opening(text: str) -> tuple[str, str]:
    """Cut at the end of the first sentence, else at the last pause, else anywhere, within `MAX_TITLE`."""
    first, words = next(iter(paragraphs(text)), ""), "".join(paragraphs(text))
    window = first[:MAX_TITLE]
    for place, char in enumerate(window):
        if char in QUIET_END and place >= MIN_TITLE:
            return window[:place], words[place + 1 :]
        if char in LOUD_END and place >= MIN_TITLE and window[place + 1 : place + 2] not in tuple(LOUD_END):
            return window[: place + 1], words[place + 1 :]
    if len(first) < MAX_TITLE:
        return first, words[len(first) :]
    pause = max(window.rfind(char) for char in PAUSES)
    if pause >= MIN_TITLE:
        return window[:pause], words[pause + 1 :]
    return f"{window[:-1]}…", words[MAX_TITLE - 1 :]
