"""Every change of `Story.state`, each by compare-and-set; docs/contracts.md draws them.

Who writes a story claims it first, with a lease and a fence (`stories/leases.py`). A claim raises the story's fence;
who holds an older fence changes nothing any more.
"""

import logging
import uuid
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from sentences import Sentence, Words
from sentences import sentence as _
from stories import leases
from stories.generation.connections import AWAY, release_scarce_connection
from stories.generation.outcomes import Outcome
from stories.models import EndReason, Run, Story
from stories.models.stories import StoryQuerySet

logger = logging.getLogger(__name__)
MAX_TRIES = 5
FAILURES_TO_PAUSE = 10
WHY: dict[str, Sentence] = {
    EndReason.EMPTY: _("模型没有写出文字。"),
    EndReason.LENGTH: _("故事写到了长度上限，没有写完。"),
    EndReason.CONTENT_FILTER: _("故事被模型服务的内容过滤截断了。"),
    EndReason.CUT: _("模型服务没有说故事写完了。"),
}
"""Why a run pauses, where its last story ended without an error."""


def is_due(story: Story) -> bool:
    """Whether a story, as it was loaded with its run, seems to be there to claim. `claim` decides."""
    waiting = story.state == Story.State.QUEUED and not story.stop_requested
    due = story.next_try_at is None or story.next_try_at <= timezone.now()
    return waiting and due and (story.run is None or story.run.state == Run.State.RUNNING)


def is_wanted(story: Story) -> bool:
    """Whether a story that we are writing is still ours and its run goes on; releases the connection.

    True as long as the database cannot be asked.
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
    name = story.attempt_name if story.text and story.attempt_name else new_name()
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


def new_name() -> str:
    """An opaque name for a text that begins at code point 0."""
    return uuid.uuid4().hex[:16]


def requeue(story: Story, *, error: Words, seconds: float, use_up_try: bool) -> bool:
    """writing → queued, for a story without text whose call was refused for now; bounded by `MAX_TRIES`.

    A refusal that uses up no try may be repeated without limit. A story that has used up all tries ends as refused.
    """
    if use_up_try and story.tries >= MAX_TRIES:
        return end(story, reason=EndReason.REFUSED, length=0, error=error)
    return _back_to_queue(
        story,
        error=error,
        tries=F("tries") + (1 if use_up_try else 0),
        next_try_at=timezone.now() + timedelta(seconds=seconds),
    )


def conclude(story: Story, outcome: Outcome, *, length: int, text: str | None = None) -> bool:
    """Changes a story that we are writing, and its run, as `outcome` says; False if the story is no longer ours.

    `length`, `text`: as in `end`; a story that is queued again has no text.
    """
    if outcome.reason is not None:
        changed = end(story, reason=outcome.reason, length=length, error=outcome.error, text=text)
    elif outcome.retry_in is not None:
        changed = requeue(story, error=outcome.error, seconds=outcome.retry_in, use_up_try=outcome.use_up_try)
    else:
        changed = release(story)
    if outcome.pause_run and story.run_id:
        pause_automatically(story.run_id, why=outcome.error)
    return changed


def end(story: Story, *, reason: EndReason, length: int, error: Words = "", text: str | None = None) -> bool:
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
            count_for_run(story.run_id, reason=reason, is_written=state == Story.State.WRITTEN, error=error)
    return bool(ended)


def final_state(reason: str, *, has_text: bool) -> Story.State:
    """The state a text ends in (docs/contracts.md, "States")."""
    if not has_text:
        return Story.State.FAILED
    return Story.State.WRITTEN if reason == EndReason.STOP else Story.State.INTERRUPTED


def count_for_run(run_id: int, *, reason: EndReason, is_written: bool, error: Words) -> None:
    """Counts failures in a row, pauses at ten, and closes a run that has nothing left to write.

    What counts is whether the story has its text, whatever became of its call: a model that declines answers
    completely and is paid. A written story begins the count anew. A story that its worker lost leaves it as it is.
    """
    run = Run.objects.filter(pk=run_id)
    has_failed = not is_written and reason != EndReason.LOST
    if has_failed:
        run.update(failures_in_row=F("failures_in_row") + 1)
    elif is_written:
        run.filter(failures_in_row__gt=0).update(failures_in_row=0)
    unfinished = Story.objects.filter(run_id=run_id).unfinished()
    if not unfinished.exists():
        run.filter(state__in=[Run.State.RUNNING, Run.State.PAUSED]).update(
            state=Run.State.DONE, pause_reason="", finished_at=timezone.now()
        )
    elif has_failed:
        words = {"n": FAILURES_TO_PAUSE, "why": error or WHY.get(reason, "")}
        run.filter(state=Run.State.RUNNING, failures_in_row__gte=FAILURES_TO_PAUSE).update(
            state=Run.State.PAUSED, pause_reason=_("连续 %(n)s 篇失败，已自动暂停。%(why)s") % words
        )


def pause(run_id: int, *, reason: Words) -> bool:
    """running → paused, with the sentence why."""
    return bool(
        Run.objects.filter(pk=run_id, state=Run.State.RUNNING).update(
            state=Run.State.PAUSED, pause_reason=reason, failures_in_row=0
        )
    )


def pause_automatically(run_id: int, *, why: Words) -> bool:
    """running → paused, because of what happened and not because of a person."""
    return pause(run_id, reason=_("已自动暂停：%(why)s") % {"why": why})


def release(story: Story) -> bool:
    """writing → queued because no call was made, or none that was billed: the story waits for its run to go on."""
    return _back_to_queue(story, error="", next_try_at=None)


def reclaim(story: Story, *, lease: timedelta) -> bool:
    """failed | queued → writing under the same fence, because the answer to its last call has come after all.

    Only for a story without text that was given up as lost, or was queued again. False if it was claimed since.
    """
    lost = Q(state=Story.State.FAILED, end_reason=EndReason.LOST) | Q(state=Story.State.QUEUED)
    untouched = Story.objects.filter(lost, pk=story.pk, fence=story.fence, length=0)
    writing = {"state": Story.State.WRITING, "lease_until": timezone.now() + lease, "ended_at": None}
    return bool(untouched.update(end_reason="", error="", **writing))


def _back_to_queue(story: Story, **changes: object) -> bool:
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


def queue_again(stories: StoryQuerySet, *, keep_text: bool = False, **changes: object) -> int:
    """failed | interrupted → queued, because a person asked; how many. `changes` are written with it.

    Without `keep_text` each story is written from the beginning. With it only interrupted stories are queued, and are
    continued: a failed story has no text to keep.
    """
    ended = [Story.State.INTERRUPTED] if keep_text else [Story.State.FAILED, Story.State.INTERRUPTED]
    anew = AS_NEW if keep_text else AS_NEW | WITHOUT_TEXT
    return stories.filter(state__in=ended).update(**anew | changes)


AS_NEW: dict[str, object] = {
    "state": Story.State.QUEUED,
    "end_reason": "",
    "error": "",
    "tries": 0,
    "next_try_at": None,
    "published_at": None,
    "stop_requested": False,
    "ended_at": None,
}
WITHOUT_TEXT: dict[str, object] = {"text": "", "length": 0}


EDITED: dict[str, object] = {"state": Story.State.WRITTEN}
"""The state of a written or interrupted story once an editor has edited it: the editor's text counts as complete."""


def unedited(story: Story) -> dict[str, object]:
    """The state of a story whose only edit was undone: the state that its call ended in."""
    was_cut = story.end_reason not in ("", EndReason.STOP)
    return {"state": Story.State.INTERRUPTED if was_cut else Story.State.WRITTEN}


def begin_anew(story: Story, *, name: str, text: str) -> bool:
    """Puts `text` in place of what we committed of a story: a part of that was the model's thinking.

    It is another text, so it has another name. May be repeated. False if the story is no longer ours.
    """
    return bool(mine(story).update(text=text, length=len(text), attempt_name=name))


def snooze(story: Story, *, seconds: float) -> bool:
    """Makes a queued story, which the rate limiter did not let through, due again after `seconds`."""
    return bool(
        Story.objects.filter(pk=story.pk, state=Story.State.QUEUED, fence=story.fence).update(
            next_try_at=timezone.now() + timedelta(seconds=seconds), published_at=None
        )
    )


def renew(story: Story, *, until: datetime) -> bool:
    """Renews our lease; False if the story is no longer ours."""
    return bool(mine(story).update(lease_until=until))


def mine(story: Story) -> StoryQuerySet:
    """The row of the story, as long as it is being written under our fence."""
    return Story.objects.filter(pk=story.pk, state=Story.State.WRITING, fence=story.fence)
