"""The writer of base-zh: composes a story for a prompt.

A text so far is continued by an n-gram model of base-zh's own stories, as a grammar cannot continue any text.
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
        self._continuation: NgramWriter | None = None

    def write(self, order: WriteOrder) -> Iterator[str]:
        """One piece. Temperature and top_p change nothing here: a grammar has no probabilities to bend."""
        if order.written.strip():
            yield from self._continuation_writer().write(order)
            return
        rng = random.Random() if order.seed is None else random.Random(f"{order.seed}|{order.prompt}")
        asked = complete(find_ingredients(order.prompt), rng)
        yield spoil(compose(asked, rng), asked, rng, rate=self._mistake_rate)

    def _continuation_writer(self) -> NgramWriter:
        """Made on first use, as it takes half a second."""
        with self._lock:
            if self._continuation is None:
                self._continuation = NgramWriter(base_model(FOLLOWING))
            return self._continuation
