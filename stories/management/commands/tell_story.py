"""`tell_story 宋 发射激光 艰难`: asks for a story and shows it in the terminal as it is written."""

import asyncio
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories.errors import StoryError
from stories.language_models import orderable_model, serving_model
from stories.live.follow import follow
from stories.management.output import Failed, SiteCommand
from stories.models import Story
from stories.operations.heartbeats import silent_processes
from stories.readers.identity import TERMINAL
from stories.readers.orders import ask_story
from stories.tasks import enqueue_story
from stories.values.combos import make_combo


class Command(SiteCommand):
    help = "按三样配料要一篇故事，在终端里看它写出来。"
    json_keys = ("story", "state", "text", "model")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("dynasty", metavar="朝代")
        parser.add_argument("super_power", metavar="超能力")
        parser.add_argument("story_type", metavar="战斗")
        parser.add_argument("--model", default="", metavar="M", help=_("由哪个模型写，默认在用模型"))

    def run(
        self, *, dynasty: str, super_power: str, story_type: str, model: str, **options: object
    ) -> dict[str, object]:
        combo = make_combo(dynasty, super_power, story_type)
        writer = orderable_model(model or serving_model().name)
        if "worker-readers" in silent_processes():
            raise StoryError(_("为读者写作的工作进程没有在运行：请先 make run。"))
        story = ask_story(combo, reader=TERMINAL, model=writer)
        enqueue_story(story)
        asyncio.run(self._show(story))
        story.refresh_from_db()
        # Any: an object of JSON, as --json prints it.
        result: dict[str, Any] = {
            "story": story.pk,
            "state": story.state,
            "text": story.final_text,
            "model": writer.name,
        }
        if story.state != Story.State.WRITTEN:
            words = {"state": story.get_state_display(), "why": story.error or story.get_end_reason_display()}
            raise Failed(_("这一篇%(state)s：%(why)s") % words, **result)
        return result

    async def _show(self, story: Story) -> None:
        has_text = False
        async for message in follow(story):
            if message["type"] == "state" and "thinking" in message:
                # Not on stdout, which holds the story.
                self.stderr.write(_("模型在思考…"))
            if message["type"] == "text":
                self.say(message["text"], ending="")
                has_text = True
            elif message["type"] in {"restart", "end"}:
                self.say()
            if message["type"] == "restart" and has_text:
                self.stderr.write(_("以上是模型的思考，故事从这里开始："))
