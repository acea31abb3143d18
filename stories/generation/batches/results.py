"""Writes the answers of an order to its stories: each story ends once, though lines come twice or not at all."""

from dataclasses import replace
from functools import partial

from django.db import transaction

from llm.errors import LLMError, Refused, TryAgainLater
from llm.questions import USUAL, lesson_from
from sentences import Words, sentence_of
from stories.dialects import keep_lessons
from stories.generation import completion, outcomes, states
from stories.generation.attempts import reopen, settle
from stories.generation.batches import remote
from stories.generation.batches.lines import Line, read_answer
from stories.generation.batches.orders import LEASE, ask_of, lost_calls, open_calls
from stories.generation.connections import write_what_can_be
from stories.generation.outcomes import Outcome
from stories.models import Attempt, BatchOrder


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
    lost = partial(_conclude, attempt, outcomes.of_unstorable(completion.NOT_STORED, has_text=False))
    write_what_can_be([partial(_settle_line, attempt, line), lost], what=f"story {attempt.story_id}")


@transaction.atomic
def _settle_line(attempt: Attempt, line: Line) -> bool:
    if attempt.state == Attempt.State.UNKNOWN and not _reclaim(attempt):
        transaction.set_rollback(True)
        return False
    try:
        answer = read_answer(line, opens_inside=attempt.language_model.opens_inside)
    except LLMError as error:
        return completion.keep_error(attempt.own_story, attempt, _read_lesson(attempt, error))
    return completion.keep_answer(attempt.own_story, attempt, answer)


def _read_lesson(attempt: Attempt, error: LLMError) -> LLMError:
    """The error of a line; one to be tried again where it says how the model wants to be asked, which is learnt.

    The other lines of a file say the same. They were asked in the old dialect, too, and so are tried again.
    """
    if not isinstance(error, Refused):
        return error
    ask = ask_of(attempt.own_story)
    if lesson := lesson_from(ask, error):
        keep_lessons(attempt.language_model, [lesson])
    elif lesson_from(replace(ask, dialect=USUAL), error) is None:
        return error
    return TryAgainLater(sentence_of(error), status=error.status)


def _reclaim(attempt: Attempt) -> bool:
    """Reopens a call that was given up as lost, and its story; False if one of them went on without the answer."""
    return reopen(attempt) and states.reclaim(attempt.own_story, lease=LEASE)


def release_unanswered(order: BatchOrder) -> int:
    """Queues the stories again that the provider neither answered nor billed; how many."""
    count = 0
    for attempt in open_calls(order):
        release = partial(_release, attempt, error=order.error)
        count += write_what_can_be([release], what=f"story {attempt.story_id}")
    return count


@transaction.atomic
def _release(attempt: Attempt, *, error: Words) -> bool:
    settle(attempt, state=Attempt.State.REFUSED, error=error)
    return states.release(attempt.own_story)


def mark_lost(order: BatchOrder, sentence: Words) -> None:
    """Ends the stories that may have been billed and whose answers cannot be had. A person resolves their calls."""
    for attempt in open_calls(order):
        lost = partial(_conclude, attempt, outcomes.of_loss(sentence))
        write_what_can_be([lost], what=f"story {attempt.story_id}")


@transaction.atomic
def _conclude(attempt: Attempt, outcome: Outcome) -> bool:
    settle(attempt, state=outcome.attempt_state, error=outcome.error)
    return states.conclude(attempt.own_story, outcome, length=0)
