"""`mend_thinking [--run N] [--by USER --yes]`: takes a model's thinking out of the stories that hold some."""

from collections import Counter

from django.contrib.auth.models import User
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories.errors import StoryError
from stories.management.output import SiteCommand, add_by, find_editor
from stories.models import Run, Story
from stories.review.mending import Finding, Mend, carry_out, find


class Command(SiteCommand):
    help = (
        "找出正文里留着模型思考的故事，把思考去掉（作为一次编辑；只有思考的则拒绝）。没有 --yes 时只列出来。"
    )
    json_keys = ("found", "edited", "rejected", "left", "done")

    def add_options(self, parser: CommandParser) -> None:
        add_by(parser, required=False)
        parser.add_argument("--run", type=int, metavar="N", help=_("只看这个批次"))
        parser.add_argument("--yes", action="store_true", help=_("动手去改；要有 --by"))

    def run(self, *, by: str | None, run: int | None, yes: bool, **options: object) -> dict[str, object]:
        if yes and not by:
            raise StoryError(_("动手去改要说明以哪位编辑的名义：--by USER。"))
        editor = find_editor(by) if by else None
        stories = Story.objects.all()
        if run is not None:
            if not Run.objects.filter(pk=run).exists():
                raise StoryError(_("没有批次 #%(run)s。") % {"run": run})
            stories = stories.filter(run=run)
        counts: Counter[Mend] = Counter()
        for finding in find(stories):
            why = finding.why or (_carry_out(finding, editor) if yes and editor else "")
            counts[Mend.LEAVE if why else finding.mend] += 1
            self.say(_line(finding, why))
        return self._conclude(counts, done=yes)

    def _conclude(self, counts: Counter[Mend], *, done: bool) -> dict[str, object]:
        words = {
            "found": counts.total(),
            "edited": counts[Mend.EDIT],
            "rejected": counts[Mend.REJECT],
            "left": counts[Mend.LEAVE],
        }
        if done:
            self.say(_("找到 %(found)s 篇：编辑了 %(edited)s，拒绝了 %(rejected)s，留下 %(left)s。") % words)
        else:
            self.say(
                _("找到 %(found)s 篇：会编辑 %(edited)s，拒绝 %(rejected)s，留下 %(left)s。加 --yes 动手。")
                % words
            )
        return {**words, "done": done}


def _carry_out(finding: Finding, editor: User) -> str:
    """Why it could not be done, "" if it was: one story holds up none behind it."""
    try:
        carry_out(finding, by=editor)
    except StoryError as error:
        return str(error)
    return ""


def _line(finding: Finding, why: str) -> str:
    words = {
        "story": f"{finding.story.pk} {finding.story.combo}",
        "removed": finding.removed,
        "rest": len(finding.text),
        "why": why,
    }
    if why:
        return _("%(story)s：留下。%(why)s") % words
    if finding.mend == Mend.REJECT:
        return _("%(story)s：拒绝，只有思考。") % words
    return _("%(story)s：去掉 %(removed)s 字，剩 %(rest)s 字。") % words
