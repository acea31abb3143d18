"""Fills one story of a run by one whole answer that is not streamed: what the bulk worker does.

The story is claimed only after the rate limiter let it through. While it waits for the limit of its endpoint it is
still queued, and its thread holds neither a claim nor a database connection.
"""

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from django.db import transaction

from llm import calls
from llm.answers import Answer
from llm.clients import READ_TIMEOUT
from llm.errors import LLMError, TryAgainLater
from llm.rate_limit import Permit, TooSoon, acquire, observe
from llm.retry import MAX_RETRY_SECONDS, retry_rate_limited
from sentences import sentence as _
from stories.errors import OverBudget, UnknownModel
from stories.generation import outcomes, states
from stories.generation.attempts import open_attempt, settle
from stories.generation.connections import release_scarce_connection, write_when_free
from stories.generation.prompts import ask_for
from stories.generation.text_assembly import TextAssembler
from stories.language_models import check_endpoint, learn_opening
from stories.models import Attempt, Story

T = TypeVar("T")
# One call until its deadline, the time that its retries may take, the wait for the last permit, and a margin.
LEASE = timedelta(seconds=READ_TIMEOUT + 2 * MAX_RETRY_SECONDS + 30)
TURN_SECONDS = 15.0  # that a thread waits for the rate limiter; after them its story is snoozed
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
    if not states.claim(story, lease=LEASE) or (attempt := _open(story)) is None:
        return False
    ask = _ask(story)
    release_scarce_connection()
    try:
        answer = retry_rate_limited(_calls(story, ask, permit), wanted=lambda: states.is_wanted(story))
    except LLMError as error:
        _keep(partial(take_error, story, attempt, error))
        return False
    return _keep(partial(take_answer, story, attempt, answer))


def _keep(write: Callable[[], T]) -> T:
    """Writes the outcome of a call, and repeats that for `KEPT_SECONDS` while the database is away."""
    return write_when_free(write, seconds=KEPT_SECONDS)


def _acquire(story: Story, *, seconds: float) -> Permit:
    model = story.model
    return acquire(model.base_url, model.name, tokens=MAX_TOKENS, seconds=seconds)


def _calls(story: Story, ask: calls.Ask, permit: Permit) -> Callable[[], Answer]:
    """A function that makes the call once. Its first call uses `permit`, each further one waits for its own."""
    permits = [permit]

    def call() -> Answer:
        mine = permits.pop() if permits else _acquire_again(story)
        return _call(story, ask, mine)

    return call


def _acquire_again(story: Story) -> Permit:
    try:
        return _acquire(story, seconds=MAX_RETRY_SECONDS)
    except TooSoon as error:
        raise TryAgainLater(
            _("模型服务请求过多，稍后再试。"), retry_after=error.seconds, status=HTTPStatus.TOO_MANY_REQUESTS
        ) from error


def _call(story: Story, ask: calls.Ask, permit: Permit) -> Answer:
    try:
        answer = calls.complete(story.model.endpoint, ask)
    except TryAgainLater as error:
        if outcomes.is_rate_limited(error):
            observe(permit, limited=True, retry_after=error.retry_after, rates=error.rates)
        raise
    observe(permit, rates=answer.rates)
    return answer


def _ask(story: Story) -> calls.Ask:
    temperature = story.run.temperature if story.run else None
    return ask_for(story.model, story.combo, template=story.template, temperature=temperature)


def _open(story: Story) -> Attempt | None:
    """The row of the call to come. None if it must not be made: the story was then released or ended."""
    try:
        check_endpoint(story.model)
        return open_attempt(story, _ask(story))
    except (OverBudget, UnknownModel) as error:
        states.conclude(story, outcomes.of_unmade_call(error, for_reader=False), length=0)
    return None


def take_answer(story: Story, attempt: Attempt, answer: Answer) -> bool:
    """Writes a whole answer and settles its call; True if it has text, and the story was still ours."""
    assembler = TextAssembler()
    assembler.add(answer.text)
    assembler.finish()
    text = assembler.take()
    outcome = outcomes.of_answer(answer.finish_reason, refusal=answer.refusal)
    if answer.thinking and not text:
        outcome = outcomes.of_thought(outcome)
    with transaction.atomic():
        settle(
            attempt,
            state=outcome.attempt_state,
            finish_reason=answer.finish_word,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            odd_usage=answer.odd_usage,
            error=outcome.error,
        )
        learn_opening(story.model, opened_inside=answer.opened_inside)
        return states.conclude(story, outcome, text=text, length=len(text)) and bool(text)


@transaction.atomic
def take_error(story: Story, attempt: Attempt, error: LLMError) -> None:
    """Settles a failed call and writes what it means for the story and its run."""
    outcome = outcomes.of_error(error, for_reader=False)
    settle(attempt, state=outcome.attempt_state, error=outcome.error)
    states.conclude(story, outcome, length=0)
