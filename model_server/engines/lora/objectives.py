"""Training objectives: the tokens of an answer (supervised), or which of two answers is better (DPO).

An objective encodes lines, splits a batch into micro-batches that fit into memory, and returns the loss of a
micro-batch as a sum. So the micro-batches of a batch, also on several devices, add up to the gradient of the whole.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from ...atomic_files import atomic_replacement
from ..base import Example
from .chat import TokenizedExample

Encode = Callable[..., TokenizedExample]


@dataclass
class Metrics:
    """Sums of what was measured: the loss, the right predictions, and the number of predictions."""

    _loss: float = 0.0
    _right: float = 0.0
    _count: float = 0.0

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self._loss / max(1.0, self._count)

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return self._right / max(1.0, self._count)

    def add(self, other: Metrics) -> None:
        """Adds the sums of another."""
        self.replace(self._loss + other._loss, self._right + other._right, self._count + other._count)

    def sums(self) -> tuple[float, float, float]:
        """The three sums."""
        return self._loss, self._right, self._count

    def replace(self, loss: float, right: float, count: float) -> None:
        """Sets the three sums."""
        self._loss, self._right, self._count = loss, right, count


class Objective(Protocol):
    """What is minimised, and how it is computed from lines."""

    def read(self, examples: Sequence[Example]) -> list[Any]:
        """Turns examples into token ids."""
        ...

    def prepare(self, model: Any, device: torch.device, lines: list[Any]) -> None:
        """Computes what the loss needs before the first step."""
        ...

    def size(self, line: Any) -> int:
        """Tokens of a line."""
        ...

    def weight(self, batch: Sequence[Any]) -> float:
        """What the summed loss of a batch is divided by."""
        ...

    def unigram_loss(self, lines: Sequence[Any]) -> float | None:
        """The loss (nats a token) of a unigram model, which knows only how often each token occurs in `lines`.

        None where the loss is not one of tokens.
        """
        ...

    def split(self, batch: Sequence[Any]) -> Iterator[list[Any]]:
        """The micro-batches of a batch, each small enough for the memory."""
        ...

    def loss(self, model: Any, part: list[Any], device: torch.device) -> tuple[torch.Tensor, Metrics]:
        """The summed loss of a micro-batch, and its metrics."""
        ...


class SupervisedObjective:
    """Cross entropy of the completion's tokens; the prompt's tokens do not count."""

    def __init__(self, encode: Encode, max_tokens: int) -> None:
        self._encode = encode
        self._max_tokens = max_tokens

    def read(self, examples: Sequence[Example]) -> list[TokenizedExample]:
        """One tokenized text for each line."""
        return [self._encode(example) for example in examples]

    def prepare(self, model: Any, device: torch.device, lines: list[TokenizedExample]) -> None:
        """Needs nothing."""

    def size(self, line: TokenizedExample) -> int:
        """Tokens of prompt and completion."""
        return len(line)

    def weight(self, batch: Sequence[TokenizedExample]) -> float:
        """The number of the completions' tokens."""
        return float(sum(len(one.completion) for one in batch))

    def unigram_loss(self, lines: Sequence[TokenizedExample]) -> float:
        """The entropy of the completions' tokens, in nats."""
        counts = Counter(token for one in lines for token in one.completion)
        total = counts.total()
        return -sum(count / total * math.log(count / total) for count in counts.values())

    def split(self, batch: Sequence[TokenizedExample]) -> Iterator[list[TokenizedExample]]:
        """Puts lines of similar length together, so that there is little padding."""
        yield from micro_batches(sorted(batch, key=len), self._max_tokens, len)

    def loss(
        self, model: Any, part: list[TokenizedExample], device: torch.device
    ) -> tuple[torch.Tensor, Metrics]:
        """Summed cross entropy."""
        logits, labels, _ = forward(model, part, device)
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        right = (logits.detach().argmax(dim=-1) == labels).sum()
        return loss, Metrics(loss.item(), right.item(), float(len(labels)))


@dataclass
class PreferencePair:
    """A better and a worse answer, and their log probabilities by the reference model."""

    chosen: TokenizedExample
    rejected: TokenizedExample
    reference: tuple[float, float] = field(default=(0.0, 0.0))


class DpoObjective:
    """DPO (Rafailov et al. 2023). The reference is the model before training; it is asked once, at the start.

    The accuracy is the share of pairs whose better answer has the larger reward.
    """

    def __init__(self, encode: Encode, max_tokens: int, *, beta: float, file: Path) -> None:
        self._encode = encode
        self._max_tokens = max_tokens
        self._beta = beta
        self._file = file

    def read(self, examples: Sequence[Example]) -> list[PreferencePair]:
        """One pair for each line."""
        return [PreferencePair(self._encode(one), self._encode(one, rejected=True)) for one in examples]

    def prepare(self, model: Any, device: torch.device, lines: list[PreferencePair]) -> None:
        """Asks the reference and saves its answers; a training that is resumed reads them from the file."""
        if not self._file.exists():
            model.train(mode=False)
            with torch.no_grad():
                found = [self._log_probabilities(model, [line], device) for line in lines]
            pairs = [[chosen.item(), rejected.item()] for chosen, rejected in found]
            with atomic_replacement(
                self._file, writer=str(os.getpid())
            ) as file:  # all processes write the same
                save_file({"reference": torch.tensor(pairs, dtype=torch.float64)}, file)
        for line, row in zip(lines, load_file(self._file)["reference"].tolist(), strict=True):
            line.reference = (row[0], row[1])

    def size(self, line: PreferencePair) -> int:
        """Tokens of both texts."""
        return len(line.chosen) + len(line.rejected)

    def weight(self, batch: Sequence[PreferencePair]) -> float:
        """The number of pairs."""
        return float(len(batch))

    def unigram_loss(self, lines: Sequence[PreferencePair]) -> None:
        """None: the loss is one of pairs."""

    def split(self, batch: Sequence[PreferencePair]) -> Iterator[list[PreferencePair]]:
        """Puts pairs of similar length together."""
        yield from micro_batches(sorted(batch, key=self.size), self._max_tokens, self.size)

    def loss(
        self, model: Any, part: list[PreferencePair], device: torch.device
    ) -> tuple[torch.Tensor, Metrics]:
        """The summed −ln σ(β · margin); the margin is how much more the better answer gained than the worse one."""
        chosen, rejected = self._log_probabilities(model, part, device)
        reference = torch.tensor([line.reference for line in part], device=device)
        margin = self._beta * ((chosen - reference[:, 0]) - (rejected - reference[:, 1]))
        loss = -torch.nn.functional.logsigmoid(margin).sum()
        return loss, Metrics(loss.item(), float((margin > 0).sum().item()), float(len(part)))

    def _log_probabilities(
        self, model: Any, part: list[PreferencePair], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        lines = [line.chosen for line in part] + [line.rejected for line in part]
        logits, labels, rows = forward(model, lines, device)
        each = -torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        sums = torch.zeros(len(lines), device=device, dtype=each.dtype).index_add(0, rows, each)
        return sums[: len(part)], sums[len(part) :]


def forward(
    model: Any, lines: Sequence[TokenizedExample], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(logits, true tokens, row numbers), one of each for every predicted token of the completions."""
    longest = max(len(line) for line in lines)
    ids = torch.zeros(len(lines), longest, dtype=torch.long)
    mask, predicted = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, line in enumerate(lines):
        ids[row, : len(line)] = torch.tensor(line.prompt + line.completion)
        mask[row, : len(line)] = 1
        predicted[row, max(1, len(line.prompt)) : len(line)] = True
    ids, mask, predicted = ids.to(device), mask.to(device), predicted.to(device)
    output = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    places = predicted[:, 1:]
    return output[places].float(), ids[:, 1:][places], places.nonzero()[:, 0]


def micro_batches(lines: Sequence[Any], max_tokens: int, size: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Splits `lines`, in order, so that each part padded has at most `max_tokens`; a part has one line at least."""
    part: list[Any] = []
    longest = 0
    for line in lines:
        longest = max(longest, size(line))
        if part and longest * (len(part) + 1) > max_tokens:
            yield part
            part, longest = [], size(line)
        part.append(line)
    if part:
        yield part
