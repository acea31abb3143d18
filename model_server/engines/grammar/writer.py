"""The door of base-zh: composes a story for a prompt.

A text so far is continued by the n-gram counts of base-zh's own stories: a grammar cannot go on from any text.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

from ..base import WriteOrder
from ..ngram.prior import FOLLOWING, base_model
from ..ngram.writer import NgramWriter
from ..prompts import find_ingredients
from .compose import complete, compose
from .mistakes import spoil


class GrammarWriter:
    """The base model. `mistake_rate` is the probability of each kind of deliberate mistake."""

    def __init__(self, *, mistake_rate: float) -> None:
        self._mistake_rate = mistake_rate
        self._lock = threading.Lock()
        self._follower: NgramWriter | None = None

    def write(self, order: WriteOrder) -> Iterator[str]:
        """One piece. Temperature and top_p change nothing here: a grammar has no probabilities to bend."""
        if order.written.strip():
            yield from self._going_on().write(order)
            return
        rng = random.Random() if order.seed is None else random.Random(f"{order.seed}|{order.prompt}")
        asked = complete(find_ingredients(order.prompt), rng)
        yield spoil(compose(asked, rng), asked, rng, rate=self._mistake_rate)

    def _going_on(self) -> NgramWriter:
        """Made when first needed: it costs half a second."""
        with self._lock:
            if self._follower is None:
                self._follower = NgramWriter(base_model(FOLLOWING))
            return self._follower
