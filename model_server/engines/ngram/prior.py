"""The counts of base-zh before any tuning: those of a fixed set of its own stories.

Tuning base-zh starts from the first few of them, as tuning any base model starts from what it was pretrained on: little
enough that the training lines soon outweigh them. With many of them base-zh goes on from a text so far.
"""

from __future__ import annotations

import random

from ..grammar.compose import complete, compose
from ..prompts import Ingredients
from .encoding import encode
from .model import NgramModel

PRETRAINING = 20  # stories
FOLLOWING = 300
WEIGHT = 0.5
_SEED = "base-zh 1"


def base_model(stories: int = PRETRAINING) -> NgramModel:
    """The counts over so many stories by base-zh; 300 take about half a second."""
    rng = random.Random(_SEED)
    model = NgramModel()
    for _ in range(stories):
        asked = complete(Ingredients(), rng)
        one = encode(compose(asked, rng), asked)
        model.counts.add(one.text, WEIGHT)
        model.memory.learn(one)
    return model
