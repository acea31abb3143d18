"""Celery's way in: load by key, call the domain, return. A message is a hint, the row decides."""

from datetime import timedelta

from celery import shared_task

from stories.generation import batches, completion, streaming, sweeper
from stories.library import imports
from stories.models import BatchOrder, ImportedFile, Run, Story
from stories.operations import heartbeats
from stories.operations.task_queue import enqueue
from stories.readers import quotas, reactions
from stories.review.quality import check


@shared_task
def write_story(pk: str) -> None:
    """Streams one story for its reader."""
    if story := Story.objects.select_related("language_model", "template").filter(pk=pk).first():
        streaming.write(story)
        enqueue_check(story)


@shared_task
def generate_story(pk: str) -> None:
    """Fills one story of a run."""
    story = Story.objects.select_related("language_model", "template", "run").filter(pk=pk).first()
    if story and completion.fill(story):
        enqueue(check_story, pk)


@shared_task
def check_story(pk: str) -> None:
    """Looks at a text that has just come to its end, or was edited."""
    if story := Story.objects.select_related("language_model", "template").filter(pk=pk).first():
        check.check(story)


@shared_task
def check_new_stories() -> None:
    """Every ten seconds, sent by beat, and after an import: looks at those nobody looked at, a batch at a time."""
    if check.check_left_behind() == check.BATCH:
        enqueue(check_new_stories)


@shared_task
def sweep() -> None:
    """Every ten seconds, sent by beat: ends what was lost and hands out what was left behind."""
    steady = heartbeats.beat_steadily("beat")
    sweeper.expire_leases(overdue=timedelta() if steady else sweeper.OVERDUE)
    sweeper.expire_promotions()
    sweeper.cancel_orphans()
    for story in sweeper.left_behind():
        if not enqueue_story(story):
            return


@shared_task
def advance_import(pk: str) -> None:
    """Goes on with an import to its end, and has its stories looked at."""
    if imported := ImportedFile.objects.select_related("by").filter(pk=pk).first():
        imports.advance_import(imported)
        enqueue(check_new_stories)


@shared_task
def sweep_imports() -> None:
    """Every ten seconds, sent by beat: hands out the imports that nobody works on."""
    for imported in imports.due_imports():
        if not enqueue(advance_import, imported.pk):
            return


@shared_task
def advance_batch(pk: str) -> None:
    """One step of a batch order, and a message for the next one if that is due already."""
    order = BatchOrder.objects.select_related("run__language_model", "run__template").filter(pk=pk).first()
    if order and batches.advance_batch(order):
        enqueue(advance_batch, pk)


@shared_task
def sweep_batches() -> None:
    """Every five seconds, sent by beat: opens the orders of batch runs, and hands out what is due."""
    for order in batches.due_orders():
        if not enqueue(advance_batch, order.pk):
            return


@shared_task
def forget_old_days() -> None:
    """Every hour, sent by beat: what was counted for quotas of days gone by names readers and addresses.

    Uploads that no import waits for go with it.
    """
    quotas.forget_old_days()
    reactions.forget_old_addresses()
    imports.remove_strays()


def enqueue_story(story: Story) -> bool:
    """Hands a queued story to the queue it belongs to; False when Redis is away."""
    return enqueue(generate_story if story.run_id else write_story, story.pk)


def enqueue_check(story: Story) -> bool:
    """Has the story looked at, if its text has ended; False when Redis is away, and the sweeper finds it."""
    waits = Story.objects.unchecked().filter(pk=story.pk).exists()
    return not waits or enqueue(check_story, story.pk)


def enqueue_run(run: Run) -> bool:
    """Hands out the first stories of a run that was started, resumed or retried; False when Redis is away.

    The sweeper hands out the rest as these are taken up. A run in batch mode is one order, not many calls.
    """
    if run.is_batch:
        order = batches.open_order(run)
        return order is not None and enqueue(advance_batch, order.pk)
    stories = sweeper.next_of_run(run)
    told = all(enqueue_story(story) for story in stories)
    if told:
        # Marked only after Redis has them: the sweeper publishes stories without the mark.
        sweeper.mark_told(stories)
    return told
