"""The audit: what people decided over money and the serving model; to be read, never changed."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.utils.translation import gettext_lazy as _

from stories.admin.base import ReadOnlyAdmin
from stories.models import AuditEntry
from stories.money import show

NAMES = {"serving": _("在用模型"), "answer": _("模型的回答")}


class EntryWords:
    """One entry as a person reads it: its values by the names of their columns, money in dollars."""

    def __init__(self, entry: AuditEntry) -> None:
        self.entry = entry

    @property
    def before(self) -> str:
        return "\n".join(self._lines(self.entry.before))

    @property
    def after(self) -> str:
        return "\n".join(self._lines(self.entry.after))

    def _lines(self, values: dict[str, Any]) -> Iterator[str]:
        for name, value in values.items():
            label, shown = self._read(name, value)
            yield f"{label}: {shown}"

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
    list_display = ("created_at", "action", "subject_label", "before_shown", "after_shown", "who", "reason")
    list_filter = ("action", ("by", admin.RelatedOnlyFieldListFilter), "created_at")
    list_select_related = ("by",)
    search_fields = ("subject_label", "actor", "reason")
    fields = ("created_at", "action", "subject_label", "who", "before_shown", "after_shown", "reason")

    @admin.display(description=_("谁"), ordering="actor")
    def who(self, entry: AuditEntry) -> str:
        return entry.actor if entry.by_id else f"{entry.actor} ({_('命令行')})"

    @admin.display(description=_("之前"))
    def before_shown(self, entry: AuditEntry) -> str:
        return EntryWords(entry).before

    @admin.display(description=_("之后"))
    def after_shown(self, entry: AuditEntry) -> str:
        return EntryWords(entry).after
