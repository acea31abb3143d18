"""The page on which staff correct what a settled call, or job, has cost: shown first, done by a second press."""

from collections.abc import Callable
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stories.admin.audit import EntryWords
from stories.admin.base import ReadOnlyAdmin, check_permission, find_or_404, page_context
from stories.errors import StoryError
from stories.generation import corrections
from stories.operations import audit
from stories.values.money import MICRO, show, to_micros


class CorrectionForm(forms.Form):
    """`seen` is what the person's page showed: a row that changed since is not corrected."""

    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    price = forms.DecimalField(
        label=gettext_lazy("账单上的费用（美元）"),
        min_value=0,
        max_value=corrections.MAX_PRICE // int(MICRO),
        decimal_places=6,
        help_text=gettext_lazy("对方为这一次实际收了多少；没有收就填 0。"),
    )
    reason = forms.CharField(
        label=gettext_lazy("理由"),
        max_length=corrections.MAX_REASON,
        help_text=gettext_lazy("例如账单的编号和日期；会和您的名字一起记下来。"),
    )

    @classmethod
    # Any: a QueryDict, or another mapping of a form's input.
    def about(cls, row: object, data: Any = None) -> "CorrectionForm":
        form = cls(data or None, initial={"seen": mark_of(row)}, label_suffix="")
        form.row = row
        return form

    # Any: a row or value of more than one model.
    row: Any

    def clean_seen(self) -> str:
        seen: str = self.cleaned_data["seen"]
        if seen != mark_of(self.row):
            raise forms.ValidationError(_("您打开这一页之后，刚刚有人改过：请看过下面的记录再更正。"))
        return seen

    @property
    def price_micros(self) -> int:
        return to_micros(self.cleaned_data["price"])


# Any: a row or value of more than one model.
def mark_of(row: Any) -> str:
    """The values that a correction starts from, as the page's `seen`."""
    return f"{row.state}/{row.price}/{row.corrected_at}"


class CorrectableAdmin(ReadOnlyAdmin):
    """Rows with `is_settled`, `price`, `reserved`, `doubt`, `corrected_at`; `correct` is the domain's function."""

    correct_permission: ClassVar[str]
    correct: ClassVar[Callable[..., None]]
    errors: ClassVar[tuple[type[Exception], ...]] = (StoryError,)
    change_form_template = "admin/stories/correctable.html"

    @admin.display(description=gettext_lazy("账单"), ordering="doubt")
    # Any: a row or value of more than one model.
    def doubt_shown(self, row: Any) -> str:
        """One word for the list; the whole sentence stands on the row's page."""
        if row.corrected_at:
            return _("已更正")
        return _("存疑") if row.doubt else ""

    # Any: a row or value of more than one model.
    def correct_url(self, row: Any) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_correct", args=[row.pk])

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.correct_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_correct"
        return [path("<int:pk>/correct/", view, name=name), *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        # Any: what Django's templates and admin take: values of any type.
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        # Any: a row or value of more than one model.
        row: Any = self.get_object(request, object_id)
        more = dict(extra_context or {})
        if row is not None and row.is_settled and request.user.has_perm(self.correct_permission):
            more["correct_url"] = self.correct_url(row)
        return super().change_view(request, object_id, form_url, more)

    def correct_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A first press shows what would change, a second one does it."""
        person = check_permission(request, self.correct_permission)
        row = find_or_404(self, request, str(pk))
        back = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])
        if not row.is_settled:
            messages.error(request, _("还没有结算，不能更正费用。"))
            return HttpResponseRedirect(back)
        form = CorrectionForm.about(row, request.POST if request.method == "POST" else None)
        is_shown = form.is_bound and form.is_valid()
        if is_shown and "confirm" in request.POST and self._correct(request, form, by=person):
            return HttpResponseRedirect(back)
        context = page_context(
            self,
            request,
            title=_("更正费用"),
            row=row,
            back=back,
            form=form,
            mark=mark_of(row),
            before=show(row.price),
            reserved=show(row.reserved),
            after=show(form.price_micros) if is_shown and not form.errors else "",
            entries=[EntryWords(entry) for entry in audit.entries_about(row)],
        )
        return TemplateResponse(request, "admin/stories/correct.html", context)

    def _correct(self, request: HttpRequest, form: CorrectionForm, *, by: User) -> bool:
        before = show(form.row.price)
        try:
            type(self).correct(
                form.row, price=form.price_micros, by=by, reason=form.cleaned_data["reason"].strip()
            )
        except self.errors as error:
            form.add_error(None, str(error))
            return False
        words = {"row": form.row, "before": before, "after": show(form.price_micros)}
        messages.success(request, _("%(row)s 的费用从 %(before)s 更正为 %(after)s。") % words)
        return True
