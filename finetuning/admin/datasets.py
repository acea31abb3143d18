"""Datasets: built in two presses, looked at, downloaded; never changed."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http import HttpResponseRedirect as Redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _

from finetuning.admin.forms import BuildForm
from finetuning.datasets import Preview, build_dataset, open_file
from finetuning.errors import BadDataset, TrainingError
from finetuning.models import Dataset, DatasetRow
from stories.admin.base import PageAdmin, check_permission, find_or_404, page_context, sign
from stories.errors import StoryError
from stories.library.labels import LABEL_SUFFIX, file_label
from stories.models import Story

FIRST_ROWS = 6


@admin.register(Dataset)
class DatasetAdmin(PageAdmin):
    errors = (StoryError, TrainingError)
    list_display = (
        *("__str__", "format", "training_rows", "validation_rows", "tokens", "since"),
        *("created_by", "created_at"),
    )
    list_filter = ("format",)
    list_select_related = ("since", "created_by")
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dataset]:
        return super().get_queryset(request).select_related("since", "created_by")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("finetuning.add_dataset")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path(
                "<int:pk>/download/<str:split>/", view(self.download_view), name="finetuning_dataset_download"
            ),
            path("<int:pk>/label/<str:split>/", view(self.label_view), name="finetuning_dataset_label"),
            *super().get_urls(),
        ]

    # --- building ---------------------------------------------------------------------------------------

    def order_page(self, request: HttpRequest) -> HttpResponse:
        """The first press shows what would go in; the second, on the same choices, freezes it."""
        check_permission(request, "finetuning.add_dataset")
        form = BuildForm(request.POST or None)
        preview, mark = None, ""
        if request.method == "POST" and form.is_valid():
            preview = form.preview()
            mark = build_mark(form, preview)
            if "confirm" in request.POST and (dataset := self._build(request, form, mark=mark)):
                return Redirect(reverse("admin:finetuning_dataset_change", args=[dataset.pk]))
        context = page_context(
            self,
            request,
            title=_("新的数据集"),
            form=form,
            preview=preview,
            mark=mark,
            approved=Story.objects.trainable().count(),
        )
        return TemplateResponse(request, "admin/finetuning/dataset/build.html", context)

    def _build(self, request: HttpRequest, form: BuildForm, *, mark: str) -> Dataset | None:
        """The dataset; None, with a message, if it was refused or would not be what was shown."""
        name = form.cleaned_data["name"]
        if request.POST.get("mark") != mark:
            messages.warning(request, _("选项或故事有了变化，请再看一遍。"))
            return None
        with self.errors_as_messages(request):
            dataset = build_dataset(name, **form.choices, by=request.user)  # type: ignore[arg-type]
            self.log_addition(request, dataset, {"added": {"name": str(dataset), "object": dataset.sha256}})
            messages.success(request, _("数据集 %(dataset)s 建好了。") % {"dataset": dataset})
            return dataset
        return None

    # --- looking ----------------------------------------------------------------------------------------

    def row_page(self, request: HttpRequest, dataset: Dataset, /) -> HttpResponse:
        context = page_context(
            self,
            request,
            title=_("数据集 %(dataset)s") % {"dataset": dataset},
            dataset=dataset,
            runs=list(dataset.runs.all()),
            jobs=list(dataset.jobs.select_related("language_model", "tuned_model")),
            first_rows=list(dataset.rows.order_by("split", "position")[:FIRST_ROWS]),
            children=list(Dataset.objects.filter(since=dataset)),
        )
        return TemplateResponse(request, "admin/finetuning/dataset/change.html", context)

    def download_view(self, request: HttpRequest, pk: int, split: str) -> FileResponse:
        """The training or the validation file as it was frozen."""
        relative, sha256, _rows, name = _frozen(find_or_404(self, request, str(pk)), split)
        try:
            file = open_file(relative, expected_sha256=sha256)
        except BadDataset as error:
            raise Http404(str(error)) from error
        return FileResponse(file, as_attachment=True, filename=name, content_type="application/jsonl")

    def label_view(self, request: HttpRequest, pk: int, split: str) -> HttpResponse:
        """The AI label of the file, which has no room for one inside."""
        _relative, sha256, rows, name = _frozen(find_or_404(self, request, str(pk)), split)
        headers = {"Content-Disposition": content_disposition_header(True, name + LABEL_SUFFIX) or ""}
        label = file_label(sha256, name=name, rows=rows)
        return HttpResponse(label, content_type="application/json", headers=headers)


def _frozen(dataset: Dataset, split: str) -> tuple[str, str, int, str]:
    """Path, sha256, rows and download name of one file of the dataset; 404 if it has no such file."""
    files: dict[str, tuple[str, str, int]] = {
        DatasetRow.Split.TRAINING: (dataset.training_file, dataset.sha256, dataset.training_rows),
        DatasetRow.Split.VALIDATION: (
            *(dataset.validation_file, dataset.validation_sha256),
            dataset.validation_rows,
        ),
    }
    relative, sha256, rows = files.get(split, ("", "", 0))
    if not relative:
        raise Http404(_("没有这个文件。"))
    return relative, sha256, rows, f"{dataset.name}-{dataset.version}-{split}.jsonl"


def build_mark(form: BuildForm, preview: Preview) -> str:
    """Marks the choices, the rows they give and the next version: after one build the mark no longer fits."""
    name, choices = form.cleaned_data["name"], form.choices
    newest = Dataset.objects.filter(name=name).order_by("-version").values_list("version", flat=True).first()
    keys = {"runs": [run.pk for run in choices["runs"]], "since": str(choices["since"])}
    return sign(choices | keys | {"name": name, "rows": preview.rows, "newest": newest})
