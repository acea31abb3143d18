"""`seed_demo`: demo content, made by going round the loop once on a running copy.

`make run` calls it on a first start, with every process alive. Each step first looks for what an earlier,
interrupted call has made already, and goes on from there; the mark that ends it all is written last.
"""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone
from django.utils.translation import gettext as _

from finetuning import tasks as training_tasks
from finetuning import training
from finetuning.datasets import build_dataset
from finetuning.management.output import TrainingCommand
from finetuning.models import Dataset, Job
from stories import language_models
from stories.generation.streaming import request_stop
from stories.management.output import Failed
from stories.models import LanguageModel, PromptStyle, Run, Story
from stories.operations.task_queue import enqueue
from stories.promotion import promote
from stories.readers import orders
from stories.readers.identity import Reader, stories_of
from stories.review import decisions
from stories.runs import lifecycle
from stories.tasks import enqueue_run, enqueue_story
from stories.values.combos import make_combo

DYNASTIES = ["唐", "宋", "明", "汉", "南北朝"]
POWERS = ["隐形", "飞行", "喷火"]
TYPES = ["轻松", "努力", "艰难"]
DATASET = "入门"
LEFT_UNREVIEWED = 6
MIN_LENGTH = 120
EPOCHS = 4
MAX_SECONDS = 55.0
RETIRED = "ft:base-zh:local:ultraman:retired"
WRITTEN = (("宋", "发射激光", "艰难"), ("五代", "流星火雨", "艰难"))
STOPPED, CANCELLED, FAILED = ("汉", "冰冻大海", "艰难"), ("隋", "龙卷风", "勇敢"), ("秦", "读心术", "辛苦")
STOP_AFTER = 60  # characters


class Command(TrainingCommand):
    help = "在运行着的站点上走一遍整个流程，留下演示内容。"
    json_keys = ("made",)

    def run(self, **_options: object) -> dict[str, object]:
        mark = Path(settings.DATA_DIR) / "demo.done"
        if mark.exists() and Story.objects.exists():
            return {"made": False}
        if self._is_used():
            self.say(_("站点已有自己的故事，不再写演示内容。"))
        else:
            self._go_round()
        mark.touch()
        return {"made": True}

    def _is_used(self) -> bool:
        """Whether someone made stories here before the demo could."""
        return find_run() is None and Story.objects.exists()

    def _go_round(self) -> None:
        editor, trainer, reader = (
            User.objects.get(username=name) for name in ("editor", "trainer", "reader")
        )
        run = self._write_run(editor)
        review(run, editor)
        model = self._train(run, trainer)
        self._read(Reader(reader, key="", address="127.0.0.1"), model)

    def _write_run(self, editor: User) -> Run:
        run = find_run()
        if run is None:
            run = lifecycle.plan_run(dynasties=DYNASTIES, powers=POWERS, types=TYPES, repeat=1, by=editor)
        if run.state == Run.State.DRAFT:
            lifecycle.start_run(run)
            enqueue_run(run)
        self.say(_("批次 %(run)s：%(count)s 篇") % {"run": run, "count": run.stories.count()})
        wait_for(run)
        if lifecycle.retry_run(run):  # what an earlier, killed start left half-written
            enqueue_run(run)
            wait_for(run)
        return run

    def _train(self, run: Run, trainer: User) -> LanguageModel:
        dataset = Dataset.objects.filter(name=DATASET).first() or build_dataset(
            DATASET, runs=[run], by=trainer
        )
        job = dataset.jobs.exclude(
            state__in=[Job.State.FAILED, Job.State.CANCELLED, Job.State.REFUSED]
        ).first()
        if job is None:
            job = training.order_job(
                dataset,
                model=lifecycle.default_model(),
                asked=training.Hyperparameters(epochs=EPOCHS),
                by=trainer,
            )
            enqueue(training_tasks.advance_job, job.pk)
        words = {"dataset": dataset, "rows": dataset.training_rows, "job": job}
        self.say(_("数据集 %(dataset)s：%(rows)s 行 · 微调任务 %(job)s") % words)
        wait_until(lambda: has_ended(job), what=_("微调任务没有结束。"))
        if job.tuned_model is None:
            raise Failed(_("微调任务没有成功：%(error)s") % {"error": job.error})
        if job.tuned_model.promoted_at is None:
            promote(job.tuned_model, by=trainer)
        self.say(_("在用模型 %(model)s") % {"model": job.tuned_model})
        return job.tuned_model

    def _read(self, reader: Reader, model: LanguageModel) -> None:
        """Readers' stories by the tuned model, one for each way a story ends."""
        for parts in WRITTEN:
            self._ask(reader, parts, model=model)
        self._ask(reader, FAILED, model=retired_model())
        cancelled = self._ask(reader, CANCELLED, model=model, hand_out=False)
        request_stop(cancelled)
        stopped = self._ask(reader, STOPPED, model=model)
        wait_until(lambda: has_begun(stopped), what=_("读者的故事没有开始。"))
        request_stop(stopped)
        mine = stories_of(reader)
        wait_until(lambda: not mine.unfinished().exists(), what=_("读者的故事没有写完。"))
        self.say(_("读者的故事 %(count)s 篇") % {"count": mine.count()})

    def _ask(
        self, reader: Reader, parts: Sequence[str], *, model: LanguageModel, hand_out: bool = True
    ) -> Story:
        """The reader's story of this combo, asked for if an earlier call did not."""
        dynasty, super_power, story_type = parts
        combo = make_combo(dynasty, super_power, story_type)
        asked = (
            stories_of(reader).filter(dynasty=dynasty, super_power=super_power, story_type=story_type).first()
        )
        story = asked or orders.ask_story(combo, reader=reader, model=model)
        if hand_out and story.state == Story.State.QUEUED:
            enqueue_story(story)
        return story


def find_run() -> Run | None:
    """The demo's own run, if it was planned already."""
    for run in Run.objects.filter(repeat=1, created_by__username="editor").order_by("pk"):
        if (run.dynasties, run.super_powers, run.story_types) == (DYNASTIES, POWERS, TYPES):
            return run
    return None


def wait_for(run: Run) -> None:
    done = Run.objects.filter(pk=run.pk, state=Run.State.DONE)
    wait_until(done.exists, what=_("批次没有写完。"))


def review(run: Run, editor: User) -> None:
    """Rejects what is wrong with its reason, edits one, approves the rest, and leaves the longest for later."""
    waiting = Story.objects.reviewable().filter(run=run).order_by("length")
    for story in islice(waiting, max(0, waiting.count() - LEFT_UNREVIEWED)):
        fault = find_fault(story)
        if not fault and not run.stories.filter(verdict=Story.Verdict.REJECTED).exists():
            fault = "全批最短的一篇，情节没有展开"
        if fault:
            decisions.reject(story, by=editor, reason=fault)
            continue
        if not run.stories.exclude(edited_text="").exists():
            decisions.edit(story, by=editor, text=with_ending(story.text), reason="补一句收尾")
        decisions.approve(story, by=editor)


def find_fault(story: Story) -> str:
    """The first thing an editor would object to, "" if there is none."""
    missing = [part for part in (story.dynasty, story.super_power) if part not in story.text]
    if missing:
        return f"没有写到{'、'.join(missing)}"
    if story.length < MIN_LENGTH:
        return "太短"
    paragraphs = [line for line in story.text.splitlines() if line.strip()]
    return "有重复的段落" if len(set(paragraphs)) < len(paragraphs) else ""


def with_ending(text: str) -> str:
    return f"{text.rstrip()}\n\n夜色里，城市的灯一盏一盏亮了起来。"


def retired_model() -> LanguageModel:
    """A tuned model of earlier days that its endpoint no longer has: asking it fails, and says why."""
    model = language_models.add_model(
        RETIRED, endpoint="default", base=settings.OPENAI_MODEL, prompt_style=PromptStyle.CHAT
    )
    if model.shutdown_date is None:
        LanguageModel.objects.filter(pk=model.pk).update(shutdown_date=timezone.localdate())
    return model


def has_ended(job: Job) -> bool:
    job.refresh_from_db()
    return job.has_ended


def has_begun(story: Story) -> bool:
    """Whether enough of it is there to be stopped, or it is too late for that."""
    story.refresh_from_db()
    return story.has_ended or story.length >= STOP_AFTER


def wait_until(done: Callable[[], bool], *, what: str) -> None:
    deadline = time.monotonic() + MAX_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise Failed(what)
        time.sleep(0.3)
