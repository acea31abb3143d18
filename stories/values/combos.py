"""A combo: dynasty × super power × story type, the ingredients of a story (beside the models)."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from sentences import Sentence
from sentences import sentence as _
from stories.errors import BadIngredient

MAX_LENGTH = 32
SEPARATORS = ",，"
AXES = ("dynasty", "super_power", "story_type")


@dataclass(frozen=True, order=True)
class Combo:
    """Three checked ingredients; written `唐,隐形,轻松`. Make one with `make_combo`."""

    dynasty: str
    super_power: str
    story_type: str

    def __str__(self) -> str:
        return f"{self.dynasty},{self.super_power},{self.story_type}"


def make_combo(dynasty: str, super_power: str, story_type: str) -> Combo:
    """A combo of three ingredients as a person typed them. Raises `BadIngredient`."""
    return Combo(
        clean_ingredient(dynasty, axis="dynasty"),
        clean_ingredient(super_power, axis="super_power"),
        clean_ingredient(story_type, axis="story_type"),
    )


def clean_ingredient(raw: str, *, axis: str) -> str:
    """The ingredient in NFC without spaces around it. Raises `BadIngredient`: empty, long, or unprintable."""
    text = unicodedata.normalize("NFC", raw).strip(" \u3000")
    label = axis_label(axis)
    if not text:
        raise BadIngredient(_("请填写%(axis)s。") % {"axis": label}, axis=axis)
    if len(text) > MAX_LENGTH:
        words = {"axis": label, "max": MAX_LENGTH, "length": len(text)}
        raise BadIngredient(_("%(axis)s最多 %(max)s 个字，这里有 %(length)s 个。") % words, axis=axis)
    for char in text:
        if char in SEPARATORS:
            raise BadIngredient(_("%(axis)s里不能有逗号。") % {"axis": label}, axis=axis)
        # Cc, Cf, Cs, Co, Cn: newlines, NUL, bidi controls, lone surrogates; Zl, Zp: line separators.
        if unicodedata.category(char)[0] == "C" or unicodedata.category(char) in ("Zl", "Zp"):
            raise BadIngredient(_("%(axis)s里不能有换行或控制字符。") % {"axis": label}, axis=axis)
    return text


def axis_label(axis: str) -> Sentence:
    """What a person calls an axis."""
    return {"dynasty": _("朝代"), "super_power": _("超能力"), "story_type": _("战斗")}[axis]


def multiply(dynasties: Iterable[str], powers: Iterable[str], types: Iterable[str]) -> Sequence[Combo]:
    """Every combo of three lists, doubled ingredients counted once. Raises `BadIngredient`."""
    axes = [
        list(dict.fromkeys(clean_ingredient(raw, axis=axis) for raw in values))
        for axis, values in zip(AXES, (dynasties, powers, types), strict=True)
    ]
    for axis, values in zip(AXES, axes, strict=True):
        if not values:
            raise BadIngredient(_("请填写%(axis)s。") % {"axis": axis_label(axis)}, axis=axis)
    return [Combo(*parts) for parts in product(*axes)]
