"""Language models: which one writes for readers, what they cost, where they come from."""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import BooleanField, Case, Q, QuerySet, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stories.admin.base import ListTitle, check_permission, find_or_404, page_context
from stories.admin.dialects import FIELDS as DIALECT_FIELDS
from stories.admin.dialects import LanguageModelForm, describe
from stories.dialects import set_dialect
from stories.errors import StoryError
from stories.language_models import prices_of, reprice
from stories.models import LanguageModel
from stories.promotion import Promotion, promote, warn_of_shutdown

MAX_LESSONS_SHOWN = 10


@admin.register(LanguageModel)
class LanguageModelAdmin(ListTitle):
    change_form_template = "admin/stories/languagemodel/change_form.html"
    form = LanguageModelForm
    list_display = ("name", "in_use", "prompt_style", "parent", "prices", "shutdown_date")
    list_filter = ("prompt_style", "endpoint")
    list_select_related = ("parent",)
    search_fields = ("name", "base")
    readonly_fields = (
        *("name", "endpoint", "base_url", "base", "parent", "prompt_style", "system_message", "stop"),
        *("promoted_at", "created_at", "dialect_shown"),
    )
    fieldsets = (
        (None, {"fields": ("name", "base", "parent", "endpoint", "base_url", "promoted_at", "created_at")}),
        (
            gettext_lazy("怎么提问"),
            {"fields": ("prompt_style", "system_message", "stop", "opens_in_thinking")},
        ),
        (
            gettext_lazy("接口方言"),
            {
                "fields": ("dialect_shown", *DIALECT_FIELDS, "by_family", "seen_version"),
                "description": gettext_lazy(
                    "各家服务对 OpenAI 的协议各有改动：参数叫什么、收不收，系统消息放在哪里。本站按已知的来问；"
                    "被拒绝而对方说明了原因时，会自己学着改（被拒绝的调用不收钱），学到的列在这里。"
                ),
            },
        ),
        (
            gettext_lazy("价格（每百万词元，美元；空白表示未知，缓存输入价空白表示与输入价相同）"),
            {
                "fields": (
                    "input_price",
                    "cached_input_price",
                    "output_price",
                    "training_price",
                    "shutdown_date",
                )
            },
        ),
    )

    @admin.display(description=gettext_lazy("读者的故事"))
    def in_use(self, model: object) -> str:
        context = {"model": model}
        return render_to_string("admin/stories/languagemodel/_in_use.html", context)

    @admin.display(description=gettext_lazy("输入 / 输出 / 训练价"), empty_value="?")
    def prices(self, model: LanguageModel) -> str:
        amounts = (model.input_price, model.output_price, model.training_price)
        return " / ".join("?" if amount is None else f"{amount.normalize():f}" for amount in amounts)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LanguageModel]:
        """With `is_serving`; until a first promotion that is the base model of the settings."""
        newest = LanguageModel.objects.promoted().values("pk")[:1]
        serving = Q(pk__in=newest)
        if not LanguageModel.objects.promoted().exists():
            serving = Q(name=settings.OPENAI_MODEL, base_url=settings.LLM_ENDPOINTS["default"].base_url)
        is_serving = Case(When(serving, then=True), default=False, output_field=BooleanField())
        models: QuerySet[LanguageModel] = super().get_queryset(request)
        return models.annotate(is_serving=is_serving)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LanguageModel | None = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: LanguageModel, form: LanguageModelForm, change: bool
    ) -> None:
        """What is changed here: prices by the domain, which writes down who; the date; how answers begin."""
        reprice(obj, prices_of(obj), by=check_permission(request, "stories.change_languagemodel"))
        obj.save(update_fields=["shutdown_date", "opens_in_thinking"])
        self._save_dialect(request, obj, form)

    def _save_dialect(self, request: HttpRequest, model: LanguageModel, form: LanguageModelForm) -> None:
        if "dialect" not in form.cleaned_data:
            return
        wanted = form.wanted_settings
        # The version that the page showed: what was learnt since is not overwritten.
        model.dialect_version = form.cleaned_data["seen_version"] or 0
        try:
            set_dialect(model, wanted, by=check_permission(request, "stories.change_languagemodel"))
        except StoryError as error:
            messages.error(request, str(error))

    @admin.display(description=gettext_lazy("现在的问法"))
    def dialect_shown(self, model: LanguageModel) -> str:
        context = {"whose": describe(model), "lessons": model.lessons.all()[:MAX_LESSONS_SHOWN]}
        return render_to_string("admin/stories/languagemodel/_lessons.html", context)

    # Any: Django's own signature; it wants the fields in a form that mypy cannot follow.
    def get_fieldsets(self, request: HttpRequest, obj: LanguageModel | None = None) -> Any:
        """Who may only look sees the dialect in words, without the fields of the form."""
        if self.has_change_permission(request, obj):
            return self.fieldsets
        hidden = {*DIALECT_FIELDS, "by_family", "seen_version"}
        return [
            (title, more | {"fields": tuple(name for name in more["fields"] if name not in hidden)})
            for title, more in self.fieldsets
        ]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.promote_view)
        name = "stories_languagemodel_promote"
        return [path("<int:pk>/promote/", view, name=name), *super().get_urls()]

    def promote_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks first; a POST tries the model with one call, and makes it the serving one if it answers."""
        person = check_permission(request, "stories.promote_languagemodel")
        model = find_or_404(self, request, str(pk))
        if request.method != "POST":
            serving = LanguageModel.objects.promoted().first() or settings.OPENAI_MODEL
            context = page_context(
                self,
                request,
                title=_("启用模型"),
                model=model,
                serving=serving,
                warning=warn_of_shutdown(model),
            )
            return TemplateResponse(request, "admin/stories/languagemodel/promote.html", context)
        try:
            self._say_promoted(request, model, promote(model, by=person))
        except StoryError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.path)
        return HttpResponseRedirect(reverse("admin:stories_languagemodel_changelist"))

    def _say_promoted(self, request: HttpRequest, model: LanguageModel, done: Promotion) -> None:
        words = {"name": model, "previous": done.previous or "—", "answer": done.answer}
        if not done.answer:
            messages.info(request, _("「%(name)s」已经在用了。") % words)
            return
        messages.success(request, _("读者的故事现在由「%(name)s」来写，之前是「%(previous)s」。") % words)
        messages.success(request, _("它试着答了：「%(answer)s」") % words)
        if warning := warn_of_shutdown(model):
            messages.warning(request, warning)
