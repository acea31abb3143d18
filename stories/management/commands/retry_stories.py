"""`retry_stories --run N`: the failed and interrupted stories of a run again, from nothing."""

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories.errors import StoryError
from stories.management.output import SiteCommand, terminal_name
from stories.models import Run
from stories.runs.lifecycle import retry_run
from stories.tasks import enqueue_run


class Command(SiteCommand):
    help = "把一个批次里失败和中断的故事从头再写。"
    json_keys = ("retried",)

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--run", type=int, required=True, metavar="N")

    def run(self, *, run: int, **options: object) -> dict[str, object]:
        order = Run.objects.filter(pk=run).first()
        if order is None:
            raise StoryError(_("没有批次 #%(run)s。") % {"run": run})
        retried = retry_run(order, by=terminal_name())
        if retried:
            enqueue_run(order)
        self.say(_("批次 %(run)s：%(count)s 篇重新排队。") % {"run": order, "count": retried})
        return {"retried": retried}
