"""The part of a language model's page that says how the model is asked."""

import json
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from llm.dialects import (
    DEVELOPER,
    LENGTH_NAMES,
    MAX_TOKENS,
    NONE,
    OPTIONAL,
    SYSTEM,
    USER,
    BadDialect,
    Dialect,
    family_of,
    read_dialect,
)
from stories.models import LanguageModel

FIELDS = ("length_name", "max_length", "allowance", "omits", "system", "extra")
ROLES = (
    (SYSTEM, _("系统消息（system）")),
    (DEVELOPER, _("开发者消息（developer）")),
    (USER, _("放在用户消息前面")),
    (NONE, _("不发")),
)


class LanguageModelForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic when it runs
    """A model's page. `dialect_settings` is what it says of the dialect: None for that of its family."""

    length_name = forms.ChoiceField(
        label=_("长度上限叫什么"),
        required=False,
        choices=[(name, name or _("不发")) for name in LENGTH_NAMES],
    )
    max_length = forms.IntegerField(
        label=_("长度上限最高"),
        required=False,
        min_value=1,
        max_value=MAX_TOKENS,
        help_text=_("词元；空白表示不知道"),
    )
    allowance = forms.IntegerField(
        label=_("思考余量"),
        required=False,
        min_value=0,
        max_value=MAX_TOKENS,
        help_text=_("词元。会思考的模型，思考也算在长度上限里：故事之外再给它这么多。预留的钱随之增加。"),
    )
    omits = forms.MultipleChoiceField(
        label=_("不发的参数"),
        required=False,
        choices=[(name, name) for name in OPTIONAL],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("它不收的参数。不发 temperature 时，批次的温度不起作用。"),
    )
    system = forms.ChoiceField(label=_("系统消息放在哪里"), required=False, choices=ROLES)
    extra = forms.CharField(
        label=_("另外要发的内容"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        help_text=_('JSON 对象，如 {"enable_thinking": false}；空白表示没有'),
    )
    by_family = forms.BooleanField(
        label=_("恢复已知的问法"),
        required=False,
        help_text=_("勾上再保存：不管上面写了什么，照这一类模型已知的问法来问。"),
    )
    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = LanguageModel
        fields = ()

    # Any: Django's own signature.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        model = self.instance
        if model.pk is None:
            return
        dialect = model.dialect
        self.initial.update({name: getattr(dialect, name) for name in FIELDS})
        self.initial.update(
            {
                "omits": sorted(dialect.omits),
                "extra": json.dumps(dict(dialect.extra), ensure_ascii=False) if dialect.extra else "",
                "seen_version": model.dialect_version,
            }
        )

    def clean_extra(self) -> object:
        text = self.cleaned_data["extra"].strip()
        try:
            return json.loads(text) if text else {}
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(_("这不是 JSON：请写一个对象，或留空。")) from error

    def clean(self) -> dict[str, Any]:  # Any: as Django has it
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors or "seen_version" not in self.data:
            return cleaned
        said = {name: cleaned[name] for name in FIELDS if cleaned[name] not in (None, "")}
        try:
            cleaned["dialect"] = None if cleaned["by_family"] else read_dialect(said | self._unlimited())
        except BadDialect as error:
            self.add_error("extra", str(error.args[0]))
        return cleaned

    def _unlimited(self) -> dict[str, str]:
        return {} if self.cleaned_data["length_name"] else {"length_name": ""}

    @property
    def wanted_settings(self) -> object:
        """What the row is to hold; the settings that it has where the page changes nothing."""
        dialect: Dialect | None = self.cleaned_data["dialect"]
        if dialect is None:
            return None
        return self.instance.dialect_settings if dialect == self.instance.dialect else dialect.as_json()


def describe(model: LanguageModel) -> str:
    """Whose dialect a model has: its family's title, or that it has one of its own."""
    if model.dialect_settings is not None:
        return str(_("自己的"))
    family = family_of(model.base or model.name, model.base_url)
    return family.title if family else str(_("通常的"))
