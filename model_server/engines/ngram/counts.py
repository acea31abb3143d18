"""The n-gram counts and their smoothing.

Interpolated Witten–Bell smoothing (I. H. Witten and T. C. Bell, "The zero-frequency problem: estimating the
probabilities of novel events in adaptive text compression", IEEE Trans. Information Theory 37(4), 1991; the
interpolated form as in S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling",
1998): with c(h, x) the weighted count of x after context h, c(h) their sum and t(h) the number of different x,

    P(x | h) = (c(h, x) + t(h) · P(x | shorter h)) / (c(h) + t(h)),   below the empty context: 1 / 8000

Contexts have the lengths in ORDERS. Only the longest contexts are saved: every token was counted after all of its
contexts, so the shorter ones' counts are sums of the longest ones'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from .encoding import PAD, SOFT

ORDERS = (0, 1, 2, 3, 5, 8)
MAX_ORDER = ORDERS[-1]
_UNKNOWN = 1 / 8000
PADDING = PAD * (MAX_ORDER - 1)


class Node:
    """What followed one context: weighted counts, their sum, and the most frequent."""

    __slots__ = ("best", "next", "total")

    def __init__(self) -> None:
        self.next: dict[str, float] = {}
        self.total = 0.0
        self.best = ""


class Counts:
    """The model proper. SupervisedObjective come without padding; their first sign is context only, never predicted."""

    def __init__(self) -> None:
        # (where a context of this order begins in one of MAX_ORDER signs, its nodes), shortest first
        self._from_start: list[tuple[int, dict[str, Node]]] = [(MAX_ORDER - order, {}) for order in ORDERS]

    def add(self, text: str, weight: float) -> None:
        """Counts every token of `text` after each of its contexts."""
        padded = PADDING + text
        for at in range(len(PADDING) + 1, len(padded)):
            self._add(padded[at - MAX_ORDER : at], padded[at], weight)

    def _add(self, context: str, token: str, weight: float) -> None:
        for start, table in self._from_start:
            key = context[start:]
            node = table.get(key)
            if node is None:
                node = table[key] = Node()
            following = node.next
            count = following[token] = following.get(token, 0.0) + weight
            node.total += weight
            if node.best != token and count > following.get(node.best, 0.0):
                node.best = token

    def _nodes(self, context: str) -> list[Node]:
        """The nodes of the contexts that were seen, shortest first."""
        found = []
        for start, table in self._from_start:
            node = table.get(context[start:])
            if node is None:
                break  # then no longer context was seen either
            found.append(node)
        return found

    def score(self, text: str) -> tuple[float, int, int]:
        """(sum of -ln P over the tokens of `text`, how many of them were the model's first guess, how many tokens).

        The first guess is the likeliest of the favourites of the seen contexts.
        """
        padded = PADDING + text
        loss, right, tokens = 0.0, 0, 0
        for at in range(len(PADDING) + 1, len(padded)):
            token = padded[at]
            if SOFT.match(token):
                continue
            nodes = self._nodes(padded[at - MAX_ORDER : at])
            mine = _probability(nodes, token)
            loss -= math.log(mine)
            right += mine > 0.5 or self._is_first_guess(
                nodes, token, mine
            )  # above a half nothing else can be likelier
            tokens += 1
        return loss, right, tokens

    @staticmethod
    def _is_first_guess(nodes: list[Node], token: str, mine: float) -> bool:
        guesses = {node.best for node in nodes}
        return token in guesses and all(_probability(nodes, guess) < mine for guess in guesses - {token})

    def distribution(self, context: str) -> dict[str, float]:
        """P of the tokens seen after the contexts of two and more signs, or after fewer if there are none such.

        `context` may be of any length. The tail that only shorter contexts know is left out, so the sum is below 1.
        """
        nodes = self._nodes((PADDING + PAD + context)[-MAX_ORDER:])
        support = nodes[2:] or nodes[1:] or nodes
        return {
            token: _probability(nodes, token) for token in {token for node in support for token in node.next}
        }

    def longest_entries(self) -> Iterable[tuple[str, Mapping[str, float]]]:
        """The longest contexts with their counts: all that has to be saved."""
        return ((context, node.next) for context, node in self._from_start[-1][1].items())

    def restore(self, context: str, following: Mapping[str, float]) -> None:
        """Adds one saved entry."""
        for token, weight in following.items():
            self._add(context, token, weight)


def _probability(nodes: list[Node], token: str) -> float:
    probability = _UNKNOWN
    for node in nodes:
        following = node.next
        kinds = len(following)
        if token in following:
            probability = (following[token] + kinds * probability) / (node.total + kinds)
        else:
            probability = kinds * probability / (node.total + kinds)
    return probability
