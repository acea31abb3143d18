"""Fills one story of a run by one whole answer that is not streamed: what the bulk worker does.

The story is claimed only after the rate limiter let it through. While it waits for the limit of its endpoint it is
still queued, and its thread holds neither a claim nor a database connection.
"""

import logging
import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from http import HTTPStatus

from django.db import transaction

from llm import calls
from llm.answers import Answer
from llm.clients import READ_TIMEOUT
from llm.errors import LLMError, TryAgainLater
from llm.lessons import Lesson
from llm.questions import Ask, Learn
from llm.rate_limit import Permit, TooSoon, acquire, observe, observe_error, release
from llm.retry import MAX_RETRY_SECONDS, retry_rate_limited
from sentences import sentence as _
from stories.dialects import keep_lessons
from stories.errors import BadState, OverBudget, UnknownModel
from stories.generation import outcomes, states
from stories.generation.attempts import open_attempt, settle
from stories.generation.connections import (
    AWAY,
    release_scarce_connection,
    write_what_can_be,
    write_when_free,
)
from stories.generation.prompts import ask_for
from stories.generation.text_assembly import TextAssembler
from stories.language_models import check_endpoint, learn_opening
from stories.models import Attempt, Story
from stories.provider_accounts import note_refusal

logger = logging.getLogger(__name__)
# One call until its deadline, the time that its retries may take, the wait for the last permit, and a margin.
LEASE = timedelta(seconds=READ_TIMEOUT + 2 * MAX_RETRY_SECONDS + 30)
TURN_SECONDS = 15.0  # that a thread waits for the rate limiter; after them its story is snoozed
MAX_FAILED_WRITES = 3  # of one answer, while the database is there
NOT_STORED = _("模型服务的回答无法保存，结果不明。")
NOT_COUNTED = _("回答已存下，它的用量没能存下，按预留结算。")
BILL = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "odd_usage")
KEPT_SECONDS = 120.0  # that an answer is kept in memory while the database is away
MAX_TOKENS = (
    2600  # that one call may use; the rate limiter counts them until the provider names its own count
)


def fill(story: Story) -> bool:
    """Waits for the rate limiter, claims the story, makes one call and writes its outcome; True if there is a text.

    Does nothing if the story is not due.
    """
    if not states.is_due(story):
        return False
    release_scarce_connection()
    try:
        permit = _acquire(story, seconds=TURN_SECONDS)
    except TooSoon as error:
        states.snooze(story, seconds=error.seconds + random.uniform(0, 1))
        return False
    if not states.claim(story, lease=LEASE) or (opened := _open(story)) is None:
        release(permit)
        return False
    attempt, ask = opened
    release_scarce_connection()
    lessons: list[Lesson] = []
    call = _calls(story, ask, permit, learn=lessons.append)
    try:
        answer = retry_rate_limited(call, wanted=lambda: states.is_wanted(story))
    except Exception as error:
        if not isinstance(error, LLMError):
            logger.exception("story %s: what came of its call cannot be read", story.pk)
        _wait_and_write(partial(keep_error, story, attempt, error))
        return False
    else:
        return _wait_and_write(partial(keep_answer, story, attempt, answer))
    finally:
        _wait_and_write(partial(keep_lessons, story.model, lessons))


def _wait_and_write(write: Callable[[], bool]) -> bool:
    """Writes the outcome of a call, and repeats that for `KEPT_SECONDS` while the database is away."""
    return write_when_free(write, seconds=KEPT_SECONDS)


def _acquire(story: Story, *, seconds: float) -> Permit:
    model = story.model
    return acquire(model.base_url, model.name, tokens=MAX_TOKENS + model.dialect.allowance, seconds=seconds)


def _calls(story: Story, ask: Ask, permit: Permit, *, learn: Learn) -> Callable[[], Answer]:
    """A function that makes the call once. Its first call uses `permit`, each further one waits for its own."""
    permits = [permit]

    def call() -> Answer:
        mine = permits.pop() if permits else _acquire_again(story)
        return _call(story, ask, mine, learn)

    return call


def _acquire_again(story: Story) -> Permit:
    """A permit for a repeated call. Raises `TryAgainLater` if there is none, or nobody wants the answer any more."""
    try:
        permit = _acquire(story, seconds=MAX_RETRY_SECONDS)
    except TooSoon as error:
        raise _limited(error.seconds) from error
    # The run may have been paused while this call waited for its turn.
    if not states.is_wanted(story):
        release(permit)
        raise _limited(None)
    return permit


def _limited(seconds: float | None) -> TryAgainLater:
    words = _("模型服务请求过多，稍后再试。")
    return TryAgainLater(words, retry_after=seconds, status=HTTPStatus.TOO_MANY_REQUESTS)


def _call(story: Story, ask: Ask, permit: Permit, learn: Learn) -> Answer:
    try:
        answer = calls.complete(story.model.endpoint, ask, learn=learn)
    except Exception as error:
        observe_error(permit, error)
        raise
    observe(permit, rates=answer.rates)
    return answer


def _ask(story: Story) -> Ask:
    temperature = story.run.temperature if story.run else None
    return ask_for(story.model, story.combo, template=story.template, temperature=temperature)


def _open(story: Story) -> tuple[Attempt, Ask] | None:
    """The row of the call to come, and what it asks. None if it must not be made: the story was released or ended."""
    try:
        check_endpoint(story.model)
        ask = _ask(story)
        return open_attempt(story, ask), ask
    except BadState:
        states.release(story)
    except (OverBudget, UnknownModel) as error:
        states.conclude(story, outcomes.of_unmade_call(error, for_reader=False), length=0)
    except AWAY:
        raise
    except Exception as error:
        logger.exception("story %s cannot be asked for", story.pk)
        states.conclude(story, outcomes.of_internal_error(error), length=0)
    return None


# --- what came ----------------------------------------------------------------------------------------------


def keep_answer(story: Story, attempt: Attempt, answer: Answer) -> bool:
    """Writes a whole answer; True if it has text, and the story was still ours.

    What cannot be stored although the database is there costs this story no more than it must: first the bill of its
    call is left out, then the text.
    """
    whole = partial(take_answer, story, attempt, answer)
    uncounted = partial(take_answer, story, attempt, answer, is_counted=False)
    return write_what_can_be(
        [*[whole] * MAX_FAILED_WRITES, uncounted, partial(_give_up, story, attempt)], what=f"story {story.pk}"
    )


def keep_error(story: Story, attempt: Attempt, error: Exception) -> bool:
    """Writes down what a failed call means, or at least that it failed."""
    writes = [partial(take_error, story, attempt, error)] * MAX_FAILED_WRITES
    return write_what_can_be([*writes, partial(_give_up, story, attempt)], what=f"story {story.pk}")


def take_answer(story: Story, attempt: Attempt, answer: Answer, *, is_counted: bool = True) -> bool:
    """Writes a whole answer and settles its call; True if it has text, and the story was still ours.

    A call that is not `is_counted` is settled at its reservation.
    """
    assembler = TextAssembler()
    assembler.add(answer.text)
    assembler.finish()
    text = assembler.take()
    outcome = outcomes.of_answer(answer.finish_reason, refusal=answer.refusal)
    if answer.thinking and not text:
        outcome = outcomes.of_thought(outcome)
    bill = {name: getattr(answer, name) for name in BILL} if is_counted else {}
    error = outcome.error or ("" if is_counted else NOT_COUNTED)
    with transaction.atomic():
        settle(attempt, state=outcome.attempt_state, finish_reason=answer.finish_word, error=error, **bill)
        learn_opening(story.model, opened_inside=answer.opened_inside)
        return states.conclude(story, outcome, text=text, length=len(text)) and bool(text)


@transaction.atomic
def take_error(story: Story, attempt: Attempt, error: Exception) -> bool:
    """Settles a failed call and writes what it means for the story and its run; False: it has no text."""
    outcome = outcomes.of_error(error, for_reader=False)
    settle(attempt, state=outcome.attempt_state, error=outcome.error)
    note_refusal(attempt.language_model, error, asked_at=attempt.started_at)
    states.conclude(story, outcome, length=0)
    return False


@transaction.atomic
def _give_up(story: Story, attempt: Attempt) -> bool:
    """Ends a story whose answer came and cannot be stored."""
    outcome = outcomes.of_unstorable(NOT_STORED, has_text=False)
    settle(attempt, state=outcome.attempt_state, error=outcome.error)
    states.conclude(story, outcome, length=0)
    return False
