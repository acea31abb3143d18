"""What came back: each answer ends its story once, whatever is delivered twice or not at all."""

import logging

from django.db import InterfaceError, OperationalError, transaction
from django.utils.translation import gettext as _

from llm.errors import LLMError
from stories.generation import completion, outcomes, states
from stories.generation.attempts import reopen, settle
from stories.generation.batches import remote
from stories.generation.batches.lines import Line, read_answer
from stories.generation.batches.orders import LEASE, lost_calls, open_calls
from stories.generation.outcomes import Outcome
from stories.models import Attempt, BatchOrder

logger = logging.getLogger(__name__)


def collect(order: BatchOrder, files: tuple[str, ...]) -> int:
    """Ends the stories whose lines are in the provider's files; how many lines belong to none of them.

    Raises llm.py's errors; may be repeated.
    """
    ours = {remote.custom_id(attempt) for attempt in order.attempts.only("story_id", "fence")}
    waiting = {
        remote.custom_id(attempt): attempt for calls in (open_calls, lost_calls) for attempt in calls(order)
    }
    strange = 0
    for file_id in files:
        for line in remote.read_lines(order, file_id):
            strange += line.custom_id not in ours
            if attempt := waiting.pop(line.custom_id, None):
                _take_line(attempt, line)
    return strange


def _take_line(attempt: Attempt, line: Line) -> None:
    """Ends one story by its line; whatever is wrong with it is wrong with this story alone."""
    try:
        _settle_line(attempt, line)
    except (OperationalError, InterfaceError):
        raise  # the database is away or full: that is nothing about this line
    except Exception:
        logger.exception("batch %s: the line of story %s cannot be kept", attempt.batch_id, attempt.story_id)
        _conclude(attempt, outcomes.of_unstorable(_("模型服务的回答无法保存，结果不明。"), has_text=False))


@transaction.atomic
def _settle_line(attempt: Attempt, line: Line) -> None:
    if attempt.state == Attempt.State.UNKNOWN and not _take_back(attempt):
        transaction.set_rollback(True)
        return
    try:
        answer = read_answer(line)
    except LLMError as error:
        completion.take_error(attempt.own_story, attempt, error)
    else:
        completion.take_answer(attempt.own_story, attempt, answer)


def _take_back(attempt: Attempt) -> bool:
    """The answer of a call that was given up as lost: it is paid, and its story can still take it."""
    return reopen(attempt) and states.take_back(attempt.own_story, lease=LEASE)


def give_back(order: BatchOrder) -> int:
    """Stories that the provider never answered, nor billed: back to the queue; how many."""
    count = 0
    for attempt in open_calls(order):
        with transaction.atomic():
            settle(attempt, state=Attempt.State.REFUSED, error=order.error)
            count += states.release(attempt.own_story)
    return count


def lose(order: BatchOrder, sentence: str) -> None:
    """Stories that may have been billed and whose answers are not to be had: a person resolves them."""
    for attempt in open_calls(order):
        _conclude(attempt, outcomes.of_loss(sentence))


@transaction.atomic
def _conclude(attempt: Attempt, outcome: Outcome) -> None:
    settle(attempt, state=outcome.attempt_state, error=outcome.error)
    states.conclude(attempt.own_story, outcome, length=0)
