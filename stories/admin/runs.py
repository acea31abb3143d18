"""Runs: ordered in two presses, watched while they write, paused, resumed, cancelled, retried."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sentences import sentence
from stories.admin.base import (
    CONTROL,
    PageAdmin,
    check_permission,
    find_or_404,
    page_context,
    sign,
)
from stories.admin.order_form import RunOrderForm
from stories.errors import StoryError
from stories.models import Attempt, Run, Story
from stories.runs import progress
from stories.runs.lifecycle import (
    CANCELLABLE,
    cancel_run,
    count_states,
    pause_run,
    resume_run,
    retry_run,
    start_run,
)
from stories.runs.orders import order_run
from stories.runs.plan import lay_out
from stories.tasks import enqueue_run
from stories.values.money import show


@admin.register(Run)
class RunAdmin(PageAdmin):
    list_display = (
        *("__str__", "badge", "progress", "language_model", "spent_shown", "budget_shown"),
        *("created_by", "created_at"),
    )
    list_filter = ("state", "language_model")
    list_select_related = ("language_model", "created_by")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        waiting = Q(stories__state__in=[Story.State.QUEUED, Story.State.WRITING])
        runs: QuerySet[Run] = super().get_queryset(request)
        runs = runs.select_related("language_model", "template", "created_by")
        return runs.annotate(all_stories=Count("stories"), waiting=Count("stories", filter=waiting))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("stories.add_run")

    @admin.display(description=gettext_lazy("状态"), ordering="state")
    def badge(self, run: Run) -> str:
        return render_to_string("admin/stories/run/_badge.html", {"run": run})

    @admin.display(description=gettext_lazy("进度"))
    # Any: a row or value of more than one model.
    def progress(self, run: Any) -> str:
        return f"{run.all_stories - run.waiting} / {run.all_stories}"

    @admin.display(description=gettext_lazy("已花费"), ordering="spent")
    def spent_shown(self, run: Run) -> str:
        return show(run.spent)

    @admin.display(description=gettext_lazy("预算"), ordering="budget")
    def budget_shown(self, run: Run) -> str:
        return show(run.budget)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/progress/", view(self.progress_view), name="stories_run_progress"),
            path("<int:pk>/control/", view(self.control_view), name="stories_run_control"),
            path("<int:pk>/cancel/", view(self.cancel_view), name="stories_run_cancel"),
            *super().get_urls(),
        ]

    # --- ordering ---------------------------------------------------------------------------------------

    def order_page(self, request: HttpRequest) -> HttpResponse:
        """The first press names the price; the second, on the same order, starts the run."""
        person = check_permission(request, "stories.add_run")
        form = RunOrderForm(request.POST or None)
        quote = None
        if request.method == "POST" and form.is_valid():
            with self.errors_as_messages(request):
                quote = form.quote()
                if request.POST.get("quoted") == order_mark(form.order):
                    check_permission(request, CONTROL)
                    if "confirm" in request.POST:
                        return self._start(request, form.order, by=person)
                    if "sample" in request.POST:
                        self._write_sample(request, form, by=person)
        context = page_context(
            self,
            request,
            title=_("下一个批次"),
            form=form,
            quote=quote,
            quoted=order_mark(form.order) if quote else "",
        )
        return TemplateResponse(request, "admin/stories/run/order.html", context)

    def _write_sample(self, request: HttpRequest, form: RunOrderForm, *, by: User) -> None:
        """Five stories now; the page stays, and the next press knows what they cost."""
        run, is_new = order_run(**form.sample_order, by=by)
        if is_new:
            enqueue_run(run)
        messages.success(request, _("样稿 %(run)s 在写了；写完后再估价，就按它们的实际费用。") % {"run": run})

    # Any: an order's fields, with the types of its form.
    def _start(self, request: HttpRequest, order: dict[str, Any], *, by: User) -> HttpResponse:
        run, is_new = order_run(**order, by=by)
        if is_new:
            enqueue_run(run)
            messages.success(request, _("批次 %(run)s 开始写了。") % {"run": run})
        return HttpResponseRedirect(reverse("admin:stories_run_change", args=[run.pk]))

    # --- watching ---------------------------------------------------------------------------------------

    def row_page(self, request: HttpRequest, run: Run, /) -> HttpResponse:
        title = _("批次 %(run)s") % {"run": run}
        context = page_context(self, request, title=title, **progress_of(run))
        return TemplateResponse(request, "admin/stories/run/change.html", context)

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that renews itself."""
        run = find_or_404(self, request, str(pk))
        return TemplateResponse(request, "admin/stories/run/_progress.html", progress_of(run))

    def control_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        person = check_permission(request, CONTROL)
        run = find_or_404(self, request, str(pk))
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        with self.errors_as_messages(request):
            messages.success(request, control(run, request.POST.get("action", ""), by=person))
        return HttpResponseRedirect(reverse("admin:stories_run_change", args=[run.pk]))

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Says what would be cancelled; a POST does it."""
        check_permission(request, CONTROL)
        run = find_or_404(self, request, str(pk))
        here = HttpResponseRedirect(reverse("admin:stories_run_change", args=[run.pk]))
        if request.method == "POST":
            with self.errors_as_messages(request):
                cancel_run(run)
                messages.success(request, _("批次已取消；正在写的会写完。"))
            return here
        if run.state not in CANCELLABLE:
            return here
        counted = count_states(run)
        states = {"queued": counted[Story.State.QUEUED], "writing": counted[Story.State.WRITING]}
        context = page_context(self, request, title=_("取消批次"), run=run, **states)
        return TemplateResponse(request, "admin/stories/run/cancel.html", context)


def control(run: Run, action: str, *, by: User) -> str:
    """Does what a button says; the sentence of what was done. Raises `StoryError`."""
    if action == "pause":
        pause_run(run, sentence("%(user)s 按了暂停。") % {"user": by})
        return _("批次已暂停；正在写的会写完。")
    if action == "retry":
        retried = retry_run(run, by=by)
        enqueue_run(run)
        return _("%(count)s 篇没写成的重新排队了。") % {"count": retried}
    if action in ("resume", "start"):
        go_on = resume_run if run.state == Run.State.PAUSED else start_run
        go_on(run, by=by)
        enqueue_run(run)
        return _("批次接着写了。")
    raise StoryError(_("不认识的操作。"))


# Any: what Django's templates and admin take: values of any type.
def progress_of(run: Run) -> dict[str, Any]:
    """What the page of a run shows, counted now."""
    states, unfinished = progress.count_unfinished(run)
    total = sum(states.values())
    cells = progress.measure_cells(run)
    return {
        "run": run,
        "states": [(state, Story.State(state).label, count) for state, count in states.items()],
        "total": total,
        "ended": total - unfinished,
        "retriable": states[Story.State.FAILED] + states[Story.State.INTERRUPTED],
        "waiting_for_review": run.stories.reviewable().count(),
        "pace": progress.measure_throughput(run, unfinished=unfinished),
        "causes": progress.find_causes(run),
        "orders": run.batch_orders.all() if run.is_batch else [],
        "unknown": Attempt.objects.filter(story__run=run, state=Attempt.State.UNKNOWN).count(),
        "may_cancel": run.state in CANCELLABLE,
        "is_live": run.state == Run.State.RUNNING or states[Story.State.WRITING] > 0,
        "spent": show(run.spent),
        "reserved": show(run.reserved),
        "budget": show(run.budget),
        "cells": cells,
        "grid": lay_out(cells, run.dynasties, run.super_powers, run.story_types),
    }


# Any: an order's fields, with the types of its form.
def order_mark(order: dict[str, Any]) -> str:
    """Marks exactly this order: the price that was shown belongs to it and to no other."""
    return sign(order | {"model": order["model"].pk})
