"""Samples the next token of each row of a batch; every row has its own parameters and its own random numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from ..base import MIN_TEMPERATURE, SamplingParams

_MAX_SORTED = 1024  # top_p looks at so many likely tokens first; a flatter distribution is sorted whole


def is_greedy(params: SamplingParams) -> bool:
    """Whether the likeliest token is taken."""
    return params.temperature < MIN_TEMPERATURE or params.top_p == 0


def sample(
    logits: torch.Tensor, params: Sequence[SamplingParams], generators: Sequence[random.Random]
) -> list[int]:
    """One token for each row of `logits` (rows × vocabulary).

    Each row draws from its own generator, so the same seed draws the same numbers in any batch.
    """
    greedy = [is_greedy(one) for one in params]
    if all(greedy):
        best: list[int] = logits.argmax(dim=-1).tolist()
        return best
    probabilities = _probabilities(logits.float(), params)
    sums = probabilities.cumsum(dim=-1)
    points = torch.tensor([[one.random()] for one in generators], device=logits.device) * sums[:, -1:]
    last = logits.shape[-1] - 1
    drawn = torch.searchsorted(sums, points, right=True).clamp(max=last).squeeze(1)
    if any(greedy):
        drawn = torch.where(torch.tensor(greedy, device=logits.device), logits.argmax(dim=-1), drawn)
    tokens: list[int] = drawn.tolist()
    return tokens


def _probabilities(logits: torch.Tensor, params: Sequence[SamplingParams]) -> torch.Tensor:
    """The rows' distributions (rows × vocabulary) after temperature and top_p; greedy rows are left as they are."""
    temperatures = [[1.0 if is_greedy(one) else one.temperature] for one in params]
    probabilities = torch.softmax(logits / torch.tensor(temperatures, device=logits.device), dim=-1)
    for row, one in enumerate(params):
        if not is_greedy(one) and one.top_p < 1:
            probabilities[row] = _nucleus(probabilities[row], one.top_p)
    return probabilities


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keeps the fewest likeliest tokens that together have `top_p`; the others become 0."""
    values, places = probabilities.topk(min(_MAX_SORTED, len(probabilities)))
    if values.sum() < top_p and len(values) < len(probabilities):
        values, places = probabilities.sort(descending=True)
    before = values.cumsum(0) - values
    return torch.zeros_like(probabilities).scatter_(0, places, values * (before < top_p))
