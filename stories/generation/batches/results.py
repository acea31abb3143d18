"""Writes the answers of an order to its stories: each story ends once, though lines come twice or not at all."""

import logging

from django.db import InterfaceError, OperationalError, transaction

from llm.errors import LLMError
from sentences import Words
from sentences import sentence as _
from stories.generation import completion, outcomes, states
from stories.generation.attempts import reopen, settle
from stories.generation.batches import remote
from stories.generation.batches.lines import Line, read_answer
from stories.generation.batches.orders import LEASE, lost_calls, open_calls
from stories.generation.outcomes import Outcome
from stories.models import Attempt, BatchOrder

logger = logging.getLogger(__name__)


def collect(order: BatchOrder, files: tuple[str, ...]) -> int:
    """Ends the stories whose lines are in the provider's files; how many lines belong to no story of the order.

    May be repeated. Raises `LLMError`.
    """
    ours = {remote.custom_id(attempt) for attempt in order.attempts.only("story_id", "fence")}
    waiting = {
        remote.custom_id(attempt): attempt for calls in (open_calls, lost_calls) for attempt in calls(order)
    }
    unknown_lines = 0
    for file_id in files:
        for line in remote.read_lines(order, file_id):
            unknown_lines += line.custom_id not in ours
            if attempt := waiting.pop(line.custom_id, None):
                _take_line(attempt, line)
    return unknown_lines


def _take_line(attempt: Attempt, line: Line) -> None:
    """Ends one story by its line. Whatever is wrong with the line concerns this story alone."""
    try:
        _settle_line(attempt, line)
    except (OperationalError, InterfaceError):
        raise  # The database is away or full, which has nothing to do with this line.
    except Exception:
        logger.exception("batch %s: the line of story %s cannot be kept", attempt.batch_id, attempt.story_id)
        _conclude(attempt, outcomes.of_unstorable(_("模型服务的回答无法保存，结果不明。"), has_text=False))


@transaction.atomic
def _settle_line(attempt: Attempt, line: Line) -> None:
    if attempt.state == Attempt.State.UNKNOWN and not _reclaim(attempt):
        transaction.set_rollback(True)
        return
    try:
        answer = read_answer(line, opens_inside=attempt.language_model.opens_inside)
    except LLMError as error:
        completion.take_error(attempt.own_story, attempt, error)
    else:
        completion.take_answer(attempt.own_story, attempt, answer)


def _reclaim(attempt: Attempt) -> bool:
    """Reopens a call that was given up as lost, and its story; False if one of them went on without the answer."""
    return reopen(attempt) and states.reclaim(attempt.own_story, lease=LEASE)


def release_unanswered(order: BatchOrder) -> int:
    """Queues the stories again that the provider neither answered nor billed; how many."""
    count = 0
    for attempt in open_calls(order):
        with transaction.atomic():
            settle(attempt, state=Attempt.State.REFUSED, error=order.error)
            count += states.release(attempt.own_story)
    return count


def mark_lost(order: BatchOrder, sentence: Words) -> None:
    """Ends the stories that may have been billed and whose answers cannot be had. A person resolves their calls."""
    for attempt in open_calls(order):
        _conclude(attempt, outcomes.of_loss(sentence))


@transaction.atomic
def _conclude(attempt: Attempt, outcome: Outcome) -> None:
    settle(attempt, state=outcome.attempt_state, error=outcome.error)
    states.conclude(attempt.own_story, outcome, length=0)
