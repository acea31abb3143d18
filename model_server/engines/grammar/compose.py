"""Composes one story of base-zh from the plots and pools; the same random state gives the same story."""

from __future__ import annotations

import random
from collections.abc import Mapping

from ..prompts import DYNASTIES, Ingredients, era
from . import fights, lexicon, openings, powers
from .plots import DEMO, PLOTS, TYPE, USE, Pool

MIN_LENGTH, MAX_LENGTH = 240, 380
_OWN_SENTENCES = 0.7  # how often a known power or type brings its own sentence rather than a general one


def complete(found: Ingredients, rng: random.Random) -> Ingredients:
    """`found` with every missing part drawn at random."""
    return Ingredients(
        dynasty=found.dynasty or rng.choice(DYNASTIES[-10:-5]),
        power=found.power or rng.choice(sorted(powers.KNOWN)),
        story_type=found.story_type or rng.choice(sorted(fights.BY_TYPE)),
    )


def compose(found: Ingredients, rng: random.Random) -> str:
    """A story of 240 to 380 signs in 3 to 6 paragraphs that names all three ingredients, 奥特曼 and 怪兽."""
    asked = complete(found, rng)
    while True:
        story = _draft(asked, rng)
        overlong = sum(len(part or "") for part in (asked.dynasty, asked.power, asked.story_type)) > 24
        if overlong or MIN_LENGTH <= len(story) <= MAX_LENGTH:
            return story


def _draft(asked: Ingredients, rng: random.Random) -> str:
    words = _words(asked, rng)
    plot = rng.choices(PLOTS, [plot.weight for plot in PLOTS])[0]
    paragraphs = []
    for steps in plot.paragraphs:
        kept = [step for step in steps if rng.random() >= step.skip]
        paragraphs.append("".join(_sentence(step.pool, words, rng) for step in kept))
    return "\n\n".join(paragraphs)


def _words(asked: Ingredients, rng: random.Random) -> dict[str, str]:
    pronoun = rng.choice("他她")
    surnames = [surname for surname in lexicon.SURNAMES if surname != asked.dynasty]
    return {
        "era": era(asked.dynasty or ""),
        "power": asked.power or "",
        "type": asked.story_type or "",
        "p": pronoun,
        "name": rng.choice(surnames) + rng.choice(lexicon.GIVEN[pronoun]),
        "job": rng.choice(lexicon.JOBS),
        "place": rng.choice(lexicon.PLACES),
        "monster": rng.choice(lexicon.MONSTERS),
    }


def _sentence(pool: Pool, words: Mapping[str, str], rng: random.Random) -> str:
    return rng.choice(_pool(pool, words, rng)).format_map(words)


def _pool(pool: Pool, words: Mapping[str, str], rng: random.Random) -> Pool:
    """The pool itself, or for the steps that depend on power or type, that ingredient's own or the general one."""
    own: Pool = ()
    if pool is DEMO or pool is USE:
        own = powers.KNOWN.get(words["power"], ((), ()))[pool is USE]
        pool = openings.DEMO if pool is DEMO else powers.USE
    elif pool is TYPE:
        own = fights.BY_TYPE.get(words["type"], ())
        pool = fights.CLASH
    return own if own and rng.random() < _OWN_SENTENCES else pool
