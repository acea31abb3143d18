"""The imported files: how far each is, and what became of it."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from stories.admin.base import PageAdmin, find_or_404, page_context
from stories.models import ImportedFile


@admin.register(ImportedFile)
class ImportedFileAdmin(PageAdmin):
    list_display = ("__str__", "state", "rows", "approved", "by", "error", "created_at", "published_at")
    list_filter = ("state",)
    list_select_related = ("by",)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        progress = path("<int:pk>/progress/", view(self.progress_view), name="stories_importedfile_progress")
        return [progress, *super().get_urls()]

    def row_page(self, request: HttpRequest, imported: ImportedFile, /) -> HttpResponse:
        context = page_context(self, request, title=str(imported), imported=imported)
        return TemplateResponse(request, "admin/stories/importedfile/change.html", context)

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that renews itself."""
        imported = find_or_404(self, request, str(pk))
        return TemplateResponse(request, "admin/stories/importedfile/_progress.html", {"imported": imported})
