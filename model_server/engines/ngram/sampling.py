"""Samples a story from a model: sentence by sentence, and then the best of a few stories.

The tokens are samples from the model's distribution at the requested temperature and top_p. Two documented choices are
added: a sentence with a fault is drawn again up to SENTENCE_TRIES times, and of up to STORY_TRIES stories the
first without a fault, else the one with the smallest fault, is taken.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from ..base import MIN_TEMPERATURE, SamplingParams
from .counts import MAX_ORDER
from .encoding import BREAKS, END, NAME, SOFT, Fill, Place, place_after
from .model import NgramModel, fingerprint

SENTENCE_TRIES = 5
STORY_TRIES = 8
_MAX_SENTENCE_LENGTH = 120
_MAX_STORY_LENGTH = 4000
_MIN_RETRY_TEMPERATURE = 0.4  # of the next try, after a sentence that was there already
_CLOSES = re.compile(f"{BREAKS.pattern}|{SOFT.pattern}|{END}")


def sample_story(
    model: NgramModel, begin: Callable[[], str], fill: Fill, params: SamplingParams, rng: random.Random
) -> str:
    """The rest of a slotted story, without END, after what `begin()` returns: a start sign, or the text so far.

    Each try calls `begin` again: a start sign that was learnt from a cut story has too few paragraphs for a whole one.
    """
    best, fewest = "", float("inf")
    for _ in range(STORY_TRIES):
        before = begin()
        rest = _story(model, before, fill, params, rng)
        faults = _story_faults(model, before, rest, fill)
        if faults < fewest:
            best, fewest = rest, faults
        if fewest == 0:
            break
    return best.removesuffix(END)


def _story(model: NgramModel, before: str, fill: Fill, params: SamplingParams, rng: random.Random) -> str:
    rest = ""
    longest = min(_MAX_STORY_LENGTH, int(max(model.memory.lengths, default=400) * 1.2))
    while not rest.endswith(END) and len(before) + len(rest) < longest:
        rest += _best_sentence(model, before + rest, fill, params, rng)
    return rest


def _best_sentence(
    model: NgramModel, text: str, fill: Fill, params: SamplingParams, rng: random.Random
) -> str:
    best, fewest = "", float("inf")
    for _ in range(SENTENCE_TRIES):
        sentence = _sentence(model, text, params, rng)
        repeated = len(sentence) > 8 and _CLOSES.sub("", sentence) in text
        if repeated:
            params = SamplingParams(max(params.temperature, _MIN_RETRY_TEMPERATURE), params.top_p)
        faults = (
            4 * repeated
            + model.memory.count_foreign_phrases(text[-4:] + sentence, fill)
            + 3 * _unbalanced(sentence)
        )
        if faults < fewest:
            best, fewest = sentence, faults
        if fewest == 0:
            break
    return best


def _sentence(model: NgramModel, text: str, params: SamplingParams, rng: random.Random) -> str:
    """Samples tokens up to a soft sign, a paragraph break, or END."""
    sentence, place = "", place_after(text)
    while len(sentence) < _MAX_SENTENCE_LENGTH and not _CLOSES.fullmatch(sentence[-1:]):
        chances = model.counts.distribution(text[-MAX_ORDER:] + sentence)
        sentence += _draw(_fitting_tokens(chances, place), params, rng)
    return sentence


def _fitting_tokens(chances: dict[str, float], place: Place) -> dict[str, float]:
    """Removes the signs of other plots and paragraphs; if no token is left, returns the sign that belongs here."""
    own = {place.soft, END} if place.is_last else {place.soft, place.hard}
    fitting = {token: chance for token, chance in chances.items() if token in own or not _CLOSES.match(token)}
    if fitting:
        return fitting
    best = max(chances, key=lambda token: chances[token])
    return {place.hard if BREAKS.match(best) and not place.is_last else place.soft: 1.0}


def _draw(chances: dict[str, float], params: SamplingParams, rng: random.Random) -> str:
    ranked = sorted(chances, key=lambda token: (-chances[token], token))
    if params.temperature < MIN_TEMPERATURE:
        return ranked[0]
    top = chances[ranked[0]]
    weights = [(chances[token] / top) ** (1 / params.temperature) for token in ranked]
    wanted, reached, kept = params.top_p * sum(weights), 0.0, 0
    while kept < len(weights) and (kept == 0 or reached < wanted):
        reached += weights[kept]
        kept += 1
    return rng.choices(ranked[:kept], weights[:kept])[0]


def _unbalanced(sentence: str) -> bool:
    return sentence.count("“") != sentence.count("”")


def _story_faults(model: NgramModel, before: str, rest: str, fill: Fill) -> float:
    """The weighted sum of a story's faults; 0 for a story without any."""
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
        + memory.count_foreign_phrases(rest, fill)
    )


def _repeats(text: str) -> int:
    """How many sentences occur a second time."""
    sentences = [one for one in _CLOSES.split(text) if len(one) > 8]
    return len(sentences) - len(set(sentences))
