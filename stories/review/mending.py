"""Takes the thinking of a model out of stories that were written before the site knew it from text.

What is certain is edited away, or rejected where nothing else is left, each by a named editor and with a `Review`. What
is not certain waits for a person.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from operator import or_

from django.contrib.auth.models import User
from django.db.models import Count, Q
from django.utils.translation import gettext as _

from llm.thinking import MARKS, TAG, find_thinking, holds_tag, without_thinking
from stories.models import Attempt, Review, Story
from stories.models.stories import StoryQuerySet
from stories.review import decisions

CHUNK = 200


class Mend(Enum):
    """What is to be done with a story."""

    EDIT = "edit"
    REJECT = "reject"
    LEAVE = "leave"


@dataclass(frozen=True)
class Finding:
    """A story with thinking in its final text. `text`: what is left of that; `why`: what stands in the way."""

    story: Story
    mend: Mend
    text: str = ""
    why: str = ""

    @property
    def removed(self) -> int:
        """Characters of thinking, tags included."""
        return len(self.story.final_text) - len(self.text)


def find(stories: StoryQuerySet) -> Iterator[Finding]:
    """A finding for each of `stories` whose text holds thinking, oldest first."""
    maybe = reduce(or_, (Q(final__icontains=mark) for mark in MARKS))
    found = stories.checkable().with_final_text().filter(maybe)
    keys = list(found.order_by("created_at", "pk").values_list("pk", flat=True))
    billed = Count("attempts", filter=~Q(attempts__state=Attempt.State.REFUSED))
    for start in range(0, len(keys), CHUNK):
        chunk = Story.objects.filter(pk__in=keys[start : start + CHUNK]).order_by("created_at", "pk")
        continued = set(chunk.annotate(billed=billed).filter(billed__gt=1).values_list("pk", flat=True))
        for story in chunk:
            if holds_tag(story.final_text):
                yield _judge(story, is_continued=story.pk in continued)


def carry_out(finding: Finding, *, by: User) -> Review:
    """Edits or rejects the story as found. Raises `StoryError` if that cannot be done, or it changed meanwhile."""
    reason = _("去掉模型的思考")
    if finding.mend == Mend.EDIT:
        return decisions.edit(finding.story, by=by, text=finding.text, reason=reason)
    return decisions.reject(finding.story, by=by, reason=_("只有模型的思考，没有故事"))


def _judge(story: Story, *, is_continued: bool) -> Finding:
    text = without_thinking(story.final_text)
    if story.state == Story.State.INTERRUPTED:
        return Finding(story, Mend.LEAVE, text, _("没有写完：继续生成、重试或编辑时会去掉。"))
    if not text.strip():
        if story.verdict == Story.Verdict.REJECTED:
            return Finding(story, Mend.LEAVE, text, _("只有思考，已经拒绝。"))
        return Finding(story, Mend.REJECT)
    if holds_tag(text):
        return Finding(story, Mend.LEAVE, text, _("有单个的标签：请编辑看看哪些是故事。"))
    if is_continued and not _begins_with_tag(story.final_text):
        return Finding(story, Mend.LEAVE, text, _("分几次写成，思考从哪里开始不清楚：请编辑看看。"))
    return Finding(story, Mend.EDIT, text)


def _begins_with_tag(text: str) -> bool:
    """Whether the first block of thinking begins with its tag, not with the text."""
    start, _end = find_thinking(text)[0]
    tag = TAG.search(text)
    return start > 0 or (tag is not None and bool(tag["open"]) and tag.start() == 0)
