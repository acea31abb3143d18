"""Opens the orders of a run and claims their stories, with the money of each call reserved like that of any call."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from llm.questions import Ask
from sentences import sentence_of
from stories.errors import AccountEmpty, BadState, OverBudget, UnknownModel
from stories.generation import states
from stories.generation.attempts import open_attempt
from stories.generation.prompts import ask_for
from stories.models import Attempt, BatchOrder, Run, Story

MAX_STORIES = 5_000
UNCREATED = (BatchOrder.State.UPLOADING, BatchOrder.State.UPLOADED, BatchOrder.State.CREATING)
LEASE = timedelta(hours=30)
"""Longer than the day that a provider may take. An order that ends releases its stories at once."""


def due_orders() -> Sequence[BatchOrder]:
    """The orders whose next step is due. A run with queued stories gets an order first, unless it must wait.

    It also waits while an order of it is not created yet.
    """
    now = timezone.now()
    due = Q(next_try_at__isnull=True) | Q(next_try_at__lte=now)
    running = Story.objects.filter(run__is_batch=True, run__state=Run.State.RUNNING)
    waiting = running.filter(due, state=Story.State.QUEUED)
    free = Q(next_order_at__isnull=True) | Q(next_order_at__lte=now)
    on_their_way = BatchOrder.objects.filter(state__in=UNCREATED).values("run")
    runs = Run.objects.filter(free, pk__in=waiting.order_by().values("run"))
    for run in runs.exclude(pk__in=on_their_way):
        open_order(run)
    return list(BatchOrder.objects.due(now).only("pk"))


def open_order(run: Run) -> BatchOrder | None:
    """The order that gathers stories of this run, a new one if there is none.

    None if an order that someone else had just opened has gone on already.
    """
    try:
        with transaction.atomic():
            return BatchOrder.objects.create(run=run)
    except IntegrityError:
        return BatchOrder.objects.filter(run=run, state=BatchOrder.State.GATHERING).first()


def gather(order: BatchOrder) -> int:
    """Claims the run's queued stories for this order, as many as the money allows; how many it holds now."""
    held = order.attempts.count()
    queued = order.run.stories.filter(state=Story.State.QUEUED).order_by("slot")
    stories = queued.select_related("run", "language_model", "template")[: MAX_STORIES - held]
    for story in stories:
        try:
            held += _claim_and_reserve(story, order)
        except BadState:
            break
        except (OverBudget, UnknownModel) as error:
            # What this order holds is paid for and goes on; the next one holds nothing, and then the run pauses.
            if not held or isinstance(error, AccountEmpty):
                states.pause_automatically(order.run_id, why=sentence_of(error))
            break
    return held


def _claim_and_reserve(story: Story, order: BatchOrder) -> bool:
    """Claims and reserves in one transaction, so that no story is held without an attempt."""
    with transaction.atomic():
        if not states.claim(story, lease=LEASE):
            return False
        open_attempt(story, ask_of(story), batch=order)
    return True


def ask_of(story: Story) -> Ask:
    """What the file asks for this story. It is the same each time, because a used template never changes."""
    assert story.run is not None, "a batch order holds stories of its run alone"
    return ask_for(story.model, story.combo, template=story.template, temperature=story.run.temperature)


def open_calls(order: BatchOrder) -> Iterator[Attempt]:
    """The attempts of an order that are not settled yet, with all that an answer needs."""
    return _with_stories(order.attempts.filter(state__in=Attempt.OPEN))


def lost_calls(order: BatchOrder) -> Iterator[Attempt]:
    """The attempts of unknown outcome whose stories were not claimed again since."""
    return _with_stories(order.attempts.filter(state=Attempt.State.UNKNOWN, story__fence=F("fence")))


def _with_stories(attempts: QuerySet[Attempt]) -> Iterator[Attempt]:
    related = ("story__run", "story__language_model", "story__template", "language_model")
    return attempts.select_related(*related).order_by("pk").iterator(chunk_size=500)
