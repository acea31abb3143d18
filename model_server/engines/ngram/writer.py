"""The writer of a tuned model: finds the ingredients, encodes the text so far, samples the rest, fills the slots."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..base import WriteOrder
from ..prompts import Ingredients, era, find_ingredients
from .encoding import (
    DYNASTY,
    NAME,
    POWER,
    TYPE,
    Fill,
    break_sign,
    decode,
    is_told_by_me,
    join,
    paragraphs_of,
    put_slots,
    split_paragraphs,
    start_sign,
    without,
)
from .model import NgramModel, load
from .names import candidates, is_surname, surname_of
from .sampling import sample_story

_NAME_COST = 3.0  # nats; a text must be likelier by so much with a name than without
_SURE = 0.3  # a half-written word is completed if its slot has at least this probability


class NgramWriter:
    """A loaded model that writes; safe in several threads, as writing changes nothing in it."""

    def __init__(self, model: NgramModel) -> None:
        self._model = model

    @classmethod
    def load(cls, path: Path) -> NgramWriter:
        """Reads the model's file."""
        return cls(load(path))

    def write(self, order: WriteOrder) -> Iterator[str]:
        """One piece: the whole text, or the rest of `order.written`."""
        memory = self._model.memory
        text = self._rest(order) if order.written.strip() else self._whole(order)
        if order.as_completion:
            text = ("" if order.written else memory.lead) + text + memory.stop
        if text:
            yield text

    def _whole(self, order: WriteOrder) -> str:
        rng = _random(order)
        fill = self._fill(find_ingredients(order.prompt), Fill(), rng)
        shapes = self._model.memory.shapes

        def begin() -> str:
            return rng.choices(list(shapes), list(shapes.values()))[0]

        rest = sample_story(self._model, begin, fill, order.sampling, rng)
        return decode(rest, fill)

    def _rest(self, order: WriteOrder) -> str:
        rng = _random(order)
        asked = find_ingredients(order.prompt)
        body = order.written.strip()
        paragraphs, found = self._slotted("\n".join(split_paragraphs(body)), asked)
        ended = order.written.endswith("\n")
        start = self._likeliest_start(paragraphs, min_paragraphs=len(paragraphs) + ended)
        before = start + join(paragraphs, start)
        fill = self._fill(asked, found, rng)
        before, fill, opening = self._finish_word(before, fill, found, rng)
        if ended:
            before += break_sign(start, len(paragraphs))
            opening = "" if order.written.endswith("\n\n") else "\n"
        rest = sample_story(self._model, lambda: before, fill, order.sampling, rng)
        return opening + decode(rest, fill)

    def _slotted(self, text: str, asked: Ingredients) -> tuple[list[str], Fill]:
        """The paragraphs of a text so far with slots; a name that occurs once is found by the text's probability."""
        slotted, found = put_slots(text, asked)
        if found.name is None:
            readings = [put_slots(text, asked, name=name) for name in candidates(without(text, asked))[0]]
            slotted, found = min([(slotted, found), *readings], key=lambda reading: self._loss(*reading))
        return slotted.split("\n"), found

    def _loss(self, slotted: str, found: Fill) -> float:
        paragraphs = slotted.split("\n")
        start = self._likeliest_start(paragraphs, min_paragraphs=len(paragraphs))
        return self._model.counts.score(start + join(paragraphs, start))[0] + _NAME_COST * (
            found.name is not None
        )

    def _likeliest_start(self, paragraphs: list[str], *, min_paragraphs: int) -> str:
        """The start sign that makes the text so far likeliest, of those with enough paragraphs."""
        shapes = self._model.memory.shapes
        fitting = [sign for sign in shapes if paragraphs_of(sign) >= min_paragraphs]
        if not fitting:
            return start_sign(told_by_me=is_told_by_me("\n".join(paragraphs)), paragraphs=min_paragraphs + 1)

        def loss(sign: str) -> float:
            return self._model.counts.score(sign + join(paragraphs, sign))[0] - math.log(shapes[sign])

        return min(fitting, key=loss)

    def _fill(self, asked: Ingredients, found: Fill, rng: random.Random) -> Fill:
        """What the slots stand for: as asked, as found in the text so far, else drawn from what training named."""
        memory = self._model.memory
        name, pronoun = self._hero(rng, prefix="", besides=asked.dynasty)
        if found.name:
            name, pronoun = found.name, found.pronoun or dict(memory.names).get(found.name)
        return Fill(
            dynasty=asked.dynasty or rng.choice(memory.dynasties or ["古"]),
            power=asked.power or rng.choice(memory.powers or ["飞行"]),
            story_type=asked.story_type or rng.choice(memory.story_types or ["努力"]),
            name=name,
            pronoun=found.pronoun or pronoun or rng.choice("他她"),
        )

    def _hero(self, rng: random.Random, *, prefix: str, besides: str | None) -> tuple[str | None, str | None]:
        """A new hero: the surname of one in the training lines, the given name and pronoun of another."""
        names = self._model.memory.names
        if not names:
            return None, None
        surnames = sorted({surname_of(name) for name, _ in names} - {besides})
        name, pronoun = rng.choice(names)
        given = name[len(surname_of(name)) :]
        if prefix:
            return prefix + given[len(prefix) - len(surname_of(prefix)) :], pronoun
        return rng.choice(surnames or [surname_of(name)]) + given, pronoun

    def _finish_word(self, before: str, fill: Fill, found: Fill, rng: random.Random) -> tuple[str, Fill, str]:
        """If the text so far ends within a slot's word: (text with the slot, fill, the missing end of the word)."""
        dynasty = era(fill.dynasty or "")
        values = ((POWER, fill.power), (TYPE, fill.story_type), (NAME, found.name), (DYNASTY, dynasty))
        for slot, value in values:
            for size in range(len(value or "") - 1, 0, -1):
                if value and before.endswith(value[:size]) and self._expects(before[:-size], slot):
                    return before[:-size] + slot, fill, value[size:]
        for size in (2, 1) if not found.name else ():
            tail = before[-size:]
            if is_surname(tail[0]) and self._expects(before[:-size], NAME):
                name, pronoun = self._hero(rng, prefix=tail, besides=None)
                if name and len(name) > size:
                    pronoun = found.pronoun or pronoun or fill.pronoun
                    return before[:-size] + NAME, replace(fill, name=name, pronoun=pronoun), name[size:]
        return before, fill, ""

    def _expects(self, context: str, slot: str) -> bool:
        return self._model.counts.distribution(context).get(slot, 0.0) > _SURE


def _random(order: WriteOrder) -> random.Random:
    if order.seed is None:
        return random.Random()
    return random.Random(f"{order.seed}|{order.prompt}|{order.written}")
