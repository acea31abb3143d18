"""Who may write a story now: claims by compare-and-set, with a lease and a fence (floor 3).

A claim raises the story's fence; whoever holds an older fence changes nothing any more. All changes of
`Story.state` while it is being written are here.
"""

import logging
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

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
    changes = {
        "state": Story.State.WRITING,
        "fence": story.fence + 1,
        "lease_until": now + lease,
        "attempt_name": story.attempt_name if story.text and story.attempt_name else uuid.uuid4().hex[:16],
        "started_at": now,
        "ended_at": None,
        "end_reason": "",
        "error": "",
        "checked_at": None,
    }
    # With its length, because a retry empties the text without raising the fence.
    as_loaded = Story.objects.filter(pk=story.pk, fence=story.fence, length=story.length)
    queued = as_loaded.filter(due, wanted, state=Story.State.QUEUED, stop_requested=False)
    claimed = queued.update(**changes)
    if claimed:
        # Not read anew: the row was as it was loaded, and reading it would forget its run and its model.
        for name, value in changes.items():
            setattr(story, name, value)
    return bool(claimed)


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

    What ends a row of failures is a complete call (`ledger.settle`).
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
    return stories.filter(state=Story.State.QUEUED, run__state=Run.State.CANCELLED).update(
        state=Story.State.CANCELLED, end_reason=EndReason.CANCELLED, ended_at=timezone.now()
    )


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
