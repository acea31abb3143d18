"""Who may write a story now: claims by compare-and-set, with a lease and a fence.

A claim raises the story's fence; whoever holds an older fence changes nothing any more. Every change of
`Story.state` is here; docs/contracts.md draws them.
"""

import logging
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from stories import leases
from stories.generation.connections import AWAY, release_scarce_connection
from stories.models import EndReason, Run, Story
from stories.models.stories import StoryQuerySet

logger = logging.getLogger(__name__)
MOST_TRIES = 5
FAILURES_TO_PAUSE = 10


def is_due(story: Story) -> bool:
    """Whether the row, as it was loaded with its run, is there to claim; `claim` decides."""
    waiting = story.state == Story.State.QUEUED and not story.stop_requested
    due = story.next_try_at is None or story.next_try_at <= timezone.now()
    return waiting and due and (story.run is None or story.run.state == Run.State.RUNNING)


def is_wanted(story: Story) -> bool:
    """Whether a story that we are writing is still ours, and its run goes on; gives the connection back.

    As long as the database cannot say, it is.
    """
    running = Q(run__isnull=True) | Q(run__state=Run.State.RUNNING)
    try:
        return mine(story).filter(running).exists()
    except AWAY as error:
        logger.warning("nobody knows whether story %s is still wanted: %s", story.pk, error)
        return True
    finally:
        release_scarce_connection()


def claim(story: Story, *, lease: timedelta) -> bool:
    """queued → writing, if it is still queued, due, and its run (if any) is running."""
    now = timezone.now()
    due = Q(next_try_at__isnull=True) | Q(next_try_at__lte=now)
    wanted = Q(run__isnull=True) | Q(run__state=Run.State.RUNNING)
    # With its length, because a retry empties the text without raising the fence.
    queued = Story.objects.filter(
        due, wanted, state=Story.State.QUEUED, stop_requested=False, length=story.length
    )
    name = story.attempt_name if story.text and story.attempt_name else uuid.uuid4().hex[:16]
    return leases.take(
        queued,
        story,
        lease=lease,
        state=Story.State.WRITING,
        attempt_name=name,
        started_at=now,
        ended_at=None,
        end_reason="",
        error="",
        checked_at=None,
    )


def requeue(story: Story, *, error: str, seconds: float, use_up_try: bool) -> bool:
    """writing → queued, for a story without text whose call was refused for now; bounded by `MOST_TRIES`.

    A refusal that uses up no try is no failure: the story waits as long as the provider makes it wait.
    """
    if use_up_try and story.tries >= MOST_TRIES:
        return end(story, reason=EndReason.REFUSED, length=0, error=error)
    return _back_to_queue(
        story,
        error=error,
        tries=F("tries") + (1 if use_up_try else 0),
        next_try_at=timezone.now() + timedelta(seconds=seconds),
    )


def end(story: Story, *, reason: EndReason, length: int, error: str = "", text: str | None = None) -> bool:
    """writing → written | interrupted | failed, by `reason` and whether there is text of that `length`.

    `text` is the whole of a story that was not streamed; else the row holds it. False if the story is no
    longer ours. A run is closed, or paused after ten failures in a row.
    """
    if reason == EndReason.STOP and not length:
        reason = EndReason.EMPTY
    state = final_state(reason, has_text=length > 0)
    whole = {} if text is None else {"text": text, "length": length}
    with transaction.atomic(savepoint=False):
        ended = (
            mine(story)
            .filter(length=length if text is None else 0)
            .update(
                state=state,
                end_reason=reason,
                error=error,
                lease_until=None,
                stop_requested=False,
                ended_at=timezone.now(),
                **whole,
            )
        )
        if ended and story.run_id:
            # A worker that died with its stories says nothing about the next ones.
            failed = state != Story.State.WRITTEN and reason != EndReason.LOST
            count_for_run(story.run_id, failed=failed, error=error)
    return bool(ended)


def final_state(reason: str, *, has_text: bool) -> Story.State:
    """The state a text ends in (docs/contracts.md, "States")."""
    if not has_text:
        return Story.State.FAILED
    return Story.State.WRITTEN if reason == EndReason.STOP else Story.State.INTERRUPTED


def reason_for(finish_reason: str) -> EndReason:
    """Our reason for a provider's `finish_reason`; a clean close without one is a cut."""
    known = {"stop": EndReason.STOP, "length": EndReason.LENGTH, "content_filter": EndReason.CONTENT_FILTER}
    return known.get(finish_reason, EndReason.CUT)


def count_for_run(run_id: int, *, failed: bool, error: str) -> None:
    """Counts failures in a row, pauses at ten, and closes a run that has nothing left to write.

    What ends a row of failures is a complete call (`attempts.settle`).
    """
    run = Run.objects.filter(pk=run_id)
    if failed:
        run.update(failures_in_row=F("failures_in_row") + 1)
    unfinished = Story.objects.filter(run_id=run_id).unfinished()
    if not unfinished.exists():
        run.filter(state__in=[Run.State.RUNNING, Run.State.PAUSED]).update(
            state=Run.State.DONE, pause_reason="", finished_at=timezone.now()
        )
    elif failed:
        run.filter(state=Run.State.RUNNING, failures_in_row__gte=FAILURES_TO_PAUSE).update(
            state=Run.State.PAUSED,
            pause_reason=f"连续 {FAILURES_TO_PAUSE} 篇失败，已自动暂停。{error}",
        )


def pause(run_id: int, *, reason: str) -> bool:
    """running → paused, with the sentence why."""
    return bool(
        Run.objects.filter(pk=run_id, state=Run.State.RUNNING).update(
            state=Run.State.PAUSED, pause_reason=reason, failures_in_row=0
        )
    )


def release(story: Story) -> bool:
    """writing → queued without a call having been made: the story waits for its run to go on."""
    return _back_to_queue(story, error="", next_try_at=None)


def take_back(story: Story, *, lease: timedelta) -> bool:
    """A story without text that was given up as lost, or waits to be asked for anew, is being written again:

    under the fence of its last call, whose answer has come after all. False if it went on without it.
    """
    lost = Q(state=Story.State.FAILED, end_reason=EndReason.LOST) | Q(state=Story.State.QUEUED)
    untouched = Story.objects.filter(lost, pk=story.pk, fence=story.fence, length=0)
    writing = {"state": Story.State.WRITING, "lease_until": timezone.now() + lease, "ended_at": None}
    return bool(untouched.update(end_reason="", error="", **writing))


def _back_to_queue(story: Story, **changes: Any) -> bool:
    """writing → queued, or cancelled at once if its run was cancelled meanwhile."""
    with transaction.atomic():
        queued = mine(story).update(state=Story.State.QUEUED, lease_until=None, published_at=None, **changes)
        cancel_orphans(Story.objects.filter(pk=story.pk))
    return bool(queued)


def cancel_orphans(stories: StoryQuerySet) -> int:
    """Cancels those that are queued although their run was cancelled."""
    return cancel_queued(stories.filter(run__state=Run.State.CANCELLED), reason=EndReason.CANCELLED)


def cancel_queued(stories: StoryQuerySet, *, reason: EndReason) -> int:
    """queued → cancelled, for all of them that are still queued; how many."""
    return stories.filter(state=Story.State.QUEUED).update(
        state=Story.State.CANCELLED, end_reason=reason, ended_at=timezone.now()
    )


def queue_again(stories: StoryQuerySet, *, keep_text: bool = False, **changes: Any) -> int:
    """failed | interrupted → queued, because a person asked: from nothing, or with its text to go on from.

    A text is kept by interrupted stories alone: a failed one has none. `changes` go with it; how many were queued.
    """
    ended = [Story.State.INTERRUPTED] if keep_text else [Story.State.FAILED, Story.State.INTERRUPTED]
    anew = AS_NEW if keep_text else AS_NEW | WITHOUT_TEXT
    return stories.filter(state__in=ended).update(**anew | changes)


AS_NEW: dict[str, Any] = {
    "state": Story.State.QUEUED,
    "end_reason": "",
    "error": "",
    "tries": 0,
    "next_try_at": None,
    "published_at": None,
    "stop_requested": False,
    "ended_at": None,
}
WITHOUT_TEXT: dict[str, Any] = {"text": "", "length": 0}


EDITED: dict[str, Any] = {"state": Story.State.WRITTEN}
"""The state of a written or interrupted story that an editor has edited: it is whole, by their word."""


def unedited(story: Story) -> dict[str, Any]:
    """The state that an edited story has once its only edit is taken back: the one its call ended in."""
    was_cut = story.end_reason not in ("", EndReason.STOP)
    return {"state": Story.State.INTERRUPTED if was_cut else Story.State.WRITTEN}


def postpone(story: Story, *, seconds: float) -> bool:
    """A queued story whose turn did not come: it is handed out again after `seconds`."""
    return bool(
        Story.objects.filter(pk=story.pk, state=Story.State.QUEUED, fence=story.fence).update(
            next_try_at=timezone.now() + timedelta(seconds=seconds), published_at=None
        )
    )


def renew(story: Story, *, until: datetime) -> bool:
    """Keeps our lease; False if the story is no longer ours."""
    return bool(mine(story).update(lease_until=until))


def mine(story: Story) -> StoryQuerySet:
    """The row, as long as it is being written under our fence."""
    return Story.objects.filter(pk=story.pk, state=Story.State.WRITING, fence=story.fence)
