"""Looks at stories whose text has ended, and keeps what it found as flags.

After the text was committed, and apart from it: a check that fails or never comes changes nothing of the story,
and the sweeper finds it (`checked_at` is null). Of two stories that are alike, the later one is flagged.
"""

import logging
from collections.abc import Iterable
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from stories.generation.prompts import render
from stories.models import Flag, PromptStyle, Story
from stories.review.quality.near_duplicates import (
    Neighbour,
    compute_signature,
    delete_signature,
    find_neighbours,
    order_of,
    store_signature,
)
from stories.review.quality.rules import CheckedText, Evidence, find_flaws

logger = logging.getLogger(__name__)
BATCH = 200


def check_left_behind(*, most: int = BATCH) -> int:
    """Checks the oldest stories that nobody has looked at; how many. Fewer than `most`: none are left."""
    return check_all(Story.objects.unchecked().select_related("template", "language_model")[:most])


def check_all(stories: Iterable[Story]) -> int:
    """Checks each of `stories`; how many that were. One that cannot be checked holds up none behind it."""
    return sum(_check_alone(story) for story in stories)


def _check_alone(story: Story) -> bool:
    try:
        return check(story)
    except Exception:
        logger.exception("story %s could not be checked", story.pk)
        if not connection.is_usable():
            raise
        return False


def check(story: Story) -> bool:
    """Looks at the story as it stands and replaces its flags; False if it is not there to check, or changed."""
    if story.state not in (Story.State.WRITTEN, Story.State.INTERRUPTED):
        return False
    checked = _read_text(story)
    found: dict[str, Evidence] = find_flaws(checked)
    neighbours = _meet(story, checked.plain)
    earlier = [near for near in neighbours if order_of(near.story) < order_of(story)]
    if not _keep(story, found, earlier[0] if earlier else None):
        return False
    for near in neighbours:
        if near not in earlier:
            _flag_echo(near.story, of=story, score=near.score)
    return True


def _read_text(story: Story) -> CheckedText:
    model, template = story.language_model, story.template
    asked = ""
    if template and (model is None or model.prompt_style == PromptStyle.TEMPLATE):
        # The ingredients belong into the story; only the template's own words do not.
        asked = f"{render(template.system, story.combo)}\n{render(template.user, story.combo)}"
    return CheckedText(
        text=story.final_text,
        combo=story.combo,
        prompt=asked,
        end_reason="" if story.edited_text else story.end_reason,
    )


def _meet(story: Story, plain: str) -> list[Neighbour]:
    """Stores the fingerprint, then looks for neighbours: of two stories checked at once, one sees the other."""
    if story.state != Story.State.WRITTEN:
        changed = delete_signature(story)
        neighbours = []
    else:
        signature = compute_signature(plain)
        changed = store_signature(story, signature)
        neighbours = find_neighbours(story, plain, signature)
    if changed:  # what was flagged as like the old text is looked at again
        Story.objects.filter(flags__neighbour=story).update(checked_at=None)
    return neighbours


@transaction.atomic
def _keep(story: Story, found: dict[str, Evidence], earlier: Neighbour | None) -> bool:
    """The flags of exactly the text that was looked at; nothing if the story changed meanwhile."""
    flags = [Flag(story_id=story.pk, kind=kind, evidence=evidence) for kind, evidence in found.items()]
    if earlier is not None:
        flags.append(_duplicate(story, earlier.story, earlier.score))
    if not _unchanged(story).update(checked_at=timezone.now(), flag_count=len(flags)):
        return False
    Flag.objects.filter(story_id=story.pk).delete()
    # A neighbour that is checked at this moment may flag this story too.
    Flag.objects.bulk_create(flags, ignore_conflicts=True)
    return True


# Any: what django-stubs cannot name: a query's annotated rows.
def _unchanged(story: Story) -> Any:
    return Story.objects.filter(
        pk=story.pk, state=story.state, fence=story.fence, length=story.length, edited_text=story.edited_text
    )


def _flag_echo(later: Story, *, of: Story, score: float) -> None:
    """Flags a story that came after `of` but was looked at before it; a nearer neighbour stays."""
    with transaction.atomic():
        known = Flag.objects.filter(story_id=later.pk, kind=Flag.Kind.DUPLICATE).first()
        if known is not None and known.evidence.get("score", 0) >= score:
            return
        if known is not None:
            known.delete()
        flag = _duplicate(later, of, score)
        Flag.objects.bulk_create([flag], ignore_conflicts=True)
        Story.objects.filter(pk=later.pk).update(flag_count=Flag.objects.filter(story_id=later.pk).count())


def _duplicate(story: Story, neighbour: Story, score: float) -> Flag:
    evidence = {"neighbour": str(neighbour.pk), "score": score}
    return Flag(story_id=story.pk, kind=Flag.Kind.DUPLICATE, neighbour_id=neighbour.pk, evidence=evidence)
