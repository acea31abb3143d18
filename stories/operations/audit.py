"""Writes down a person's decision over money or the serving model, in the transaction that carries it out
."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet

from stories.models import AuditEntry

Actor = User | str
"""An account, or the name of whoever sits at a terminal of the site."""


def record(
    action: AuditEntry.Action,
    subject: Model,
    *,
    by: Actor,
    # Any: values of columns, as they were and are.
    before: dict[str, Any],
    # Any: values of columns, as they were and are.
    after: dict[str, Any],
    reason: str = "",
) -> AuditEntry:
    """One row, for good: who, when, what, its values before and after (money in micro-USD), and why."""
    return AuditEntry.objects.create(
        action=action,
        by=by if isinstance(by, User) else None,
        actor=str(by)[:200],
        subject_kind=subject._meta.label_lower,
        subject_id=str(subject.pk),
        subject_label=str(subject)[:300],
        before=before,
        after=after,
        reason=reason,
    )


def entries_about(subject: Model) -> QuerySet[AuditEntry]:
    """What was decided about a row, the newest first."""
    return AuditEntry.objects.filter(subject_kind=subject._meta.label_lower, subject_id=str(subject.pk))
