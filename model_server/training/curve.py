"""Checks the losses of a finished job, and warns in its events if it learnt nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ..engines.base import Step

MIN_FALL = 0.02  # share of the first loss; a smaller fall means that nothing was learnt
_MIN_STEPS = 4
_WINDOW = 20


def warning(steps: Sequence[Step], *, multiplier: float, unigram_loss: float | None) -> str:
    """A sentence if the losses say that nothing was learnt; empty if something was, or too few steps can tell.

    `unigram_loss` is the loss (nats a token) of a model that knows only how often each token occurs in the lines; a
    training with too large steps ends there. None where the engine's loss is not one of tokens.
    """
    if len(steps) < _MIN_STEPS:
        return ""
    size = window(steps)
    first, last = _mean(steps[:size]), _mean(steps[-size:])
    where = f"from {first:.2f} (mean of the first {size} steps) to {last:.2f} (mean of the last {size})"
    if last > first * (1 - MIN_FALL):
        return (
            f"This job learnt nothing: the training loss went {where}, a fall of less than {MIN_FALL:.0%}."
            f" Choose another learning_rate_multiplier (this was {multiplier:g}: a larger one if the loss stood still,"
            " a smaller one if it rose or jumped), or more epochs; a loss that was low at once means that the model"
            " knew these lines."
        )
    if unigram_loss and last >= unigram_loss:
        return (
            f"This job learnt only how often each token occurs: the training loss went {where}, and that knowledge"
            f" alone gives {unigram_loss:.2f}. Choose a smaller learning_rate_multiplier (this was {multiplier:g}), or"
            " more epochs if the loss was still falling."
        )
    return ""


def window(steps: Sequence[Step]) -> int:
    """How many first and last steps are compared: those of a short epoch, so that both have the same lines."""
    per_epoch = sum(step.epoch == steps[0].epoch for step in steps)
    return min(per_epoch, max(_WINDOW, len(steps) // 10), len(steps) // 2)


def _mean(steps: Sequence[Step]) -> float:
    return sum(step.train_loss for step in steps) / len(steps)
