"""Accounts at providers: which are empty, and a trainer's word that one was paid."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from stories.admin.base import ReadOnlyAdmin, check_permission, find_or_404
from stories.models import ProviderAccount
from stories.provider_accounts import say_paid

PAY = "stories.promote_languagemodel"
"""The permission of whoever may have an empty account asked again without starting a run: the trainers'."""


@admin.register(ProviderAccount)
class ProviderAccountAdmin(ReadOnlyAdmin):
    list_display = fields = ("base_url", "out_of_money_since", "words", "next_probe_at", "paid_at")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.paid_view)
        return [path("<int:pk>/paid/", view, name="stories_provideraccount_paid"), *super().get_urls()]

    def paid_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        person = check_permission(request, PAY)
        account = find_or_404(self, request, str(pk))
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if say_paid(account.base_url, by=person):
            messages.success(
                request, _("又可以问 %(url)s 了。暂停的批次请按「接着写」。") % {"url": account.base_url}
            )
        else:
            messages.info(request, _("%(url)s 已经可以问了。") % {"url": account.base_url})
        return HttpResponseRedirect(reverse("admin:index"))
