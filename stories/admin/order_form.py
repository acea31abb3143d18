"""The form that orders a run: known ingredients to tick, new ones to type, how many of which, and the limits."""

import re
from dataclasses import dataclass
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from stories.endpoint_checks import why_not
from stories.errors import BadIngredient, StoryError
from stories.generation.prompts import current_template
from stories.models import Ingredient, LanguageModel, Run
from stories.runs.coverage import SAMPLE, read_exclusions
from stories.runs.lifecycle import Estimate, estimate_run
from stories.runs.plan import MAX_STORIES, Cell, Grid, PlanSpec, check_plan, lay_out, plan_cells
from stories.values.combos import clean_ingredient, multiply
from stories.values.money import show, to_micros

AXIS_OF = {"dynasties": "dynasty", "powers": "super_power", "types": "story_type"}
SEPARATOR = re.compile(r"[,，、\s]+")


# Any: a lazy translation or a text, as Django's fields take them.
def _known(label: Any) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(label=label, required=False, widget=forms.CheckboxSelectMultiple)


# Any: a lazy translation or a text, as Django's fields take them.
def _new(label: Any) -> forms.CharField:
    return forms.CharField(label=label, required=False, max_length=1000)


class RunOrderForm(forms.Form):
    """After `is_valid()`: `order` for `order_run`, for a sample `sample_order`, and `quote()`."""

    dynasties, new_dynasties = _known(_("朝代")), _new(_("别的朝代"))
    powers, new_powers = _known(_("超能力")), _new(_("别的超能力"))
    types, new_types = _known(_("战斗")), _new(_("别的战斗"))
    excluded = forms.CharField(
        label=_("排除的配方"),
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=_("一行一个：朝代,超能力,战斗；任意的写 *，例如 唐,*,轻松。"),
    )
    cover = forms.ChoiceField(
        label=_("覆盖"),
        required=False,
        choices=Run.Cover.choices[:2],
        initial=Run.Cover.FULL,
        widget=forms.RadioSelect,
        help_text=_("两两覆盖：任意两样配料都至少一起出现一次，篇数少得多。"),
    )
    repeat = forms.IntegerField(
        label=_("每个配方写几篇"), min_value=1, max_value=MAX_STORIES, initial=3, required=False
    )
    target = forms.IntegerField(
        label=_("或者：每格补足到几篇采纳"),
        min_value=1,
        max_value=MAX_STORIES,
        required=False,
        help_text=_("填了就只补缺的，并按这一格的采纳率多写一些。"),
    )
    model = forms.ModelChoiceField(label=_("模型"), queryset=LanguageModel.objects.none(), empty_label=None)
    temperature = forms.FloatField(label=_("温度"), min_value=0, max_value=2, initial=0.5)
    is_batch = forms.BooleanField(
        label=_("半价批量"),
        required=False,
        help_text=_("半价，一天之内写完，写好的一起回来。"),
    )
    budget = forms.DecimalField(
        label=_("预算（美元）"),
        min_value=0,
        max_value=1_000_000,
        decimal_places=6,
        required=False,
        help_text=_("留空：预计费用的上限。花到这里就停。"),
    )

    # Any: handed on to Django as it came.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"label_suffix": "", **kwargs})
        known = list(Ingredient.objects.values_list("axis", "name"))
        for field, axis in AXIS_OF.items():
            names = [name for of, name in known if of == axis]
            self.fields[field].choices = [(name, name) for name in names]  # type: ignore[attr-defined]
        addresses = [place.base_url for place in settings.LLM_ENDPOINTS.values()]
        models = LanguageModel.objects.filter(base_url__in=addresses)
        self.fields["model"].queryset = models  # type: ignore[attr-defined]
        self.fields["model"].initial = models.filter(name=settings.OPENAI_MODEL).first()
        if absent := why_not(addresses, "batches"):
            self.fields["is_batch"].help_text = " ".join(map(str, absent.values()))
            self.fields["is_batch"].disabled = len(absent) == len(set(addresses))

    def clean(self) -> dict[str, object]:
        # Any: a form's values have the types of its fields.
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for field, axis in AXIS_OF.items():
            typed = [part for part in SEPARATOR.split(cleaned.get(f"new_{field}", "")) if part]
            try:
                names = [clean_ingredient(raw, axis=axis) for raw in typed]
                cleaned[field] = list(dict.fromkeys([*cleaned.get(field, []), *names]))
                multiply(*[cleaned[field] if name == field else ["·"] for name in AXIS_OF])
            except BadIngredient as error:
                self.add_error(f"new_{field}", str(error))
        if cleaned.get("repeat") is None and cleaned.get("target") is None and "repeat" not in self.errors:
            self.add_error("repeat", _("写明每个配方几篇，或每格补足到几篇。"))
        model = cleaned.get("model")
        if cleaned.get("is_batch") and model:
            for why in why_not([model.base_url], "batches").values():
                self.add_error("is_batch", str(why))
        try:
            cleaned["excluded"] = read_exclusions(cleaned.get("excluded", "").splitlines())
        except StoryError as error:
            self.add_error("excluded", str(error))
        return cleaned

    @property
    # Any: an order's fields, with the types of its form.
    def order(self) -> dict[str, Any]:
        """The keyword arguments of `order_run`, but for the person."""
        data = self.cleaned_data
        kept = (*AXIS_OF, "excluded", "target", "model", "temperature", "is_batch")
        order = {name: data[name] for name in kept}
        return order | {
            "cover": data["cover"] or Run.Cover.FULL.value,
            "repeat": data["repeat"] or 1,
            "budget": None if data["budget"] is None else to_micros(data["budget"]),
        }

    @property
    # Any: an order's fields, with the types of its form.
    def sample_order(self) -> dict[str, Any]:
        """Five stories of the same plan, to learn what one costs: now, so never in a batch."""
        few = {"cover": Run.Cover.SAMPLE.value, "repeat": 1, "target": None}
        return self.order | few | {"budget": None, "is_batch": False}

    @property
    # Any: what Django's templates and admin take: values of any type.
    def limits(self) -> list[Any]:
        """The fields about how many, by whom and for how much."""
        return [self[name] for name in ("repeat", "target", "model", "temperature", "is_batch", "budget")]

    @property
    # Any: what Django's templates and admin take: values of any type.
    def axes(self) -> list[tuple[Any, object]]:
        """The pairs of fields, to lay out."""
        return [(self[field], self[f"new_{field}"]) for field in AXIS_OF]

    def quote(self) -> "RunQuote":
        """The plan and its price. Raises `StoryError`."""
        order = self.order
        axes = tuple(order[axis] for axis in AXIS_OF)
        return RunQuote(*_price(order), sample=_price(self.sample_order)[1], axes=axes)


@dataclass(frozen=True)
class RunQuote:
    """What the first press shows: the cells, the price range, and the price of a sample."""

    cells: list[Cell]
    price: Estimate
    sample: Estimate
    axes: tuple[list[str], ...]

    @property
    def grid(self) -> Grid | None:
        return lay_out(self.cells, *self.axes)

    @property
    def offers_sample(self) -> bool:
        """Nothing is known of what this model's stories cost, and they do cost something."""
        return self.price.recorded < SAMPLE and bool(self.price.most) and self.price.stories > SAMPLE

    @property
    def likely(self) -> str:
        return show(self.price.likely)

    @property
    def most(self) -> str:
        return show(self.price.most)

    @property
    def sample_most(self) -> str:
        return show(self.sample.most)


# Any: an order's fields, with the types of its form.
def _price(order: dict[str, Any]) -> tuple[list[Cell], Estimate]:
    names = (*AXIS_OF, "repeat", "target", "cover", "excluded")
    cells = plan_cells(PlanSpec(**{name: order[name] for name in names}))
    check_plan(cells)
    options = {"model": order["model"], "template": current_template(), "is_batch": order["is_batch"]}
    return cells, estimate_run(cells, **options)
