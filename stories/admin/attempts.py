"""The money ledger, with what a person decides about unknown outcomes, and the review history."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from stories.admin.base import CONTROL, ReadOnlyAdmin, check_permission
from stories.admin.corrections import CorrectableAdmin
from stories.admin.filters import DoubtFilter
from stories.generation import corrections
from stories.models import Attempt, Review, SpendDay, Story
from stories.runs.unknown_calls import resolve_all, retry_stories
from stories.tasks import enqueue_story
from stories.values.money import show


@admin.register(Attempt)
class AttemptAdmin(CorrectableAdmin):
    correct_permission = CONTROL
    correct = staticmethod(corrections.correct_attempt)
    list_display = (
        *("started_at", "story", "language_model", "state", "price_shown", "reserved_shown"),
        *("doubt_shown", "prompt_tokens", "completion_tokens"),
    )
    list_filter = ("state", DoubtFilter, "purpose", "day", "language_model")
    list_select_related = ("story", "language_model")
    search_fields = ("error", "story__dynasty", "story__super_power")
    actions = ("mark_billed", "mark_not_billed", "write_again")
    fields = (
        *("purpose", "story", "language_model", "state", "price_shown", "reserved_shown"),
        *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "is_probe"),
        *("doubt", "finish_reason", "error"),
        *("started_at", "first_thought_at", "first_text_at", "ended_at", "corrected_at"),
    )

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """The page of a run links to its calls."""
        return lookup == "story__run__id__exact" or super().lookup_allowed(lookup, value, request)

    def has_control_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(CONTROL)

    @admin.action(description=_("核对过账单：所选结果不明的已计费"), permissions=["control"])
    def mark_billed(self, request: HttpRequest, queryset: QuerySet[Attempt]) -> None:
        self._resolve(request, queryset, billed=True)

    @admin.action(description=_("核对过账单：所选结果不明的未计费，退回预算"), permissions=["control"])
    def mark_not_billed(self, request: HttpRequest, queryset: QuerySet[Attempt]) -> None:
        self._resolve(request, queryset, billed=False)

    def _resolve(self, request: HttpRequest, queryset: QuerySet[Attempt], *, billed: bool) -> None:
        with self.errors_as_messages(request):
            unknown = queryset.select_related("story")
            resolved = resolve_all(unknown, billed=billed, by=check_permission(request, CONTROL))
            words = {"count": resolved}
            messages.success(request, gettext("核对了 %(count)s 次结果不明的调用，其余的没有改动。") % words)

    @admin.action(description=_("重写所选调用中结果不明的批次故事"), permissions=["control"])
    def write_again(self, request: HttpRequest, queryset: QuerySet[Attempt]) -> None:
        keys = queryset.order_by().values("story")
        with self.errors_as_messages(request):
            retried = retry_stories(Story.objects.filter(pk__in=keys).select_related("run"))
            for story in retried:
                enqueue_story(story)
            words = {"count": len(retried)}
            messages.success(request, gettext("%(count)s 篇结果不明的故事重新排队了。") % words)

    @admin.display(description=_("费用"), ordering="price")
    def price_shown(self, attempt: Attempt) -> str:
        return show(attempt.price)

    @admin.display(description=_("预留"), ordering="reserved")
    def reserved_shown(self, attempt: Attempt) -> str:
        return show(attempt.reserved)


@admin.register(SpendDay)
class SpendDayAdmin(ReadOnlyAdmin):
    list_display = fields = ("day", "spent_shown", "reserved_shown")

    @admin.display(description=_("已花费"), ordering="spent")
    def spent_shown(self, day: SpendDay) -> str:
        return show(day.spent)

    @admin.display(description=_("已预留"), ordering="reserved")
    def reserved_shown(self, day: SpendDay) -> str:
        return show(day.reserved)


@admin.register(Review)
class ReviewAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "story", "decision", "editor", "reason")
    list_filter = ("decision", ("editor", admin.RelatedOnlyFieldListFilter), "created_at")
    list_select_related = ("story", "editor")
    search_fields = ("reason", "text_after")
    fields = (
        *("story", "decision", "editor", "reason", "created_at"),
        *("verdict_before", "verdict_after", "text_before", "text_after"),
    )
