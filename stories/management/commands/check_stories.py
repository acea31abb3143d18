"""`check_stories [--run N] [--all]`: looks at stories' texts and keeps what it finds as flags."""

from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from stories.errors import StoryError
from stories.management.output import SiteCommand
from stories.models import Flag, Run, Story
from stories.review.quality import check


class Command(SiteCommand):
    help = "检查故事的正文并记下标记：还没检查过的，或（--all）全部重新检查。"
    json_keys = ("checked", "flags")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--run", type=int, metavar="N", help=_("只检查这个批次"))
        parser.add_argument("--all", action="store_true", help=_("检查过的也重新检查"))

    def run(self, *, run: int | None, all: bool, **options: object) -> dict[str, object]:
        stories = Story.objects.checkable()
        if run is not None:
            if not Run.objects.filter(pk=run).exists():
                raise StoryError(_("没有批次 #%(run)s。") % {"run": run})
            stories = stories.filter(run=run)
        wanted = stories if all else stories.filter(checked_at__isnull=True)
        checked = sum(check.check_all(batch) for batch in _batches(wanted))
        flags = _count(stories)
        words = {"count": checked, "flags": sum(flags.values())}
        self.say(_("检查了 %(count)s 篇故事；标记共 %(flags)s 个。") % words)
        return {"checked": checked, "flags": flags}


# Any: what django-stubs cannot name: a query's annotated rows.
def _batches(stories: QuerySet[Story]) -> Any:
    """Oldest first, so that of two alike the later one is flagged; each batch read when its turn comes."""
    keys = list(stories.order_by("ended_at", "pk").values_list("pk", flat=True))
    for start in range(0, len(keys), check.BATCH):
        batch = Story.objects.filter(pk__in=keys[start : start + check.BATCH])
        yield batch.select_related("template", "language_model").order_by("ended_at", "pk")


def _count(stories: QuerySet[Story]) -> dict[str, int]:
    """How many of the stories have each kind of flag; every kind is named."""
    flags = Flag.objects.filter(story__in=stories.order_by().values("pk"))
    counted = dict(flags.order_by().values_list("kind").annotate(Count("pk")))
    return {kind.value: counted.get(kind.value, 0) for kind in Flag.Kind}
