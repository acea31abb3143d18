"""`export_stories FILE.csv [--verdict approved]`: the written stories, and the AI label beside them."""

from pathlib import Path

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories.library.csv_files import export_stories
from stories.library.labels import label_path
from stories.management.output import SiteCommand
from stories.models import Story


class Command(SiteCommand):
    help = "把写成的故事导出成 CSV 文件，旁边放上 AI 生成标识（FILE.csv.aigc.json）。"
    json_keys = ("rows",)

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE.csv", type=Path)
        parser.add_argument("--verdict", choices=Story.Verdict.values, help=_("只导出这个审核结论的"))

    def run(self, *, file: Path, verdict: str | None, **options: object) -> dict[str, object]:
        stories = Story.objects.filter(state=Story.State.WRITTEN)
        if verdict:
            stories = stories.filter(verdict=verdict)
        rows = export_stories(stories, file)
        words = {"rows": rows, "file": file, "label": label_path(file)}
        self.say(_("导出了 %(rows)s 篇故事：%(file)s；AI 生成标识：%(label)s。") % words)
        return {"rows": rows}
