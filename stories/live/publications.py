"""What is published about a story while it is written: the format between a worker and the web processes."""

from typing import NotRequired, TypedDict
from uuid import UUID

from stories.models import Story


class Publication(TypedDict):
    """Says that the row of `story` (its key in hex) changed.

    If a piece of text was committed, the publication carries it, with the text's name, the fence that it was written
    under and the code point that it begins at.
    """

    story: str
    attempt: NotRequired[str]
    fence: NotRequired[int]
    offset: NotRequired[int]
    text: NotRequired[str]


def row_changed(pk: UUID) -> Publication:
    """Tells viewers to read the row."""
    return {"story": pk.hex}


def text_committed(story: Story, *, offset: int, text: str) -> Publication:
    """Carries a committed piece of text."""
    return {
        "story": story.pk.hex,
        "attempt": story.attempt_name,
        "fence": story.fence,
        "offset": offset,
        "text": text,
    }
