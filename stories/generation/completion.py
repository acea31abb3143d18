"""Fills one story of a run by one whole answer, not streamed: what the bulk worker does.

The permit comes first: while a story waits for the limit of its endpoint it is still queued, and its thread
holds neither a claim nor a database connection.
"""

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from django.db import transaction
from django.utils.translation import gettext as _

from llm import calls
from llm.answers import Answer
from llm.clients import READ_TIMEOUT
from llm.errors import LLMError, OutcomeUnknown, OutOfMoney, TryAgainLater
from llm.rate_limit import Permit, TooSoon, acquire, observe
from llm.retry import MAX_RETRY_SECONDS, retry_rate_limited
from stories.errors import OverBudget, UnknownModel
from stories.generation import states
from stories.generation.attempts import open_attempt, settle
from stories.generation.connections import release_scarce_connection, write_when_free
from stories.generation.prompts import ask_for
from stories.generation.text_assembly import Gatherer
from stories.language_models import check_endpoint
from stories.models import Attempt, EndReason, Story

T = TypeVar("T")
# The provider's deadline, and twice the time of the retries: for the waits they ask for and for their permits.
LEASE = timedelta(seconds=READ_TIMEOUT + 2 * MAX_RETRY_SECONDS + 30)
TURN_SECONDS = 15.0  # that a thread waits for its story's turn
KEPT_SECONDS = 120.0  # that an answer is kept in memory while the database is away
LONGEST_WAIT = 600.0  # until a story is asked for again, whatever the provider says
MOST_TOKENS = 2600  # of one call, until the provider says what it counts


def fill(story: Story) -> bool:
    """Waits for its permit, claims the story, makes one call and writes how it ended; True if there is a text.

    Does nothing if the story isn't due.
    """
    if not states.is_due(story):
        return False
    release_scarce_connection()
    try:
        permit = _acquire(story, seconds=TURN_SECONDS)
    except TooSoon as error:
        states.postpone(story, seconds=error.seconds + random.uniform(0, 1))
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
    """Writes what a call led to, for as long as our lease may last."""
    return write_when_free(write, seconds=KEPT_SECONDS)


def _acquire(story: Story, *, seconds: float) -> Permit:
    assert story.language_model is not None
    model = story.language_model
    return acquire(model.base_url, model.name, tokens=MOST_TOKENS, seconds=seconds)


def _calls(story: Story, ask: calls.Ask, permit: Permit) -> Callable[[], Answer]:
    """One call with a permit of its own each time it is asked; the first permit is there already."""
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
    assert story.language_model is not None
    try:
        answer = calls.complete(story.language_model.endpoint, ask)
    except TryAgainLater as error:
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            observe(permit, limited=True, retry_after=error.retry_after, rates=error.rates)
        raise
    observe(permit, rates=answer.rates)
    return answer


def _ask(story: Story) -> calls.Ask:
    assert story.language_model is not None
    temperature = story.run.temperature if story.run else None
    return ask_for(story.language_model, story.combo, template=story.template, temperature=temperature)


def _open(story: Story) -> Attempt | None:
    """The row of the call to come, or None: then the story was released or ended, and its run knows why."""
    try:
        assert story.language_model is not None
        check_endpoint(story.language_model)
        return open_attempt(story, _ask(story))
    except OverBudget as error:
        states.release(story)
        _pause(story, str(error))
    except UnknownModel as error:
        states.end(story, reason=EndReason.REFUSED, length=0, error=str(error))
        _pause(story, str(error))
    return None


def take_answer(story: Story, attempt: Attempt, answer: Answer) -> bool:
    """Writes a whole answer and settles its call; True if it has text, and the story was still ours."""
    gatherer = Gatherer()
    gatherer.add(answer.text)
    gatherer.finish()
    reason = states.reason_for(answer.finish_reason)
    with transaction.atomic():
        settle(
            attempt,
            state=Attempt.State.COMPLETE if reason == EndReason.STOP else Attempt.State.INTERRUPTED,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            odd_usage=answer.odd_usage,
        )
        text = gatherer.take()
        return states.end(story, reason=reason, text=text, length=len(text)) and bool(text)


@transaction.atomic
def take_error(story: Story, attempt: Attempt, error: LLMError) -> None:
    """What a failed call means: the queue again, a pause of the run, or the story's end."""
    unknown = isinstance(error, OutcomeUnknown)
    settle(attempt, state=Attempt.State.UNKNOWN if unknown else Attempt.State.REFUSED, error=str(error))
    if isinstance(error, TryAgainLater):
        wait = 5.0 if error.retry_after is None else min(error.retry_after, LONGEST_WAIT)
        states.requeue(
            story, error=str(error), seconds=wait, use_up_try=error.status != HTTPStatus.TOO_MANY_REQUESTS
        )
    elif isinstance(error, OutOfMoney):
        states.release(story)
        _pause(story, str(error))
    else:
        reason = EndReason.UNKNOWN if unknown else EndReason.REFUSED
        states.end(story, reason=reason, length=0, error=str(error))


def _pause(story: Story, why: str) -> None:
    if story.run_id:
        states.pause(story.run_id, reason=_("已自动暂停：%(why)s") % {"why": why})
