"""Jobs: ordered in two presses with their price, watched while they train, decided on, promoted from."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http import HttpResponseRedirect as Redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from finetuning import tasks, training
from finetuning.admin.decisions import DECISIONS, decide
from finetuning.admin.forms import JobOrderForm
from finetuning.admin.quotes import JobQuote, quote_order
from finetuning.errors import BadJob, TrainingError
from finetuning.exports import curves, results_csv
from finetuning.models import Dataset, Job
from stories.admin.base import PageAdmin, check_permission, find_or_404, page_context, sign
from stories.admin.corrections import CorrectableAdmin
from stories.admin.filters import DoubtFilter
from stories.errors import StoryError
from stories.models import LanguageModel
from stories.operations.task_queue import enqueue
from stories.values.money import show

START = "finetuning.start_job"
MAX_EVENTS = 40
MAX_TABLE_ROWS = 40


class AskingFilter(admin.SimpleListFilter):
    """Jobs that a person must decide on."""

    title = gettext_lazy("决定")
    parameter_name = "asking"

    # Any: Django names a filter's choices by values of any type.
    def lookups(self, request: HttpRequest, model_admin: object) -> Sequence[tuple[str, Any]]:
        return [("yes", _("等人决定"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        if self.value() == "yes":
            return queryset.filter(pk__in=Job.objects.asking().order_by().values("pk"))
        return queryset


@admin.register(Job)
class JobAdmin(PageAdmin, CorrectableAdmin):
    correct_permission = START
    correct = staticmethod(training.correct_job)
    errors = (StoryError, TrainingError)
    list_display = (
        *("__str__", "state", "remote_status", "asks", "dataset", "language_model", "tuned_model"),
        *("price_shown", "doubt_shown", "created_by", "created_at"),
    )
    list_filter = (AskingFilter, "state", DoubtFilter, "dataset", "language_model")
    list_select_related = ("dataset", "language_model", "tuned_model", "created_by")
    search_fields = ("remote_id", "tuned_model__name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return super().get_queryset(request).select_related(*self.list_select_related)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(START)

    @admin.display(description=gettext_lazy("费用"))
    def price_shown(self, job: Job) -> str:
        return show(job.price) if job.has_ended else f"≈ {show(estimate_of(job))}"

    @admin.display(description=gettext_lazy("决定"))
    def asks(self, job: Job) -> str:
        """One word where a person must decide; what about stands on the job's page."""
        return _("等人决定") if job.is_asking else ""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/progress/", view(self.progress_view), name="finetuning_job_progress"),
            path("<int:pk>/curves/", view(self.curves_view), name="finetuning_job_curves"),
            path("<int:pk>/results/", view(self.results_view), name="finetuning_job_results"),
            path("<int:pk>/decide/<slug:action>/", view(self.decide_view), name="finetuning_job_decide"),
            *super().get_urls(),
        ]

    # --- ordering ---------------------------------------------------------------------------------------

    def order_page(self, request: HttpRequest) -> HttpResponse:
        """The first press names the price; the second, on the same order at the same price, starts it."""
        person = check_permission(request, START)
        form = JobOrderForm(request.POST or None, initial=chosen(request))
        quote = None
        if request.method == "POST" and form.is_valid():
            with self.errors_as_messages(request):
                quote = quote_order(form)
                if "confirm" in request.POST and request.POST.get("mark") == order_mark(form, quote):
                    return self._order(request, form, by=person)
        context = page_context(
            self,
            request,
            title=_("新的微调任务"),
            form=form,
            quote=quote,
            mark=order_mark(form, quote) if quote else "",
            has_datasets=Dataset.objects.exists(),
        )
        return TemplateResponse(request, "admin/finetuning/job/order.html", context)

    def _order(self, request: HttpRequest, form: JobOrderForm, *, by: User) -> HttpResponse:
        """Orders the job. A second press of the same order finds the first one's job."""
        job = training.order_job(**form.order, by=by)
        enqueue(tasks.advance_job, job.pk)
        self.log_addition(request, job, {"added": {"name": str(job), "object": show(estimate_of(job))}})
        return Redirect(reverse("admin:finetuning_job_change", args=[job.pk]))

    # --- watching ---------------------------------------------------------------------------------------

    def row_page(self, request: HttpRequest, job: Job, /) -> HttpResponse:
        title = _("微调任务 %(job)s") % {"job": job}
        context = page_context(self, request, title=title, table=table_of(job), **progress_of(job))
        return TemplateResponse(request, "admin/finetuning/job/change.html", context)

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that renews itself."""
        job = find_or_404(self, request, str(pk))
        return TemplateResponse(request, "admin/finetuning/job/_progress.html", progress_of(job))

    def curves_view(self, request: HttpRequest, pk: int) -> JsonResponse:
        """What the chart draws; `live` as long as it is worth asking again."""
        job = find_or_404(self, request, str(pk))
        live, state = not job.has_ended, job.get_state_display()
        return JsonResponse({"live": live, "state": state, "curves": curves(job), "table": table_of(job)})

    def results_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The figures of every step as CSV, the columns of `job_results`."""
        job = find_or_404(self, request, str(pk))
        try:
            content = results_csv(job)
        except BadJob as error:
            messages.error(request, str(error))
            return Redirect(reverse("admin:finetuning_job_change", args=[job.pk]))
        named = {"Content-Disposition": f'attachment; filename="job-{job.pk}-results.csv"'}
        return HttpResponse(content, content_type="text/csv; charset=utf-8", headers=named)

    # --- deciding ---------------------------------------------------------------------------------------

    def decide_view(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        """Says what a decision means; a POST takes it."""
        person = check_permission(request, START)
        job = find_or_404(self, request, str(pk))
        decision = DECISIONS.get(action)
        here = Redirect(reverse("admin:finetuning_job_change", args=[job.pk]))
        if decision is None:
            messages.error(request, _("不认识的操作。"))
            return here
        if request.method != "POST":
            context = page_context(self, request, title=decision.title, job=job, decision=decision)
            return TemplateResponse(request, "admin/finetuning/job/decide.html", context)
        with self.errors_as_messages(request):
            messages.success(request, decide(job, decision, by=person, model=request.POST.get("model", "")))
            enqueue(tasks.advance_job, job.pk)
            self.log_change(request, job, str(decision.title))
        return here


def chosen(request: HttpRequest) -> dict[str, object]:
    """The initial choices in the address of the page: `?dataset=3&model=5`."""
    kinds = {"dataset": Dataset, "model": LanguageModel}
    return {name: request.GET[name] for name in kinds if request.GET.get(name, "").isdecimal()}


def order_mark(form: JobOrderForm, quote: JobQuote) -> str:
    return sign(
        {
            **form.order,
            "asked": asdict(form.asked),
            "model": form.cleaned_data["model"].pk,
            "dataset": form.cleaned_data["dataset"].pk,
            "price": quote.price,
        }
    )


def progress_of(job: Job) -> dict[str, object]:
    """What the page of a job shows, read anew."""
    last = job.steps.order_by("-step").first()
    return {
        "job": job,
        "last": last,
        "events": list(job.events.all()[:MAX_EVENTS]),
        "is_live": not job.has_ended,
        "is_serving": is_serving(job),
        "is_unknown": job.state in Job.UNKNOWN,
        "is_asked": job.is_asked,
        "is_stuck": job.state == Job.State.CREATED and job.cancel_requested,
        "estimate": show(estimate_of(job)),
        "reserved": show(job.reserved),
        "price": show(job.price),
    }


def estimate_of(job: Job) -> int | None:
    return training.estimate_price(job.dataset, job.language_model, job.epochs)


def is_serving(job: Job) -> bool:
    """Whether its model writes the readers' stories now."""
    return job.tuned_model_id is not None and job.tuned_model == LanguageModel.objects.promoted().first()


def table_of(job: Job) -> list[list[str]]:
    """The chart's figures as words, for those who do not see it: at most forty steps, evenly."""
    columns = curves(job)
    rows = list(zip(*columns.values(), strict=True))
    every = -(-len(rows) // MAX_TABLE_ROWS) or 1
    kept = [row for number, row in enumerate(rows) if number % every == 0 or number == len(rows) - 1]
    return [[str(step), *("" if value is None else f"{value:.4f}" for value in rest)] for step, *rest in kept]
