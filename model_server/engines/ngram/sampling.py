"""Draws a story from a model: sentence by sentence, and then the best of a few stories.

The tokens are real samples from the model's distribution at the asked temperature and top_p. Two documented choices are
made on top: a sentence with a fault is drawn again up to SENTENCE_TRIES times, and of up to STORY_TRIES stories the
first without a fault, else the one with the least, is taken.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from .counts import LONGEST
from .encoding import BREAKS, END, NAME, SOFT, Fill, Place, place_after
from .model import NgramModel, fingerprint

SENTENCE_TRIES = 5
STORY_TRIES = 8
_LONGEST_SENTENCE = 120
_LONGEST_STORY = 4000
_LIVELIER = 0.4  # temperature at least, when a sentence came out as one that was there already
_CLOSES = re.compile(f"{BREAKS.pattern}|{SOFT.pattern}|{END}")


@dataclass(frozen=True)
class Dials:
    """Temperature 0 to 2 and top_p 0 to 1, as asked."""

    temperature: float
    top_p: float


def tell(model: NgramModel, begin: Callable[[], str], fill: Fill, dials: Dials, rng: random.Random) -> str:
    """The rest of a slotted story, without END, after what `begin()` says: a start sign, or the text so far.

    Each try begins anew: a plan that was learnt from a text that broke off cannot hold a whole story.
    """
    best, least = "", float("inf")
    for _ in range(STORY_TRIES):
        before = begin()
        rest = _story(model, before, fill, dials, rng)
        faults = _story_faults(model, before, rest, fill)
        if faults < least:
            best, least = rest, faults
        if least == 0:
            break
    return best.removesuffix(END)


def _story(model: NgramModel, before: str, fill: Fill, dials: Dials, rng: random.Random) -> str:
    rest = ""
    longest = min(_LONGEST_STORY, int(max(model.memory.lengths, default=400) * 1.2))
    while not rest.endswith(END) and len(before) + len(rest) < longest:
        rest += _best_sentence(model, before + rest, fill, dials, rng)
    return rest


def _best_sentence(model: NgramModel, text: str, fill: Fill, dials: Dials, rng: random.Random) -> str:
    best, least = "", float("inf")
    for _ in range(SENTENCE_TRIES):
        sentence = _sentence(model, text, dials, rng)
        repeated = len(sentence) > 8 and _CLOSES.sub("", sentence) in text
        if repeated:
            dials = Dials(max(dials.temperature, _LIVELIER), dials.top_p)
        faults = 4 * repeated + model.memory.foreign(text[-4:] + sentence, fill) + 3 * _unbalanced(sentence)
        if faults < least:
            best, least = sentence, faults
        if least == 0:
            break
    return best


def _sentence(model: NgramModel, text: str, dials: Dials, rng: random.Random) -> str:
    """Tokens up to a soft sign, a paragraph break, or END."""
    sentence, place = "", place_after(text)
    while len(sentence) < _LONGEST_SENTENCE and not _CLOSES.fullmatch(sentence[-1:]):
        chances = model.counts.distribution(text[-LONGEST:] + sentence)
        sentence += _draw(_here(chances, place), dials, rng)
    return sentence


def _here(chances: dict[str, float], place: Place) -> dict[str, float]:
    """Without the signs of other plots and paragraphs; if there is nothing else, their likeness here."""
    own = {place.soft, END} if place.is_last else {place.soft, place.hard}
    fitting = {token: chance for token, chance in chances.items() if token in own or not _CLOSES.match(token)}
    if fitting:
        return fitting
    best = max(chances, key=lambda token: chances[token])
    return {place.hard if BREAKS.match(best) and not place.is_last else place.soft: 1.0}


def _draw(chances: dict[str, float], dials: Dials, rng: random.Random) -> str:
    ranked = sorted(chances, key=lambda token: (-chances[token], token))
    if dials.temperature < 0.01:
        return ranked[0]
    top = chances[ranked[0]]
    weights = [(chances[token] / top) ** (1 / dials.temperature) for token in ranked]
    wanted, reached, kept = dials.top_p * sum(weights), 0.0, 0
    while kept < len(weights) and (kept == 0 or reached < wanted):
        reached += weights[kept]
        kept += 1
    return rng.choices(ranked[:kept], weights[:kept])[0]


def _unbalanced(sentence: str) -> bool:
    return sentence.count("“") != sentence.count("”")


def _story_faults(model: NgramModel, before: str, rest: str, fill: Fill) -> float:
    """0 for a story with nothing to complain of; the weights say what is worse."""
    memory, text = model.memory, before + rest
    lengths = sorted(memory.lengths) or [len(text)]
    slots = memory.common(memory.slots)
    named_once = NAME in slots and text.count(NAME) < 2
    missing = sum(word not in text for word in [*slots, *memory.common(memory.words)])
    odd_length = not lengths[len(lengths) // 50] * 0.8 <= len(text) <= lengths[-1 - len(lengths) // 50] * 1.1
    return (
        10 * (not rest.endswith(END))
        + 20 * (fingerprint(text) in memory.seen)
        + 5 * missing
        + 5 * named_once
        + 4 * odd_length
        + 3 * _repeats(text)
        + memory.foreign(rest, fill)
    )


def _repeats(text: str) -> int:
    """How many sentences occur a second time."""
    sentences = [one for one in _CLOSES.split(text) if len(one) > 8]
    return len(sentences) - len(set(sentences))
