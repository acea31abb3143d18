"""The group commit: writes all changed stories of a process in one transaction.

The rows are updated in the order of their keys. Each update matches id, state, fence and length, so a story that is no
longer ours is never changed. If the group fails, each story is committed by itself, so that one cannot spoil the
others. While the database is locked, full or away, stories wait for it, however long. A story that cannot be stored
although the database is there ends after `MAX_FAILED_COMMITS` tries, with the text it has.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from sentences import sentence as _
from stories.generation import attempts, outcomes, states
from stories.generation.completion import BILL, NOT_COUNTED
from stories.generation.connections import AWAY, write_what_can_be
from stories.generation.outcomes import Outcome
from stories.generation.streaming import sql
from stories.generation.streaming.session import PendingChunk, Session
from stories.models import Attempt, Story
from stories.provider_accounts import note_refusal

logger = logging.getLogger(__name__)
LEASE = timedelta(seconds=20)
MAX_FAILED_COMMITS = 3
NOT_STORED = _("这一篇没能存下来：已存的文字都在，其余的丢了。")


@dataclass(frozen=True)
class Committed:
    """`text` stands in the row at code point `offset`. `lost`: the story is not ours any more."""

    chunk: PendingChunk
    offset: int
    text: str
    lost: bool = False


def commit(chunks: Sequence[PendingChunk]) -> list[Committed]:
    """Writes the text and the end of every chunk. A chunk that the result lacks must be tried again."""
    batch = sorted(chunks, key=lambda chunk: chunk.session.story.pk)
    try:
        return _commit_together(batch)
    except AWAY as error:
        logger.warning("%s stories wait for the database: %s", len(batch), error)
        if not _waits_for_one_row(error):
            connection.close()
            return []
    except Exception as error:
        logger.warning("group commit of %s stories failed, one by one: %s", len(batch), error)
    return [done for chunk in batch for done in _commit_alone(chunk)]


def _waits_for_one_row(error: Exception) -> bool:
    """Whether only one row is locked, so that the others can be written. SQLite has one lock for all."""
    return type(error.__cause__).__name__ == "LockNotAvailable" and connection.is_usable()


def _commit_together(batch: Sequence[PendingChunk]) -> list[Committed]:
    with transaction.atomic():
        _bound_lock_waits()
        appended = sql.append([(chunk.session.story, chunk.text) for chunk in batch if chunk.text])
        _mark_first_text([chunk.session for chunk in batch if chunk.session.story.pk in appended])
        return [_conclude(chunk, appended=chunk.session.story.pk in appended) for chunk in batch]


def _commit_alone(chunk: PendingChunk) -> list[Committed]:
    try:
        return _commit_together([chunk])
    except AWAY as error:
        logger.warning("story %s waits for the next commit: %s", chunk.session.story.pk, error)
        return []
    except Exception:
        chunk.session.failed_commits += 1
        logger.exception(
            "story %s could not be stored, try %s", chunk.session.story.pk, chunk.session.failed_commits
        )
    if chunk.session.failed_commits < MAX_FAILED_COMMITS:
        return []
    try:
        return [_give_up(chunk)]
    except AWAY as error:
        logger.warning("story %s waits for the next commit: %s", chunk.session.story.pk, error)
        return []


def _give_up(chunk: PendingChunk) -> Committed:
    """Ends a story that cannot be stored as it is: without the bill of its call, else without the rest of its text.

    Its call was made, so it is paid for. What fails even then, the sweeper does once the lease has run out.
    """
    session, offset = chunk.session, len(chunk.session.story.text)
    what = f"story {session.story.pk}"
    outcome = chunk.outcome or outcomes.of_unstorable(
        NOT_STORED, has_text=bool(session.story.text + chunk.text)
    )
    if (
        write_what_can_be([partial(_write_uncounted, session, chunk.text, outcome)], what=what)
        and chunk.outcome
    ):
        return Committed(chunk, offset, chunk.text)
    loss = outcomes.of_unstorable(NOT_STORED, has_text=bool(session.story.text))
    write_what_can_be([partial(_write_uncounted, session, "", loss)], what=what)
    return Committed(chunk, offset, "", lost=True)


def _write_uncounted(session: Session, text: str, outcome: Outcome) -> bool:
    """Ends a story of ours, and settles its call at the reservation; False if it is no longer ours."""
    with transaction.atomic():
        _bound_lock_waits()
        if text and not sql.append([(session.story, text)]):
            return False
        return _end(session, outcome, length=len(session.story.text + text), is_counted=False)


def _bound_lock_waits() -> None:
    """Makes a locked row wait for the next commit, so that it does not hold up all others.

    SQLite has one lock for all rows.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '200ms'")


def _mark_first_text(sessions: Sequence[Session]) -> None:
    first = [session.attempt.pk for session in sessions if session.attempt.state == Attempt.State.SUBMITTING]
    if first:
        Attempt.objects.filter(pk__in=first, state=Attempt.State.SUBMITTING).update(
            state=Attempt.State.STREAMING, first_text_at=timezone.now()
        )


def _conclude(chunk: PendingChunk, *, appended: bool) -> Committed:
    offset = len(chunk.session.story.text)
    if chunk.text and not appended:
        return _catch_up(chunk)
    if chunk.outcome and not _end(chunk.session, chunk.outcome, length=offset + len(chunk.text)):
        return _catch_up(chunk)
    return Committed(chunk, offset, chunk.text)


def _end(session: Session, outcome: Outcome, *, length: int, is_counted: bool = True) -> bool:
    if not states.conclude(session.story, outcome, length=length):
        return False
    bill = {name: getattr(session, name) for name in BILL} if is_counted else {}
    error = outcome.error or ("" if is_counted else NOT_COUNTED)
    attempts.settle(
        session.attempt,
        state=outcome.attempt_state,
        finish_reason=session.finish_word,
        error=error,
        **bill,
    )
    note_refusal(session.story.model, session.error, asked_at=session.attempt.started_at)
    return True


def _catch_up(chunk: PendingChunk) -> Committed:
    """Looks at a row that did not match: the answer to an earlier commit of ours may have been lost.

    If the row is ours and holds a prefix of our text, writing goes on from there. Else the story is lost to us.
    """
    session = chunk.session
    whole = session.story.text + chunk.text
    row = states.mine(session.story).values_list("text", flat=True).first()
    if row is not None and whole.startswith(row) and row != session.story.text:
        rest = whole[len(row) :]
        appended = not rest or sql.append([(session.story, rest)], offset=len(row))
        if appended and (chunk.outcome is None or _end(session, chunk.outcome, length=len(whole))):
            return Committed(chunk, len(row), rest)
    return Committed(chunk, len(session.story.text), "", lost=True)


def settle_lost(session: Session) -> None:
    """Closes the attempt of a story that was taken from us. Its call was sent, so it is paid for."""
    attempts.settle(session.attempt, state=Attempt.State.INTERRUPTED, error=_("故事已不归本进程写。"))


def renew_leases(sessions: Sequence[Session]) -> list[Session]:
    """Renews the leases of all sessions, also of silent ones; returns those whose stories are no longer ours."""
    kept = sql.renew([session.story for session in sessions], until=timezone.now() + LEASE)
    return [session for session in sessions if session.story.pk not in kept]


def stops_requested() -> set[UUID]:
    """The keys of the stories being written that someone asked to stop."""
    writing = Story.objects.filter(state=Story.State.WRITING, stop_requested=True)
    return set(writing.values_list("pk", flat=True))
