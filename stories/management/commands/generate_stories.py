"""`generate_stories --dynasties 唐,宋 --powers 隐形 --types 轻松 --repeat 3`: plans and starts a run."""

from argparse import ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories.errors import StoryError
from stories.language_models import orderable_model
from stories.management.output import Failed, Progress, SiteCommand, split_list, terminal_name, wait_with_bar
from stories.models import Run, Story
from stories.operations.heartbeats import silent_processes
from stories.runs import progress
from stories.runs.lifecycle import count_states, plan_run, start_run
from stories.tasks import enqueue_run
from stories.values.money import show, to_micros, to_usd

ENDED = (Run.State.DONE, Run.State.CANCELLED, Run.State.PAUSED)


class Command(SiteCommand):
    help = "为每个配方生成候选故事：规划一个批次并开始。"
    json_keys = ("run", "stories", "estimated_price", "states")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--dynasties", required=True, type=split_list, metavar="唐,宋")
        parser.add_argument("--powers", required=True, type=split_list, metavar="隐形,飞行")
        parser.add_argument("--types", required=True, type=split_list, metavar="轻松,努力")
        parser.add_argument("--repeat", type=int, metavar="N", help=_("每个配方写几篇，默认 1"))
        parser.add_argument("--target", type=int, metavar="N", help=_("每格补足到 N 篇采纳，只写缺的"))
        parser.add_argument("--pairwise", action="store_true", help=_("两两覆盖，不写全部配方"))
        parser.add_argument(
            "--exclude", action="append", default=[], metavar="唐,*,轻松", help=_("排除的配方，可写多次")
        )
        parser.add_argument("--model", default="", metavar="M", help=_("由哪个模型写，默认 OPENAI_MODEL"))
        parser.add_argument("--temperature", type=float, default=0.5, metavar="T")
        parser.add_argument("--budget", type=_usd, metavar="USD", help=_("预算，默认为预计费用的上限"))
        parser.add_argument("--batch", action="store_true", help=_("用对方的批量接口：半价，一天之内写完"))
        parser.add_argument("--wait", action="store_true", help=_("等到写完，显示进度"))

    # Any: an object of JSON, as --json prints it.
    def run(self, *, wait: bool, **options: Any) -> dict[str, Any]:
        if options["target"] is not None and options["repeat"] is not None:
            raise StoryError(_("--repeat 与 --target 只能用一个。"))
        model = orderable_model(options["model"] or settings.OPENAI_MODEL)
        if wait and "worker-bulk" in silent_processes():
            raise StoryError(_("批量写作的工作进程没有在运行，等不到结果：请先 make run。"))
        run = plan_run(
            dynasties=options["dynasties"],
            powers=options["powers"],
            types=options["types"],
            repeat=1 if options["repeat"] is None else options["repeat"],
            target=options["target"],
            cover=Run.Cover.PAIRWISE if options["pairwise"] else Run.Cover.FULL,
            excluded=options["exclude"],
            model=model,
            temperature=options["temperature"],
            budget=options["budget"],
            is_batch=options["batch"],
        )
        start_run(run, by=terminal_name())
        words = {"run": run, "count": run.stories.count(), "price": show(run.estimate)}
        self.say(_("批次 %(run)s：%(count)s 篇，预计最多 %(price)s。") % words)
        enqueue_run(run)
        if wait:
            self._wait(run)
        return _result(run)

    def _wait(self, run: Run) -> None:
        progress = wait_with_bar(lambda: _progress(run))
        run.refresh_from_db()
        if run.state != Run.State.DONE:
            words = {"run": run, "state": run.get_state_display(), "why": run.pause_reason}
            raise Failed(_("批次 %(run)s 停在「%(state)s」：%(why)s") % words, **_result(run))
        self.say(_("批次 %(run)s 完成：%(note)s") % {"run": run, "note": progress.note})
        for error in _errors(run):
            self.say(f"  {error}")


def _usd(value: str) -> int:
    """Micro-USD of a number of dollars."""
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ArgumentTypeError(_("「%(value)s」不是金额") % {"value": value}) from None
    if not amount.is_finite():
        raise ArgumentTypeError(_("「%(value)s」不是金额") % {"value": value})
    return to_micros(amount)


def _progress(run: Run) -> Progress:
    states, unfinished = progress.count_unfinished(run)
    run.refresh_from_db(fields=["state", "spent"])
    pace = progress.measure_throughput(run, unfinished=unfinished)
    note = " ".join(f"{Story.State(state).label} {count}" for state, count in states.items() if count)
    if unfinished and pace.per_minute:
        note += " · " + _("每分钟 %(rate)s 篇") % {"rate": pace.per_minute}
    if unfinished and pace.seconds_left is not None:
        note += " · " + _("还要") + " " + progress.in_words(pace.seconds_left)
    total = sum(states.values())
    # A paused run still has stories in the writing; its wait ends when they did.
    finished = run.state in ENDED and not states[Story.State.WRITING]
    return Progress(
        done=total - unfinished, total=total, note=f"{note} · {show(run.spent)}", finished=finished
    )


def _errors(run: Run) -> list[str]:
    """The sentences of the stories that went wrong, each once."""
    errors = run.stories.exclude(error="").order_by().values_list("error", flat=True).distinct()[:5]
    return [str(error) for error in errors]


# Any: an object of JSON, as --json prints it.
def _result(run: Run) -> dict[str, Any]:
    price = to_usd(run.estimate)
    states = count_states(run)
    return {
        "run": run.pk,
        "stories": sum(states.values()),
        "estimated_price": None if price is None else float(price),
        "states": states,
    }
