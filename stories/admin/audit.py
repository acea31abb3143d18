"""The audit: what people decided over money and the serving model; to be read, never changed."""

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.utils.translation import gettext_lazy as _

from stories.admin.base import ReadOnlyAdmin
from stories.models import AuditEntry
from stories.values.money import show

NAMES = {"serving": _("在用模型"), "answer": _("模型的回答")}


class EntryWords:
    """One entry as a person reads it: what changed, by the names of its columns, money in dollars."""

    def __init__(self, entry: AuditEntry) -> None:
        self.entry = entry

    @property
    def changes(self) -> str:
        """`费用 $0.0013 → $0.2500`, for each value that is another one now; all if none is."""
        before, after = self.entry.before, self.entry.after
        changed = [name for name in before | after if before.get(name) != after.get(name)]
        return " · ".join(self._change(name) for name in changed or after)

    def _change(self, name: str) -> str:
        label, now = self._read(name, self.entry.after.get(name))
        if name not in self.entry.before:
            return f"{label} {now}"
        return f"{label} {self._read(name, self.entry.before[name])[1]} → {now}"

    # Any: a row or value of more than one model.
    def _read(self, name: str, value: Any) -> tuple[Any, Any]:
        if name in NAMES:
            return NAMES[name], value or "—"
        try:
            field = apps.get_model(self.entry.subject_kind)._meta.get_field(name)
        except (LookupError, FieldDoesNotExist):
            return name, value
        label = getattr(field, "verbose_name", name)
        if name == "price":
            return label, show(value)
        return label, dict(getattr(field, "choices", None) or ()).get(value, "?" if value is None else value)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "action", "subject_label", "changes", "who", "reason")
    list_filter = ("action", ("by", admin.RelatedOnlyFieldListFilter), "created_at")
    list_select_related = ("by",)
    search_fields = ("subject_label", "actor", "reason")
    fields = ("created_at", "action", "subject_label", "who", "changes", "reason")

    @admin.display(description=_("谁"), ordering="actor")
    def who(self, entry: AuditEntry) -> str:
        return entry.actor if entry.by_id else f"{entry.actor} ({_('命令行')})"

    @admin.display(description=_("改动"))
    def changes(self, entry: AuditEntry) -> str:
        return EntryWords(entry).changes
