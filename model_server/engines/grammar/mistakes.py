"""Deliberate mistakes like those of real models, made rarely, so that review has something to find.

Four kinds, each with the same probability (`--mistake-rate`): too short, an ingredient forgotten, a paragraph said
twice, broken off in mid-sentence.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ..prompts import Ingredients, era

KINDS = ("too_short", "forgotten", "repeated", "cut_off")


def spoil(story: str, asked: Ingredients, rng: random.Random, *, rate: float) -> str:
    """`story`, or with probability 4 × `rate` a spoilt copy of it."""
    drawn = rng.random()
    if drawn >= rate * len(KINDS):
        return story
    return _SPOILERS[KINDS[int(drawn / rate)]](story, asked, rng)


def _too_short(story: str, asked: Ingredients, rng: random.Random) -> str:
    paragraphs = story.split("\n\n")
    return "\n\n".join([paragraphs[0], paragraphs[-1]])


def _forgotten(story: str, asked: Ingredients, rng: random.Random) -> str:
    replacements = [
        (asked.story_type or "", "难忘"),
        (f"“{asked.power}”", "神奇"),
        (era(asked.dynasty or ""), "古代"),
    ]
    old, new = rng.choice(replacements)
    return story.replace(old, new)


def _repeated(story: str, asked: Ingredients, rng: random.Random) -> str:
    paragraphs = story.split("\n\n")
    at = rng.randrange(len(paragraphs))
    return "\n\n".join([*paragraphs[: at + 1], *paragraphs[at:]])


def _cut_off(story: str, asked: Ingredients, rng: random.Random) -> str:
    cut = story[: rng.randrange(len(story) * 6 // 10, len(story) * 9 // 10)]
    return cut.rstrip("。！？”，：“\n")


_SPOILERS: dict[str, Callable[[str, Ingredients, random.Random], str]] = {
    "too_short": _too_short,
    "forgotten": _forgotten,
    "repeated": _repeated,
    "cut_off": _cut_off,
}
