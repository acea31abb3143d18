"""What a call really cost, once a person has seen the provider's bill.

Every settled call can be corrected, also to more than its reservation or the daily limit: the bill says what was
spent. Jobs are corrected in finetuning/training/corrections.py.
"""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from stories.errors import BadState, StoryError
from stories.generation.attempts import charge
from stories.models import Attempt, AuditEntry
from stories.operations import audit

MAX_PRICE = 100_000 * 10**6
"""The most micro-USD that one bill may be corrected to. A higher number is a typing mistake."""
MAX_REASON = 500


def check_correction(price: int, reason: str) -> None:
    """Raises `StoryError` for a price out of range, or without a reason."""
    if not 0 <= price <= MAX_PRICE:
        raise StoryError(_("费用要在 0 到 %(most)s 美元之间。") % {"most": MAX_PRICE // 10**6})
    if not reason.strip() or len(reason) > MAX_REASON:
        raise StoryError(_("请写明更正的理由（最多 %(most)s 字）。") % {"most": MAX_REASON})


def correct_attempt(attempt: Attempt, *, price: int, by: audit.Actor, reason: str) -> None:
    """Sets the price of a settled call, corrects what its day and run have spent, and records who did it.

    This also resolves a call of unknown outcome: it was billed, or not at all. Raises `BadState` if the call is still
    open or someone was quicker; `StoryError` for a price out of range or a missing reason.
    """
    check_correction(price, reason)
    before = {"price": attempt.price, "state": attempt.state}
    after = {"price": price, "state": _state_after(attempt, price)}
    as_seen = Attempt.objects.filter(pk=attempt.pk, corrected_at=attempt.corrected_at, **before)
    with transaction.atomic():
        if not as_seen.exclude(state__in=Attempt.OPEN).update(corrected_at=timezone.now(), **after):
            raise BadState(_("这次调用还没有结算，或者刚刚有人改过：请重新打开这一页。"))
        charge(attempt, price - (attempt.price or 0))
        audit.record(
            AuditEntry.Action.PRICE_CORRECTED, attempt, by=by, before=before, after=after, reason=reason
        )
    attempt.refresh_from_db()


def _state_after(attempt: Attempt, price: int) -> str:
    if attempt.state != Attempt.State.UNKNOWN:
        return attempt.state
    return Attempt.State.INTERRUPTED if price else Attempt.State.REFUSED
