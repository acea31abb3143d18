"""What a person decides about calls whose outcome was never learnt.

Such a call counts as spent, at its reservation, and its story is not asked for again. A person who has seen the
provider's bill says whether it was billed, and whether the story is to be written anew.
"""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from sentences import add_line
from sentences import sentence as _
from stories.errors import BadState
from stories.generation import states
from stories.generation.attempts import charge
from stories.models import Attempt, AuditEntry, EndReason, Run, Story
from stories.operations import audit
from stories.runs.lifecycle import reopen_run

NEVER_LEARNT = (EndReason.UNKNOWN, EndReason.LOST, EndReason.CUT)


def resolve_attempt(attempt: Attempt, *, billed: bool, by: audit.Actor) -> None:
    """unknown → interrupted (billed: what was reserved stays spent) or refused (the money is free again).

    Raises `BadState` if someone was quicker.
    """
    sentence = _("%(user)s 核对账单：已计费。") if billed else _("%(user)s 核对账单：未计费。")
    error = add_line(attempt.error, sentence % {"user": by})
    before = {"state": Attempt.State.UNKNOWN, "price": attempt.price}
    after = {"state": Attempt.State.INTERRUPTED, "price": attempt.price}
    if not billed:
        after = {"state": Attempt.State.REFUSED, "price": 0}
    with transaction.atomic():
        if not Attempt.objects.filter(pk=attempt.pk, **before).update(error=error, **after):
            raise BadState(_("这次调用的结果已经有人核对过了。"))
        if not billed:
            charge(attempt, -(attempt.price or 0))
        audit.record(AuditEntry.Action.OUTCOME_RESOLVED, attempt, by=by, before=before, after=after)
    attempt.refresh_from_db()


def resolve_all(attempts: Iterable[Attempt], *, billed: bool, by: audit.Actor) -> int:
    """Resolves those whose outcome is unknown; how many."""
    resolved = 0
    for attempt in attempts:
        if attempt.state == Attempt.State.UNKNOWN:
            resolve_attempt(attempt, billed=billed, by=by)
            resolved += 1
    return resolved


def retry_stories(stories: Iterable[Story]) -> list[Story]:
    """Queues those of runs that ended without their outcome being learnt, from nothing; returns them.

    A run that is done or paused goes on; a cancelled one stays cancelled, and so do its stories.
    """
    retried = []
    for story in stories:
        if story.run is None or story.run.state in (Run.State.CANCELLED, Run.State.DRAFT):
            continue
        with transaction.atomic():
            mine = Story.objects.filter(_may_be_billed(), pk=story.pk, fence=story.fence)
            if states.queue_again(mine) and reopen_run(story.run):
                retried.append(story)
    return retried


def _may_be_billed() -> Q:
    """Stories whose outcome was never learnt, or that failed by an error inside an answer, which may be billed."""
    unknown = Attempt.objects.filter(
        story=OuterRef("pk"), fence=OuterRef("fence"), state=Attempt.State.UNKNOWN
    )
    return Q(end_reason__in=NEVER_LEARNT) | Q(Exists(unknown), end_reason=EndReason.REFUSED)
