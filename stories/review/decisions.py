"""An editor's decisions on stories: approve, reject, restore, edit, undo.

Each decision is one transaction: the story changes by compare-and-set on what the editor saw, and a `Review`
row keeps the text and the verdict before and after. The model's `text` never changes; edits live beside it.
A decision on a reported story settles its open reports: approving or restoring lets it go, rejecting keeps it
held back for good; undoing the decision opens them again, and holds the story if it was held before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, Q, QuerySet, Value, When
from django.utils import timezone
from django.utils.translation import gettext as _

from stories.errors import BadState, StoryError
from stories.generation import states
from stories.models import Review, Story
from stories.values.texts import check_text

MAX_REASON = 500
CHUNK = 500
# The order in which stories are read: those with the fewest flags first, then the newest.
QUEUE = ("flag_count", "-created_at", "-pk")
Decision, State, Verdict, Visibility = Review.Decision, Story.State, Story.Verdict, Story.Visibility


def approve(story: Story, *, by: User, reason: str = "") -> Review:
    """Approves a written story, which enters the library. Raises `BadState`, also for a reader's not offered."""
    if story.origin == Story.Origin.READER and story.offered_at is None:
        raise BadState(_("这是读者自己的故事，读者没有投稿，所以不能采纳。"))
    return _decide(story, Verdict.APPROVED, by=by, reason=reason)


def reject(story: Story, *, by: User, reason: str = "") -> Review:
    """Rejects a story that is written or reported, and takes it out of the library. Raises `BadState`.

    Where a report led to it, nobody else sees the story from now on, by link neither.
    """
    return _decide(story, Verdict.REJECTED, by=by, reason=reason)


@transaction.atomic
def restore(story: Story, *, by: User, reason: str = "") -> Review:
    """Finds the reports wrong: the story is, or stays, where it was before. Raises `BadState` without any."""
    _check_reason(reason)
    if story.held_at is None and not is_reported(story):
        raise BadState(_("这个故事没有等着处理的举报。"))
    review = _record(story, Decision.RESTORED, by=by, reason=reason)
    _change(story, held_at=None)
    review.save()
    _settle(story, review)
    return review


@transaction.atomic
def edit(story: Story, *, by: User, text: str, reason: str = "") -> Review:
    """Puts an editor's text beside the model's; an interrupted story becomes written.

    Raises `BadText`, and `BadState` where nothing changed or the story is neither written nor interrupted.
    """
    check_text(text)
    _check_reason(reason)
    if story.state not in (State.WRITTEN, State.INTERRUPTED):
        raise BadState(_("只有写成或中断的故事可以编辑。"))
    if story.state == State.WRITTEN and text == story.final_text:
        raise BadState(_("正文没有改动。"))
    review = _record(story, Decision.EDITED, by=by, reason=reason, text_after=text)
    changes = {"edited_text": "" if text == story.text else text, "checked_at": None}
    _change(story, **states.EDITED, **changes)
    review.save()
    return review


@transaction.atomic
def edit_and(
    decide: Callable[..., Review], story: Story, *, by: User, an_edit: Mapping[str, str], reason: str
) -> Review:
    """An edit (`text`, `reason`) and what is decided about it, by `approve` or `restore`: both, or neither.

    Raises what either does; `story` is then to be read anew.
    """
    edit(story, by=by, **an_edit)
    return decide(story, by=by, reason=reason)


@transaction.atomic
def undo(story: Story, *, by: User) -> Review:
    """Takes back the last decision that no undo has taken back. Raises `BadState` if there is none."""
    standing = standing_decisions(story)
    if not standing:
        raise BadState(_("没有可以撤销的决定。"))
    last = standing.pop()
    verdict = Verdict(last.verdict_before)
    if verdict == Verdict.APPROVED and story.origin == Story.Origin.READER and story.offered_at is None:
        raise BadState(_("读者已经收回投稿，不能回到「采纳」。"))
    is_edit = last.decision == Decision.EDITED
    text = last.text_before if is_edit else story.final_text
    review = _record(story, Decision.UNDONE, by=by, text_after=text, verdict_after=verdict)
    _change(
        story,
        **(_without_edit(story, text, standing) if is_edit else {}),
        verdict=verdict,
        visibility=_visibility(verdict),
        reviewed_at=None if verdict == Verdict.UNREVIEWED else timezone.now(),
        held_at=_held_again(story, last),
    )
    review.save()
    last.settled_reports.update(settled_by=None)
    return review


def is_reported(story: Story) -> bool:
    """Whether a report waits for a decision."""
    return story.reported_at is not None and story.reactions.open_reports().exists()


def _without_edit(story: Story, text: str, standing: Sequence[Review]) -> dict[str, object]:
    """What taking back an edit changes; `text` was final before it. A verdict's undoing leaves the text alone,
    which may have been written anew since."""
    edited = any(decision.decision == Decision.EDITED for decision in standing)
    return (states.EDITED if edited else states.unedited(story)) | {
        "edited_text": "" if text == story.text else text,
        "checked_at": story.checked_at if text == story.final_text else None,
    }


def approve_all(stories: QuerySet[Story], *, by: User, reason: str = "") -> int:
    """Approves the written, unreviewed ones among `stories`; how many that were."""
    return _decide_all(stories, Verdict.APPROVED, by=by, reason=reason)


def approve_new(stories: Iterable[Story], *, by: User) -> list[Review]:
    """Approves stories that are not saved yet; the reviews, to be saved with them."""
    reviews = []
    for story in stories:
        reviews.append(_record(story, Decision.APPROVED, by=by, verdict_after=Verdict.APPROVED))
        story.verdict, story.visibility = Verdict.APPROVED, Visibility.LIBRARY
        story.reviewed_at = timezone.now()
    return reviews


def reject_all(stories: QuerySet[Story], *, by: User, reason: str = "") -> int:
    """Rejects the written, unreviewed ones among `stories`; how many that were."""
    return _decide_all(stories, Verdict.REJECTED, by=by, reason=reason)


def standing_decisions(story: Story) -> list[Review]:
    """The story's decisions that no undo has taken back, oldest first."""
    standing: list[Review] = []
    for review in story.reviews.order_by("created_at", "pk"):
        if review.decision == Decision.UNDONE:
            standing.pop()
        else:
            standing.append(review)
    return standing


def neighbours(story: Story, stories: QuerySet[Story]) -> tuple[Story | None, Story | None]:
    """The waiting ones of `stories` just before and just after it in `QUEUE`; by key, never by offset."""
    waiting = stories.reviewable()  # type: ignore[attr-defined]
    flags, at = story.flag_count, story.created_at
    newer = Q(created_at__gt=at) | Q(created_at=at, pk__gt=story.pk)
    older = Q(created_at__lt=at) | Q(created_at=at, pk__lt=story.pk)
    before = Q(flag_count__lt=flags) | (Q(flag_count=flags) & newer)
    behind = Q(flag_count__gt=flags) | (Q(flag_count=flags) & older)
    return (
        waiting.filter(before).order_by("-flag_count", "created_at", "pk").first(),
        waiting.filter(behind).order_by(*QUEUE).first(),
    )


@transaction.atomic
def _decide(story: Story, verdict: Story.Verdict, *, by: User, reason: str) -> Review:
    _check_reason(reason)
    reported = is_reported(story)
    keeps_back = verdict == Verdict.REJECTED and (reported or story.held_at is not None)
    if story.state != State.WRITTEN and not keeps_back:
        raise BadState(_("只有写成的故事可以采纳或拒绝；中断的故事请先编辑。"))
    if story.verdict == verdict and not (keeps_back and reported):
        raise BadState(_("这个故事的结论已经是「%(verdict)s」。") % {"verdict": verdict.label})
    review = _record(story, Decision(verdict.value), by=by, reason=reason, verdict_after=verdict)
    held_at = (story.held_at or timezone.now()) if keeps_back else None
    changes = {"verdict": verdict, "visibility": _visibility(verdict), "held_at": held_at}
    _change(story, **changes, reviewed_at=timezone.now())
    review.save()
    _settle(story, review)
    return review


def _settle(story: Story, review: Review) -> None:
    """Settles the open reports and forgets their addresses."""
    story.reactions.open_reports().order_by().update(settled_by=review, address_hash="")


def _held_again(story: Story, undone: Review) -> datetime | None:
    """Since when the story is held once `undone` is: as before it, or by a report that came after it."""
    if story.held_at and is_reported(story):
        return story.held_at
    return undone.held_before


def _decide_all(stories: QuerySet[Story], verdict: Story.Verdict, *, by: User, reason: str) -> int:
    _check_reason(reason)
    keys = list(stories.order_by().values_list("pk", flat=True).distinct())
    chunks = (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))
    return sum(_decide_chunk(chunk, verdict, by=by, reason=reason) for chunk in chunks)


@transaction.atomic
def _decide_chunk(keys: Sequence[UUID], verdict: Story.Verdict, *, by: User, reason: str) -> int:
    """One short transaction: three queries, however many stories.

    Between reading and updating nobody else may decide: PostgreSQL locks the rows, SQLite's one writer
    is us from the transaction's beginning on. A decision made before that is respected, not overturned.
    """
    waiting = _lock(keys)
    reviews = [
        _record(story, Decision(verdict.value), by=by, reason=reason, verdict_after=verdict)
        for story in waiting
    ]
    Story.objects.filter(pk__in=[story.pk for story in waiting]).update(
        verdict=verdict, visibility=_visibility(verdict), reviewed_at=timezone.now()
    )
    Review.objects.bulk_create(reviews)
    return len(waiting)


def _lock(keys: Sequence[UUID]) -> list[Story]:
    """Those of the stories that wait for a decision, ours until the transaction ends."""
    waiting = Story.objects.reviewable().filter(pk__in=keys).order_by("pk").select_for_update(of=("self",))
    return list(waiting.only("text", "edited_text", "verdict", "held_at"))


def _change(story: Story, **values: object) -> None:
    """Compare-and-set: changes the row if it still is as `story` has it, and then `story` too."""
    seen = Story.objects.filter(
        pk=story.pk,
        state=story.state,
        fence=story.fence,
        verdict=story.verdict,
        edited_text=story.edited_text,
        held_at=story.held_at,
        reported_at=story.reported_at,
        offered_at=story.offered_at,
    )
    if seen.update(**values) != 1:
        raise BadState(_("这个故事刚刚被别人改动过，请刷新后再看。"))
    story.refresh_from_db(fields=list(values))


def _record(
    story: Story,
    decision: Review.Decision,
    *,
    by: User,
    reason: str = "",
    text_after: str | None = None,
    verdict_after: Story.Verdict | None = None,
) -> Review:
    """The unsaved row of a decision; made before the story changes."""
    return Review(
        story=story,
        editor=by,
        decision=decision,
        reason=reason,
        text_before=story.final_text,
        text_after=story.final_text if text_after is None else text_after,
        verdict_before=story.verdict,
        verdict_after=verdict_after or story.verdict,
        held_before=story.held_at,
    )


def _visibility(verdict: Story.Verdict) -> Case:
    """Approved stories are in the library; who leaves it is private, and a reader's link stays as it was."""
    if verdict == Verdict.APPROVED:
        return Case(default=Value(Visibility.LIBRARY))
    return Case(When(visibility=Visibility.LIBRARY, then=Value(Visibility.PRIVATE)), default="visibility")


def _check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON:
        raise StoryError(_("理由最多 %(max)s 个字。") % {"max": MAX_REASON})
    if "\0" in reason:
        raise StoryError(_("理由里有 NUL 字符，无法保存。"))
