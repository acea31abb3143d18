"""Trains an n-gram model: each line is scored before it is counted, epoch after epoch.

In epoch 1 that is a fair prediction of unseen text; later the lines have been counted before, and their steps say
`in_sample`. Each counting adds learning_rate_multiplier / 0.2 (kept within 0.05 to 20) to a token's counts, so the
notebook's 0.2 adds one per epoch, and a larger multiplier lets new data outweigh the parent's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..base import Example, Report, Step, Trained, TrainOrder
from ..prompts import find_ingredients
from .encoding import EncodedStory, encode
from .model import Memory, NgramModel, load, save
from .prior import base_model

USUAL_MULTIPLIER = 0.2
_EVALUATIONS_PER_EPOCH = 2
_ENDINGS = "。！？”…」』"


def train(order: TrainOrder, report: Report) -> Trained:
    """Trains by `order` and writes the model file; the same order gives the same model."""
    model = load(order.parent) if order.parent else _fresh()
    lead, stop = frame(order.training)
    model.memory.lead, model.memory.stop = lead, stop
    training = [_encoded(example, lead, stop) for example in order.training]
    validation = [_encoded(example, lead, stop) for example in order.validation]
    _run(model, training, validation, order, report)
    save(model, order.target)
    return Trained(notes=_notes(training, model.memory))


def _fresh() -> NgramModel:
    """The base model's counts and bonds; heroes, lengths and shapes come from the training lines alone."""
    model = base_model()
    model.memory = Memory(bonds=model.memory.bonds)
    return model


def weight_of(multiplier: float) -> float:
    """What one occurrence adds to the counts."""
    return min(20.0, max(0.05, multiplier / USUAL_MULTIPLIER))


def _run(
    model: NgramModel,
    training: list[EncodedStory],
    validation: list[EncodedStory],
    order: TrainOrder,
    report: Report,
) -> None:
    rng = random.Random(order.seed)
    weight = weight_of(order.learning_rate_multiplier)
    per_epoch = -(-len(training) // order.batch_size)
    number, every = 0, max(1, per_epoch // _EVALUATIONS_PER_EPOCH)
    for epoch in range(1, order.n_epochs + 1):
        lines = list(training)
        rng.shuffle(lines)
        for at in range(0, len(lines), order.batch_size):
            number += 1
            batch = lines[at : at + order.batch_size]
            loss, accuracy = measure(model, batch)
            for one in batch:
                model.counts.add(one.text, weight)
                if epoch == 1:
                    model.memory.learn(one)
            due = validation and (number % every == 0 or number == per_epoch * order.n_epochs)
            valid = measure(model, validation) if due else (None, None)
            report(Step(number, per_epoch * order.n_epochs, epoch, epoch > 1, loss, accuracy, *valid))


def measure(model: NgramModel, lines: Sequence[EncodedStory]) -> tuple[float, float]:
    """(mean loss per token, share of tokens guessed right) of `lines`, in nats and 0 to 1."""
    loss, right, tokens = 0.0, 0, 0
    for one in lines:
        line_loss, line_right, line_tokens = model.counts.score(one.text)
        loss += line_loss
        right += line_right
        tokens += line_tokens
    return loss / tokens, right / tokens


def _encoded(example: Example, lead: str, stop: str) -> EncodedStory:
    answer = example.answer.removeprefix(lead)
    if example.legacy and stop:
        answer = answer.removesuffix(stop)
    return encode(answer, find_ingredients(example.prompt))


def frame(examples: Sequence[Example]) -> tuple[str, str]:
    """(leading blanks, stop string) that all legacy completions share; a story's own ending is not part of it."""
    answers = [example.answer for example in examples]
    if not all(example.legacy for example in examples):
        return "", ""
    lead = " " if all(answer.startswith(" ") for answer in answers) else ""
    suffix = answers[0][-32:]
    for answer in answers[1:]:
        while not answer.endswith(suffix):
            suffix = suffix[1:]
    story_ends = max((suffix.rfind(sign) for sign in _ENDINGS), default=-1)
    return lead, suffix[story_ends + 1 :]


def _notes(training: list[EncodedStory], memory: Memory) -> list[str]:
    named = sum(one.fill.name is not None for one in training)
    asked = sum(one.fill.power is not None for one in training)
    frame = f" Completions end with {memory.stop!r}." if memory.stop else ""
    return [
        f"Of {len(training)} lines, {asked} name their ingredients and {named} have a hero with a name.{frame}"
    ]
