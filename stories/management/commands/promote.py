"""`promote MODEL`: makes it the serving model; promoting an older one rolls back."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories import serving
from stories.management.output import SiteCommand


class Command(SiteCommand):
    help = "让一个模型为读者写故事；启用更早的模型就是回滚。"
    json_keys = ("model", "previous")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("model", metavar="MODEL")

    def run(self, *, model: str, **options: Any) -> dict[str, Any]:
        promoted = serving.find_model(model)
        previous = serving.promote(promoted)
        words = {"model": promoted.name, "previous": previous.name if previous else "—"}
        self.say(_("在用模型现在是 %(model)s，之前是 %(previous)s。") % words)
        return {"model": promoted.name, "previous": previous.name if previous else None}
