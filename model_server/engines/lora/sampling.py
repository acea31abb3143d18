"""Draws the next token of each row, every row with a temperature, top_p and random numbers of its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

_COLDEST = 0.01  # below, the likeliest token is taken
_MOST_LIKELY = 1024  # top_p looks among so many first; only a flatter distribution is sorted whole


@dataclass
class Dials:
    """How one row is drawn. The same seed draws the same numbers, whatever else is in the batch."""

    temperature: float
    top_p: float
    numbers: random.Random = field(default_factory=random.Random)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature < _COLDEST or self.top_p == 0


def draw(logits: torch.Tensor, dials: Sequence[Dials]) -> list[int]:
    """One token for each row of `logits` (rows × vocabulary)."""
    if all(one.greedy for one in dials):
        best: list[int] = logits.argmax(dim=-1).tolist()
        return best
    logits = logits.float()
    heat = torch.tensor([[1.0 if one.greedy else one.temperature] for one in dials], device=logits.device)
    chances = torch.softmax(logits / heat, dim=-1)
    for row, one in enumerate(dials):
        if not one.greedy and one.top_p < 1:
            chances[row] = _nucleus(chances[row], one.top_p)
    sums = chances.cumsum(dim=-1)
    points = torch.tensor([[one.numbers.random()] for one in dials], device=logits.device) * sums[:, -1:]
    last = logits.shape[-1] - 1
    drawn = torch.searchsorted(sums, points, right=True).clamp(max=last).squeeze(1)
    if any(one.greedy for one in dials):
        greedy = torch.tensor([one.greedy for one in dials], device=logits.device)
        drawn = torch.where(greedy, logits.argmax(dim=-1), drawn)
    tokens: list[int] = drawn.tolist()
    return tokens


def _nucleus(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """The fewest likeliest tokens that together have `top_p`, the rest at nought."""
    values, places = chances.topk(min(_MOST_LIKELY, len(chances)))
    if values.sum() < top_p and len(values) < len(chances):
        values, places = chances.sort(descending=True)
    before = values.cumsum(0) - values
    return torch.zeros_like(chances).scatter_(0, places, values * (before < top_p))
