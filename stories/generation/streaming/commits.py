"""The group commit: all changed stories of a process in one transaction.

Rows are taken in key order; each update matches id, state, fence and length, so that a story which is no
longer ours is never touched. If the group fails, it is done story by story, so that none spoils the rest: a
database that is locked, full or away is waited for, however long; a story that cannot be stored although the
database is there ends after a few tries, with the text it has.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from stories.generation import attempts, outcomes, states
from stories.generation.connections import AWAY
from stories.generation.outcomes import Outcome
from stories.generation.streaming import sql
from stories.generation.streaming.session import Pen, Slice
from stories.models import Attempt, Story

logger = logging.getLogger(__name__)
LEASE = timedelta(seconds=20)
MOST_MISSES = 3
NOT_STORED = "这一篇没能存下来：已存的文字都在，其余的丢了。"


@dataclass(frozen=True)
class Committed:
    """`text` stands in the row at code point `offset`; `lost`: the story is not ours any more."""

    slice: Slice
    offset: int
    text: str
    lost: bool = False


def commit(slices: Sequence[Slice]) -> list[Committed]:
    """Writes every slice and ending. A slice missing from the result is tried again next time."""
    batch = sorted(slices, key=lambda part: part.pen.story.pk)
    try:
        return _commit_together(batch)
    except AWAY as error:
        logger.warning("%s stories wait for the database: %s", len(batch), error)
        if not _waits_for_one_row(error):
            connection.close()
            return []
    except Exception as error:
        logger.warning("group commit of %s stories failed, one by one: %s", len(batch), error)
    return [done for part in batch for done in _commit_alone(part)]


def _waits_for_one_row(error: Exception) -> bool:
    """PostgreSQL locks rows: the others can be written. SQLite has one lock for all."""
    return type(error.__cause__).__name__ == "LockNotAvailable" and connection.is_usable()


def _commit_together(batch: Sequence[Slice]) -> list[Committed]:
    with transaction.atomic():
        _bound_lock_waits()
        appended = sql.append([(part.pen.story, part.text) for part in batch if part.text])
        _mark_first_text([part.pen for part in batch if part.pen.story.pk in appended])
        return [_conclude(part, appended=part.pen.story.pk in appended) for part in batch]


def _commit_alone(part: Slice) -> list[Committed]:
    try:
        return _commit_together([part])
    except AWAY as error:
        logger.warning("story %s waits for the next commit: %s", part.pen.story.pk, error)
        return []
    except Exception:
        part.pen.misses += 1
        logger.exception("story %s could not be stored, try %s", part.pen.story.pk, part.pen.misses)
    if part.pen.misses < MOST_MISSES:
        return []
    _give_up(part.pen)
    return [Committed(part, len(part.pen.story.text), "", lost=True)]


def _give_up(pen: Pen) -> None:
    """Ends a story that cannot be stored, with the text that its row holds; its call was made, so it is paid."""
    outcome = outcomes.of_unstorable(NOT_STORED, has_text=bool(pen.story.text))
    try:
        with transaction.atomic():
            states.conclude(pen.story, outcome, length=len(pen.story.text))
            attempts.settle(pen.attempt, state=outcome.attempt_state, error=outcome.error)
    except Exception:
        # Its lease runs out, and the sweeper does the same.
        logger.exception("story %s could not be ended either", pen.story.pk)


def _bound_lock_waits() -> None:
    """A locked row waits for the next round rather than holding up all others. SQLite has one lock for all."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '200ms'")


def _mark_first_text(pens: Sequence[Pen]) -> None:
    first = [pen.attempt.pk for pen in pens if pen.attempt.state == Attempt.State.SUBMITTING]
    if first:
        Attempt.objects.filter(pk__in=first, state=Attempt.State.SUBMITTING).update(
            state=Attempt.State.STREAMING, first_text_at=timezone.now()
        )


def _conclude(part: Slice, *, appended: bool) -> Committed:
    offset = len(part.pen.story.text)
    if part.text and not appended:
        return _catch_up(part)
    if part.outcome and not _end(part.pen, part.outcome, length=offset + len(part.text)):
        return _catch_up(part)
    return Committed(part, offset, part.text)


def _end(pen: Pen, outcome: Outcome, *, length: int) -> bool:
    ended = states.conclude(pen.story, outcome, length=length)
    if ended:
        attempts.settle(
            pen.attempt,
            state=outcome.attempt_state,
            finish_reason=pen.finish_reason,
            prompt_tokens=pen.prompt_tokens,
            completion_tokens=pen.completion_tokens,
            odd_usage=pen.odd_usage,
            error=outcome.error,
        )
    return ended


def _catch_up(part: Slice) -> Committed:
    """After a miss: is the row still ours, and did an earlier commit arrive whose answer was lost?

    If the row holds a prefix of our text, writing goes on from there; else the provider's call is closed.
    """
    pen = part.pen
    whole = pen.story.text + part.text
    row = states.mine(pen.story).values_list("text", flat=True).first()
    if row is not None and whole.startswith(row) and row != pen.story.text:
        rest = whole[len(row) :]
        appended = not rest or sql.append([(pen.story, rest)], offset=len(row))
        if appended and (part.outcome is None or _end(pen, part.outcome, length=len(whole))):
            return Committed(part, len(row), rest)
    return Committed(part, len(pen.story.text), "", lost=True)


def settle_lost(pen: Pen) -> None:
    """Closes the ledger row of a call whose story was taken from us: it was sent, so it is paid."""
    attempts.settle(pen.attempt, state=Attempt.State.INTERRUPTED, error="故事已不归本进程写。")


def renew_leases(pens: Sequence[Pen]) -> list[Pen]:
    """Renews the leases of all pens, silent ones too; returns those that are no longer ours."""
    kept = sql.renew([pen.story for pen in pens], until=timezone.now() + LEASE)
    return [pen for pen in pens if pen.story.pk not in kept]


def stops_requested() -> set[UUID]:
    """The keys of the stories being written that someone asked to stop."""
    writing = Story.objects.filter(state=Story.State.WRITING, stop_requested=True)
    return set(writing.values_list("pk", flat=True))
