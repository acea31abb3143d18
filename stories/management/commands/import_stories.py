"""`import_stories FILE.csv [--approve --by USER]`: keeps a CSV file's stories, all or none."""

from pathlib import Path

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories.errors import StoryError
from stories.library.imports import import_stories
from stories.management.output import SiteCommand, add_by, find_editor
from stories.operations.task_queue import enqueue
from stories.tasks import check_new_stories


class Command(SiteCommand):
    help = "导入 CSV 文件里的故事：dynasty,super_power,story_type,story，UTF-8；有一处不对就整个不收。"
    json_keys = ("rows",)

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE.csv", type=Path)
        parser.add_argument("--approve", action="store_true", help=_("同时采纳（须写明 --by）"))
        add_by(parser, required=False)

    def run(self, *, file: Path, approve: bool, by: str | None, **options: object) -> dict[str, object]:
        if approve != bool(by):
            raise StoryError(_("--approve 与 --by USER 要一起用：采纳总要有一位编辑。"))
        editor = find_editor(by) if by else None
        with file.open("rb") as opened:
            rows = import_stories(opened, name=file.name, approve_by=editor)
        enqueue(check_new_stories)
        self.say(_("导入了 %(rows)s 篇故事。") % {"rows": rows})
        return {"rows": rows}
