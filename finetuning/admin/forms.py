"""The forms that build a dataset and order a job."""

from typing import Any

from django import forms
from django.conf import settings
from django.db.models import Count, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from finetuning import training
from finetuning.datasets import Preview, preview_dataset
from finetuning.models import Dataset
from stories.endpoint_checks import why_not
from stories.models import LanguageModel, Run, Story

MAX_RUNS = 60


class RunChoices(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # no generic when it runs
    """Runs, each with what it can give."""

    # Any: what Django's templates and admin take: values of any type.
    def label_from_instance(self, obj: Any) -> str:
        words = {"run": obj, "dynasties": "、".join(obj.dynasties[:3]), "approved": obj.approved}
        return _("%(run)s · %(dynasties)s… · 采纳 %(approved)s 篇") % words


class BuildForm(forms.Form):
    """After `is_valid()`: `choices` for `build_dataset`, and `preview()`."""

    name = forms.CharField(label=gettext_lazy("名称"), max_length=60, initial="奥特曼")
    format = forms.ChoiceField(
        label=gettext_lazy("格式"), choices=Dataset.Format.choices, initial=Dataset.Format.CHAT
    )
    since = forms.ModelChoiceField(
        label=gettext_lazy("只要这个数据集之后的"),
        queryset=Dataset.objects.all(),
        required=False,
        empty_label=gettext_lazy("不限"),
        help_text=gettext_lazy("继续训练时用：已在这个数据集（和它之前的）里的故事不再放进去。"),
    )
    runs = RunChoices(
        label=gettext_lazy("批次"),
        queryset=Run.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("一个都不选就是全部已采纳的故事。"),
    )

    # Any: handed on to Django as it came.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        approved = Count("stories", filter=Q(stories__verdict=Story.Verdict.APPROVED))
        newest = Run.objects.annotate(approved=approved).filter(approved__gt=0).values("pk")[:MAX_RUNS]
        # Any: a form's values have the types of its fields.
        field: Any = self.fields["runs"]
        field.queryset = Run.objects.filter(pk__in=list(newest.values_list("pk", flat=True))).annotate(
            approved=approved
        )

    @property
    # Any: an order's fields, with the types of its form.
    def choices(self) -> dict[str, Any]:
        """The keyword arguments of `build_dataset`."""
        cleaned = self.cleaned_data
        return {"runs": list(cleaned["runs"]), "since": cleaned["since"], "format": cleaned["format"]}

    def preview(self) -> Preview:
        return preview_dataset(**self.choices)


class JobOrderForm(forms.Form):
    """After `is_valid()`: `order` for `order_job`."""

    dataset = forms.ModelChoiceField(
        label=gettext_lazy("数据集"), queryset=Dataset.objects.all(), empty_label=None
    )
    model = forms.ModelChoiceField(
        label=gettext_lazy("起点模型"),
        queryset=LanguageModel.objects.none(),
        empty_label=None,
        help_text=gettext_lazy("选基础模型从头训练，选训练过的模型就是继续训练。"),
    )
    suffix = forms.CharField(label=gettext_lazy("后缀"), max_length=64, initial="ultraman")
    epochs = forms.IntegerField(
        label=gettext_lazy("轮数"),
        min_value=1,
        max_value=50,
        required=False,
        initial=4,
        help_text=gettext_lazy("留空：自动。"),
    )
    batch_size = forms.IntegerField(
        label=gettext_lazy("批大小"),
        min_value=1,
        max_value=256,
        required=False,
        help_text=gettext_lazy("留空：自动。"),
    )
    learning_rate_multiplier = forms.FloatField(
        label=gettext_lazy("学习率倍数"),
        min_value=0.0001,
        max_value=100,
        required=False,
        help_text=gettext_lazy("留空：自动。继续训练常用 0.2，新数据少时可以大些。"),
    )

    # Any: handed on to Django as it came.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        addresses = [place.base_url for place in settings.LLM_ENDPOINTS.values()]
        retired = Q(shutdown_date__lte=timezone.localdate())
        models = LanguageModel.objects.filter(base_url__in=addresses).exclude(retired)
        # Any: a form's values have the types of its fields.
        field: Any = self.fields["model"]
        field.queryset = models
        if absent := why_not(addresses, "fine_tuning"):
            field.help_text = " ".join([str(field.help_text), *map(str, absent.values())])
        if "model" not in self.initial:
            field.initial = models.filter(name=settings.FINE_TUNE_BASE_MODEL).first()

    def clean_model(self) -> LanguageModel:
        model: LanguageModel = self.cleaned_data["model"]
        for why in why_not([model.base_url], "fine_tuning").values():
            raise forms.ValidationError(str(why))
        return model

    @property
    def asked(self) -> training.Hyperparameters:
        cleaned = self.cleaned_data
        return training.Hyperparameters(
            cleaned["epochs"], cleaned["batch_size"], cleaned["learning_rate_multiplier"]
        )

    @property
    # Any: an order's fields, with the types of its form.
    def order(self) -> dict[str, Any]:
        """The arguments of `order_job`, but for the person."""
        chosen = {name: self.cleaned_data[name] for name in ("dataset", "model", "suffix")}
        return chosen | {"asked": self.asked}
