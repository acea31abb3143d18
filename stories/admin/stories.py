"""The stories: a list to read in, a page to decide on, and files in and out."""

import copy
import hashlib
import io
import zipfile
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousOperation
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stories.admin.base import (
    PageAdmin,
    check_permission,
    find_or_404,
    page_context,
)
from stories.admin.filters import (
    DynastyFilter,
    FlagFilter,
    ReportedFilter,
    StoryTypeFilter,
    SuperPowerFilter,
    VerdictFilter,
)
from stories.admin.forms import DecisionForm, ImportForm, last_review
from stories.errors import StoryError
from stories.library.csv_files import dump_stories
from stories.library.imports import import_stories, store_file
from stories.library.labels import LABEL_SUFFIX, file_label
from stories.models import Flag, Story
from stories.models.stories import FINAL_TEXT
from stories.operations.task_queue import enqueue
from stories.readers import reactions
from stories.review import decisions
from stories.tasks import advance_import, check_new_stories, enqueue_check

REVIEW = "stories.review_story"
CSV_NAME = "stories.csv"
AT_ONCE = 512 * 1024  # bytes: a larger file takes longer than a person waits for a page, and is a worker's


@admin.register(Story)
class StoryAdmin(PageAdmin):
    list_display = ("__str__",)
    list_display_links = ("created_at",)
    list_select_related = ("run", "language_model")
    list_filter = (
        ReportedFilter,
        FlagFilter,
        *(VerdictFilter, "state", "run", "language_model", "origin"),
        *(DynastyFilter, SuperPowerFilter, StoryTypeFilter),
    )
    list_per_page = 20
    search_fields = ("text", "edited_text", "dynasty", "super_power", "story_type")
    search_help_text = gettext_lazy("正文或配方里的字")
    actions = ("approve_selected", "reject_selected", "export_selected")
    change_list_template = "admin/stories/story/change_list.html"

    # --- the list ---------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Story]:
        return Story.objects.with_reports()

    # Any: what Django's templates and admin take: values of any type.
    def get_list_display(self, request: HttpRequest) -> list[Any]:
        filters = self.get_preserved_filters(request)

        @admin.display(description=gettext_lazy("故事"))
        def card(story: Story) -> str:
            context = {"story": story, "opts": self.opts, "preserved_filters": filters}
            return render_to_string("admin/stories/story/_card.html", context)

        return [card, "final_length", "flag_count", "created_at"]

    @admin.display(description=gettext_lazy("字数"), ordering=Length(FINAL_TEXT))
    def final_length(self, story: Story) -> int:
        return len(story.final_text)

    def has_review_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(REVIEW)

    @admin.action(description=gettext_lazy("采纳所选的故事"), permissions=["review"])
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[Story]) -> HttpResponse | None:
        return self._decide_all(request, queryset, decisions.approve_all, title=_("采纳"))

    @admin.action(description=gettext_lazy("拒绝所选的故事"), permissions=["review"])
    def reject_selected(self, request: HttpRequest, queryset: QuerySet[Story]) -> HttpResponse | None:
        return self._decide_all(request, queryset, decisions.reject_all, title=_("拒绝"))

    def _decide_all(
        self,
        request: HttpRequest,
        queryset: QuerySet[Story],
        decide: Callable[..., int],
        *,
        title: str,
    ) -> HttpResponse | None:
        """At once for a page of stories; more than that are counted and confirmed first."""
        waiting = waiting_among(queryset).count()
        if waiting > self.list_per_page and "confirmed" not in request.POST:
            context = page_context(
                self,
                request,
                title=title,
                waiting=waiting,
                action=request.POST["action"],
                everything=request.POST.get("select_across", "0"),
                checkbox=ACTION_CHECKBOX_NAME,
                selected=request.POST.getlist(ACTION_CHECKBOX_NAME),
            )
            return TemplateResponse(request, "admin/stories/story/confirm.html", context)
        with self.errors_as_messages(request):
            decided = decide(queryset, by=request.user, reason=request.POST.get("reason", ""))
            words = {"title": title, "count": decided}
            messages.success(request, _("%(title)s了 %(count)s 篇待审的故事，其余的没有改动。") % words)
        return None

    @admin.action(description=gettext_lazy("把所选的写成的故事导出为 CSV"), permissions=["view"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[Story]) -> HttpResponse:
        written = Story.objects.filter(pk__in=queryset.order_by().values("pk"), state=Story.State.WRITTEN)
        content, rows = dump_stories(written, for_spreadsheet=True)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(CSV_NAME, content)
            label = file_label(hashlib.sha256(content).hexdigest(), name=CSV_NAME, rows=rows)
            archive.writestr(CSV_NAME + LABEL_SUFFIX, label)
        headers = {"Content-Disposition": 'attachment; filename="stories.zip"'}
        return HttpResponse(packed.getvalue(), content_type="application/zip", headers=headers)

    # --- one story --------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("import/", view(self.import_view), name="stories_story_import"),
            path("next/", view(self.next_view), name="stories_story_next"),
            path("<uuid:pk>/decide/", view(self.decide_view), name="stories_story_decide"),
            *super().get_urls(),
        ]

    def row_page(self, request: HttpRequest, story: Story, /) -> HttpResponse:
        return self._show(request, story, DecisionForm.about(story))

    def _show(self, request: HttpRequest, story: Story, form: DecisionForm) -> HttpResponse:
        newer, older = decisions.neighbours(story, self._filtered(request))
        context = page_context(
            self,
            request,
            title=_("审核故事"),
            story=story,
            form=form,
            seen=last_review(story),
            shown=story.text_mark,
            newer=newer,
            older=older,
            reviews=story.reviews.select_related("editor"),
            standing=decisions.standing_decisions(story),
            reports=story.reactions.reports().select_related("settled_by__editor").order_by("pk"),
            reactions=reactions.count_of(story),
            may_approve=story.origin != Story.Origin.READER or story.offered_at is not None,
            may_review=self.has_review_permission(request),
            flags=flags_of(story),
        )
        return TemplateResponse(request, "admin/stories/story/review.html", context)

    # Any: what Django's templates and admin take: values of any type.
    def decide_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """One decision: on to the next story after a verdict, back to this one after an edit or an undo."""
        editor = check_permission(request, REVIEW)
        story = find_or_404(self, request, str(pk))
        form = DecisionForm.about(story, request.POST)
        if request.method != "POST":
            return HttpResponseRedirect(self._address(request, story))
        if not form.is_valid():
            return self._show(request, story, form)
        try:
            form.decide(by=editor)
        except StoryError as error:
            story.refresh_from_db()
            form.add_error(None, str(error))
            return self._show(request, story, form)
        if story.checked_at is None:
            enqueue_check(story)
        messages.success(request, self._note(request, story, form))
        target = self._next(request, story) if form.is_verdict else story
        return HttpResponseRedirect(self._address(request, target or story))

    def next_view(self, request: HttpRequest) -> HttpResponse:
        """The first of the filter's queue: the fewest flags, then the newest."""
        check_permission(request, "stories.view_story")
        story = waiting_among(self._filtered(request)).order_by(*decisions.QUEUE).first()
        if story is None:
            messages.info(request, _("没有待审的故事了。"))
            return HttpResponseRedirect(reverse("admin:stories_story_changelist"))
        return HttpResponseRedirect(self._address(request, story))

    def import_view(self, request: HttpRequest) -> HttpResponse:
        editor = check_permission(request, REVIEW)
        form = ImportForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            try:
                return self._import(request, form, by=editor)
            except StoryError as error:
                form.add_error("file", str(error))
        context = page_context(self, request, title=_("导入 CSV"), form=form)
        return TemplateResponse(request, "admin/stories/story/import.html", context)

    def _import(self, request: HttpRequest, form: ImportForm, *, by: User) -> HttpResponse:
        """At once, or by a worker; whichever it is, the page it leads to says how it went. Raises `StoryError`."""
        file, approve = form.cleaned_data["file"], form.cleaned_data["approve"]
        if file.size > AT_ONCE:
            imported = store_file(file.chunks(), name=file.name, by=by, approve=approve)
            enqueue(advance_import, imported.pk)
            return HttpResponseRedirect(reverse("admin:stories_importedfile_change", args=[imported.pk]))
        rows = import_stories(file.file, name=file.name, approve_by=by if approve else None)
        enqueue(check_new_stories)
        messages.success(request, _("导入了 %(rows)s 篇故事。") % {"rows": rows})
        return HttpResponseRedirect(reverse("admin:stories_story_changelist"))

    # --- ways from one to the other ---------------------------------------------------------------------

    def _filtered(self, request: HttpRequest) -> QuerySet[Story]:
        """The stories of the list one came from, whatever their verdict: what "next" means."""
        filters = request.GET.get("_changelist_filters", "")
        came_from = QueryDict("" if "%00" in filters else filters, mutable=True)
        for name in ("verdict__exact", "state__exact", "p", "o", "all"):
            came_from.pop(name, None)
        if not came_from:  # all of them, without the counts that a list shows beside its filters
            return self.get_queryset(request)
        inner = copy.copy(request)
        inner.GET = came_from  # type: ignore[assignment]
        try:
            return self.get_changelist_instance(inner).get_queryset(inner)
        except (IncorrectLookupParameters, SuspiciousOperation):
            return self.get_queryset(request)

    def _next(self, request: HttpRequest, story: Story) -> Story | None:
        newer, older = decisions.neighbours(story, self._filtered(request))
        return older or newer

    def _address(self, request: HttpRequest, story: Story) -> str:
        filters = self.get_preserved_filters(request)
        address = reverse("admin:stories_story_change", args=[story.pk])
        return f"{address}?{filters}" if filters else address

    def _note(self, request: HttpRequest, story: Story, form: DecisionForm) -> str:
        context = {"story": story, "done": form.done, "address": self._address(request, story)}
        return render_to_string("admin/stories/story/_decided.html", context)


def flags_of(story: Story) -> list[Flag]:
    """What the check of the story's present text found; nothing while a new check is due."""
    return list(story.flags.select_related("neighbour")) if story.checked_at else []


def waiting_among(stories: QuerySet[Story]) -> QuerySet[Story]:
    """Those that wait for an editor's decision."""
    return stories.reviewable()  # type: ignore[attr-defined, no-any-return]
