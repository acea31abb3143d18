"""`review_stories --verdict approved|rejected --by USER [--run N]`: decides on those that wait."""

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories.errors import StoryError
from stories.management.output import SiteCommand, add_by, find_editor
from stories.models import Run, Story
from stories.review.decisions import approve_all, reject_all

DECIDE = {Story.Verdict.APPROVED.value: approve_all, Story.Verdict.REJECTED.value: reject_all}


class Command(SiteCommand):
    help = "采纳或拒绝写成而待审的故事，全部的或一个批次的。"
    json_keys = ("reviewed",)

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--verdict", choices=list(DECIDE), required=True)
        add_by(parser)
        parser.add_argument("--run", type=int, metavar="N", help=_("只审这个批次"))
        parser.add_argument("--reason", default="", help=_("理由"))

    def run(
        self, *, verdict: str, by: str, run: int | None, reason: str, **options: object
    ) -> dict[str, object]:
        editor = find_editor(by)
        stories = Story.objects.reviewable()
        if run is not None:
            if not Run.objects.filter(pk=run).exists():
                raise StoryError(_("没有批次 #%(run)s。") % {"run": run})
            stories = stories.filter(run=run)
        reviewed = DECIDE[verdict](stories, by=editor, reason=reason)
        self.say(_("审核了 %(count)s 篇故事。") % {"count": reviewed})
        return {"reviewed": reviewed}
