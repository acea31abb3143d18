"""What each endpoint can do, found out on a trainer's word."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stories.admin.base import PageAdmin, check_permission, page_context
from stories.endpoint_checks import LABELS, VERDICTS, check_endpoint, price_of, trial_model
from stories.models import EndpointCheck
from stories.values.money import show

CHECK = "stories.promote_languagemodel"
"""The permission of whoever may pay for a check: the trainers'."""


class CheckForm(forms.Form):
    alias = forms.ChoiceField(label=gettext_lazy("接入点"))

    # Any: handed on to Django as it came.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"label_suffix": "", **kwargs})
        places = settings.LLM_ENDPOINTS.values()
        field: Any = self.fields["alias"]  # Any: a choice field, which the form's type does not say
        field.choices = [(place.alias, f"{place.alias} · {place.base_url}") for place in places]


@admin.register(EndpointCheck)
class EndpointCheckAdmin(PageAdmin):
    list_display = ("alias", "base_url", "model_name", "checked_by", "checked_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(CHECK)

    def order_page(self, request: HttpRequest) -> HttpResponse:
        """The first press names the price; the second, of the same endpoint at the same price, checks it."""
        person = check_permission(request, CHECK)
        form = CheckForm(request.POST or None, initial={"alias": request.GET.get("alias", "default")})
        quote = None
        if request.method == "POST" and form.is_valid():
            with self.errors_as_messages(request):
                alias = form.cleaned_data["alias"]
                model = trial_model(alias)
                quote = {"alias": alias, "model": model, "price": show(price_of(model))}
                if request.POST.get("confirm") == f"{alias} {quote['price']}":
                    check = check_endpoint(alias, by=person, model=model)
                    page = reverse("admin:stories_endpointcheck_change", args=[check.pk])
                    return HttpResponseRedirect(page)
        context = page_context(self, request, title=_("检查接入点"), form=form, quote=quote)
        return TemplateResponse(request, "admin/stories/endpointcheck/order.html", context)

    def row_page(self, request: HttpRequest, check: EndpointCheck, /) -> HttpResponse:
        findings = [
            finding | {"label": LABELS[finding["name"]], "shown": VERDICTS[finding["verdict"]]}
            for finding in check.findings
        ]
        title = _("接入点 %(alias)s") % {"alias": check.alias}
        context = page_context(self, request, title=title, check=check, findings=findings)
        return TemplateResponse(request, "admin/stories/endpointcheck/change.html", context)
