"""`promote MODEL`: makes it the serving model, if it answers a question; promoting an older one rolls back."""

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories import language_models
from stories.management.output import SiteCommand, terminal_name
from stories.promotion import promote, warn_of_shutdown


class Command(SiteCommand):
    help = "让一个模型为读者写故事；启用更早的模型就是回滚。"
    json_keys = ("model", "previous", "answer")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("model", metavar="MODEL")

    def run(self, *, model: str, **options: object) -> dict[str, object]:
        promoted = language_models.find_model(model)
        done = promote(promoted, by=terminal_name())
        previous = done.previous.name if done.previous else None
        words = {"model": promoted.name, "previous": previous or "—", "answer": done.answer}
        if done.answer:
            self.say(_("在用模型现在是 %(model)s，之前是 %(previous)s。") % words)
            self.say(_("它试着答了：「%(answer)s」") % words)
        else:
            self.say(_("「%(name)s」已经在用了。") % {"name": promoted.name})
        if warning := warn_of_shutdown(promoted):
            self.say(warning)
        return {"model": promoted.name, "previous": previous, "answer": done.answer or None}
