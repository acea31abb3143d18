"""What readers said, to look at: by model it tells which one they like."""

from django.contrib import admin

from stories.admin.base import ReadOnlyAdmin
from stories.models import Reaction


@admin.register(Reaction)
class ReactionAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "story", "kind", "cause", "language_model", "who")
    list_filter = ("kind", "cause", "language_model", "created_at")
    list_select_related = ("story", "language_model")
    search_fields = ("reason", "passage", "who")
    fields = (
        *("story", "language_model", "kind", "who", "created_at"),
        *("cause", "reason", "passage", "settled_by"),
    )
