"""The admin's frame: its apps and models in the order of the work, not of the alphabet.

Named by `ultraman_site/apps.py`; imports no model, because Django makes it before they are registered.
"""

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

APPS = ("stories", "finetuning")
MODELS = (
    *("Story", "Run", "LanguageModel", "Ingredient", "Template", "Review", "Reaction", "Attempt", "SpendDay"),
    *("ProviderAccount", "BatchOrder", "ImportedFile", "AuditEntry"),
    *("Dataset", "Job"),
)


def _place(order: tuple[str, ...], name: str) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


class EditorialSite(admin.AdminSite):
    site_header = _("奥特曼故事 · 编辑部")
    site_title = _("编辑部")
    index_title = _("今天的工作")

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[object]:
        apps = super().get_app_list(request, app_label)
        for app in apps:
            app["models"].sort(key=lambda model: _place(MODELS, model["object_name"]))
        return sorted(apps, key=lambda app: _place(APPS, app["app_label"]))
