"""The filters of the list of stories. Readers type any ingredient: only the most frequent are offered."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from stories.models import Flag, Reaction, Story

MAX_OFFERED = 30


class IngredientFilter(admin.SimpleListFilter):
    """Stories of one ingredient on one axis."""

    axis: str

    def lookups(self, request: HttpRequest, model_admin: object) -> Sequence[tuple[str, str]]:
        axis = self.axis
        counted = Story.objects.order_by().values_list(axis).annotate(stories=Count("*"))
        return [(name, name) for name, _stories in counted.order_by("-stories", axis)[:MAX_OFFERED]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Story]) -> QuerySet[Story]:
        return queryset.filter(**{self.axis: self.value()}) if self.value() else queryset


class ReportedFilter(admin.SimpleListFilter):
    """Stories with a report that waits for an editor, and among them those that are held back until then."""

    title = _("举报")
    parameter_name = "reports"

    # Any: Django names a filter's choices by values of any type.
    def lookups(self, request: HttpRequest, model_admin: object) -> Sequence[tuple[str, Any]]:
        return [("open", _("举报待处理")), ("held", _("先收起来的")), ("any", _("被举报过"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Story]) -> QuerySet[Story]:
        waiting = Story.objects.reported().order_by()
        if self.value() == "open":
            return queryset.filter(pk__in=waiting.values("pk"))
        if self.value() == "held":
            return queryset.filter(pk__in=waiting.filter(held_at__isnull=False).values("pk"))
        if self.value() == "any":
            return queryset.filter(pk__in=Reaction.objects.reports().order_by().values("story"))
        return queryset


class VerdictFilter(admin.SimpleListFilter):
    """Stories by their verdict; 待审 are those that an editor can decide on now, and no others."""

    title = _("审核结论")
    parameter_name = "verdict__exact"

    # Any: Django names a filter's choices by values of any type.
    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Any]]:
        return Story.Verdict.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Story]) -> QuerySet[Story]:
        if self.value() == Story.Verdict.UNREVIEWED:
            return queryset.filter(pk__in=Story.objects.reviewable().order_by().values("pk"))
        return queryset.filter(verdict=self.value()) if self.value() else queryset


class FlagFilter(admin.SimpleListFilter):
    """Stories by what the check of their text found; each kind with its count among those that wait."""

    title = _("标记")
    parameter_name = "flag"

    # Any: Django names a filter's choices by values of any type.
    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Any]]:
        # By an EXISTS for each flag: a list of all waiting stories would be made anew for every page.
        waiting = Exists(Story.objects.reviewable().filter(pk=OuterRef("story")))
        counted = dict(Flag.objects.filter(waiting).order_by().values_list("kind").annotate(Count("pk")))
        kinds = [(kind.value, f"{kind.label} {counted.get(kind.value, 0)}") for kind in Flag.Kind]
        return [("none", _("没有标记")), ("any", _("有标记")), *kinds]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Story]) -> QuerySet[Story]:
        if self.value() == "none":
            return queryset.filter(flag_count=0, checked_at__isnull=False)
        if self.value() == "any":
            return queryset.filter(flag_count__gt=0, checked_at__isnull=False)
        if self.value():
            flagged = Flag.objects.filter(kind=self.value()).order_by().values("story")
            return queryset.filter(pk__in=flagged, checked_at__isnull=False)
        return queryset


class DoubtFilter(admin.SimpleListFilter):
    """Settled calls or jobs whose bill could not be what the provider claimed, until someone looked."""

    title = _("账单")
    parameter_name = "doubt"

    # Any: Django names a filter's choices by values of any type.
    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Any]]:
        return [("open", _("存疑，待核对")), ("corrected", _("已更正"))]

    # Any: rows of whichever model the page is about.
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "open":
            return queryset.exclude(doubt="").filter(corrected_at__isnull=True)
        if self.value() == "corrected":
            return queryset.filter(corrected_at__isnull=False)
        return queryset


class DynastyFilter(IngredientFilter):
    title = _("朝代")
    parameter_name = axis = "dynasty"


class SuperPowerFilter(IngredientFilter):
    title = _("超能力")
    parameter_name = axis = "super_power"


class StoryTypeFilter(IngredientFilter):
    title = _("战斗")
    parameter_name = axis = "story_type"
