"""What stories are asked with: ingredients may be changed, a wording that was used becomes a new version."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Max
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from stories.admin.base import ListTitle
from stories.errors import BadIngredient
from stories.generation.prompts import render
from stories.models import Ingredient, Run, Story, Template
from stories.values.combos import clean_ingredient, make_combo


class IngredientForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic when it runs
    def clean(self) -> dict[str, object]:
        # Any: a form's values have the types of its fields.
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("axis") and cleaned.get("name"):
            try:
                cleaned["name"] = clean_ingredient(cleaned["name"], axis=cleaned["axis"])
            except BadIngredient as error:
                self.add_error("name", str(error))
        return cleaned


@admin.register(Ingredient)
class IngredientAdmin(ListTitle):
    form = IngredientForm
    list_display = ("name", "axis", "position")
    list_filter = ("axis",)
    search_fields = ("name",)
    fields = ("axis", "name", "position")


class TemplateForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic when it runs
    """A wording without the three placeholders would write the same story for every combo."""

    def clean_user(self) -> str:
        wording: str = self.cleaned_data["user"]
        missing = [name for name in ("{dynasty}", "{super_power}", "{story_type}") if name not in wording]
        if missing:
            raise ValidationError(_("用户消息里缺少 %(missing)s。"), params={"missing": "、".join(missing)})
        return wording


@admin.register(Template)
class TemplateAdmin(ListTitle):
    """Once a story was written with it, a template stays as it is; 新版本 begins with its words."""

    form = TemplateForm
    change_form_template = "admin/stories/template/change_form.html"
    list_display = ("__str__", "created_at")
    fields = ("name", "system", "user")
    readonly_fields = ("version", "created_at")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.preview_view)
        return [path("preview/", view, name="stories_template_preview"), *super().get_urls()]

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """The messages for one combo, as a part of the page; nothing is kept and no model is asked."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        form = PreviewForm(request.POST)
        # Any: what Django's templates and admin take: values of any type.
        context: dict[str, Any] = {"error": "" if form.is_valid() else _("内容太长了。")}
        if form.is_valid():
            try:
                context["asked"] = form.messages()
            except BadIngredient as error:
                context["error"] = str(error)
        return TemplateResponse(request, "admin/stories/template/_preview.html", context)

    def get_fields(self, request: HttpRequest, obj: Template | None = None) -> tuple[str, ...]:
        return ("name", "version", "system", "user", "created_at") if obj else self.fields

    # Any: what Django's templates and admin take: values of any type.
    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        number = request.GET.get("from", "")
        older = Template.objects.filter(pk=number).first() if number.isdecimal() else None
        return {"name": older.name, "system": older.system, "user": older.user} if older else {}

    def has_change_permission(self, request: HttpRequest, obj: Template | None = None) -> bool:
        return super().has_change_permission(request, obj) and not (obj and is_used(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Template | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Template, form: TemplateForm, change: bool) -> None:
        if not change:
            newest = Template.objects.filter(name=obj.name).aggregate(newest=Max("version"))["newest"]
            obj.version = (newest or 0) + 1
        super().save_model(request, obj, form, change)


class PreviewForm(forms.Form):
    """A combo and the words to show it in: those of the page, else those of a kept template."""

    dynasty = forms.CharField(required=False, max_length=100)
    super_power = forms.CharField(required=False, max_length=100)
    story_type = forms.CharField(required=False, max_length=100)
    system = forms.CharField(required=False, max_length=20_000)
    user = forms.CharField(required=False, max_length=20_000)
    template = forms.ModelChoiceField(Template.objects.all(), required=False)

    def messages(self) -> list[tuple[str, str]]:
        """What a model would be asked: (whose message, words). Raises `BadIngredient`."""
        data = self.cleaned_data
        combo = make_combo(data["dynasty"], data["super_power"], data["story_type"])
        kept: Template | None = data["template"]
        system, user = (kept.system, kept.user) if kept else (data["system"], data["user"])
        return [(str(_("系统消息")), render(system, combo)), (str(_("用户消息")), render(user, combo))]


def is_used(template: Template) -> bool:
    return Story.objects.filter(template=template).exists() or Run.objects.filter(template=template).exists()
