"""What a reader may send: the ingredients of a story, what to look for in the library, a report."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stories.errors import BadIngredient
from stories.library.pages import Order
from stories.models import Ingredient, Reaction
from stories.values.combos import AXES, MAX_LENGTH, Combo, axis_label, clean_ingredient

MAX_WORDS = 5


@dataclass(frozen=True)
class Chip:
    """A known ingredient to press."""

    name: str
    checked: bool


@dataclass(frozen=True)
class Picker:
    """One axis on the page: its chips, and what was typed beside them."""

    axis: str
    label: str
    hint: str
    chips: list[Chip]
    typed: str
    errors: list[str]


class ChipOrTyped(forms.TextInput):
    """Reads the text named like the field; where it is empty, the chip named `<field>_chip`."""

    # Any: a QueryDict, or another mapping of a form's input.
    def value_from_datadict(self, data: Any, files: object, name: str) -> str:
        typed: str = data.get(name, "")
        chip: str = data.get(f"{name}_chip", "")
        return typed if typed.strip() else chip


class IngredientField(forms.Field):
    """An ingredient, checked where all ingredients are checked."""

    widget = ChipOrTyped

    def __init__(self, *, axis: str) -> None:
        super().__init__()
        self.axis = axis

    def clean(self, value: str | None) -> str:
        try:
            return clean_ingredient(value or "", axis=self.axis)
        except BadIngredient as error:
            raise forms.ValidationError(str(error)) from error


class AskForm(forms.Form):
    """Three free texts: `dynasty`, `super_power`, `story_type`."""

    dynasty = IngredientField(axis="dynasty")
    super_power = IngredientField(axis="super_power")
    story_type = IngredientField(axis="story_type")

    @property
    def combo(self) -> Combo:
        """The combo of a valid form."""
        return Combo(*(self.cleaned_data[axis] for axis in AXES))

    def pickers(self) -> Iterator[Picker]:
        """The three axes as the page shows them."""
        known = known_ingredients()
        hints = {"dynasty": _("或自己写，如 战国"), "super_power": _("或自己写，如 呼风唤雨")}
        hints["story_type"] = _("或自己写，如 惊险")
        for axis in AXES:
            field = self[axis]
            value = field.value() or ""
            yield Picker(
                axis=axis,
                label=str(axis_label(axis)),
                hint=hints[axis],
                chips=[Chip(name, checked=name == value) for name in known[axis]],
                typed="" if value in known[axis] else value,
                errors=[str(error) for error in field.errors],
            )


@dataclass(frozen=True)
class LibrarySearch:
    """What a reader looks for in the library. `query` is what they typed, `words` what is looked for."""

    query: str
    words: list[str]
    ingredients: dict[str, str]
    order: str

    @property
    def is_any(self) -> bool:
        """Whether the whole library is meant."""
        return not self.words and not self.ingredients


class LibraryForm(forms.Form):
    """The library's address. Unreadable values are left out: nobody fills an address in, so it shows no errors."""

    q = forms.CharField(required=False, max_length=60)
    dynasty = forms.CharField(required=False, max_length=MAX_LENGTH)
    super_power = forms.CharField(required=False, max_length=MAX_LENGTH)
    story_type = forms.CharField(required=False, max_length=MAX_LENGTH)
    order = forms.ChoiceField(required=False, choices=Order.choices)

    @property
    def search(self) -> LibrarySearch:
        self.is_valid()
        read = self.cleaned_data
        query: str = read.get("q", "")
        return LibrarySearch(
            query=query,
            words=query.split()[:MAX_WORDS],
            ingredients={axis: read[axis] for axis in AXES if read.get(axis)},
            order=read.get("order") or Order.NEWEST,
        )


class ReportForm(forms.Form):
    """Why a story is reported, and which passage is meant."""

    # Who chooses nothing must not claim a grave cause, which can hide a story at once.
    cause = forms.ChoiceField(
        label=gettext_lazy("缘由"), choices=Reaction.Cause.choices, initial=Reaction.Cause.OTHER
    )
    passage = forms.CharField(label=gettext_lazy("有问题的段落"), required=False, max_length=1000)
    reason = forms.CharField(label=gettext_lazy("还想说的"), required=False, max_length=500)


def known_ingredients() -> dict[str, list[str]]:
    """The names of each axis, in the editors' order."""
    known: dict[str, list[str]] = {axis: [] for axis in AXES}
    for axis, name in Ingredient.objects.order_by("position", "pk").values_list("axis", "name"):
        known[axis].append(name)
    return known


def surprise() -> dict[str, str]:
    """One known ingredient of each axis, at random; {} for an axis without any."""
    return {axis: random.choice(names) for axis, names in known_ingredients().items() if names}
