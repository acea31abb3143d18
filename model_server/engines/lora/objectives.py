"""What is learnt from a line: an answer (`Texts`), or which of two answers is better (`Preferences`).

A lesson reads lines, splits a batch into parts that fit into memory, and gives the loss of a part as a sum, so that the
parts of a batch, and the devices that share it, add up to the same gradient as the whole.
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

from ..base import Example
from .chat import Encoded

Encode = Callable[..., Encoded]


@dataclass
class Figures:
    """Sums over what was measured: loss, right guesses, and how many there were to guess."""

    _loss: float = 0.0
    _right: float = 0.0
    _count: float = 0.0

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self._loss / max(1.0, self._count)

    @property
    def accuracy(self) -> float:
        """Share of right guesses."""
        return self._right / max(1.0, self._count)

    def add(self, other: Figures) -> None:
        """Takes another's in."""
        self.replace(self._loss + other._loss, self._right + other._right, self._count + other._count)

    def sums(self) -> tuple[float, float, float]:
        """The three sums."""
        return self._loss, self._right, self._count

    def replace(self, loss: float, right: float, count: float) -> None:
        """Sets the three sums."""
        self._loss, self._right, self._count = loss, right, count


class Lesson(Protocol):
    """One way to learn from lines."""

    def read(self, examples: Sequence[Example]) -> list[Any]:
        """The lines as token ids."""
        ...

    def prepare(self, model: Any, device: torch.device, lines: list[Any]) -> None:
        """Computes what has to be known before the first step."""
        ...

    def size(self, line: Any) -> int:
        """Tokens of a line."""
        ...

    def weight(self, batch: Sequence[Any]) -> float:
        """What the summed loss of a batch is divided by."""
        ...

    def frequencies(self, lines: Sequence[Any]) -> float | None:
        """The mean loss of who knows only how often each token occurs in them; None if no tokens are guessed."""
        ...

    def split(self, batch: Sequence[Any]) -> Iterator[list[Any]]:
        """Parts of a batch, each small enough for the memory."""
        ...

    def loss(self, model: Any, part: list[Any], device: torch.device) -> tuple[torch.Tensor, Figures]:
        """The summed loss of a part, with its figures."""
        ...


class Texts:
    """Supervised: the loss is that of the completion's tokens, the prompt's count nothing."""

    def __init__(self, encode: Encode, most_tokens: int) -> None:
        self._encode = encode
        self._most_tokens = most_tokens

    def read(self, examples: Sequence[Example]) -> list[Encoded]:
        """One text for each line."""
        return [self._encode(example) for example in examples]

    def prepare(self, model: Any, device: torch.device, lines: list[Encoded]) -> None:
        """Nothing."""

    def size(self, line: Encoded) -> int:
        """Prompt and completion."""
        return len(line)

    def weight(self, batch: Sequence[Encoded]) -> float:
        """The completions' tokens."""
        return float(sum(len(one.completion) for one in batch))

    def frequencies(self, lines: Sequence[Encoded]) -> float:
        """The entropy of the completions' tokens, in nats."""
        counts = Counter(token for one in lines for token in one.completion)
        total = counts.total()
        return -sum(count / total * math.log(count / total) for count in counts.values())

    def split(self, batch: Sequence[Encoded]) -> Iterator[list[Encoded]]:
        """Lines of like length together: the less padding, the faster."""
        yield from in_parts(sorted(batch, key=len), self._most_tokens, len)

    def loss(self, model: Any, part: list[Encoded], device: torch.device) -> tuple[torch.Tensor, Figures]:
        """Cross entropy, summed."""
        logits, labels, _ = forward(model, part, device)
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        right = (logits.detach().argmax(dim=-1) == labels).sum()
        return loss, Figures(loss.item(), right.item(), float(len(labels)))


@dataclass
class Pair:
    """A better and a worse answer, and how likely the model found them before training (log probabilities)."""

    chosen: Encoded
    rejected: Encoded
    reference: tuple[float, float] = field(default=(0.0, 0.0))


class Preferences:
    """DPO (Rafailov et al. 2023): the reference is the model that training began with, asked once at the start.

    The accuracy is the share of pairs whose better answer has the larger reward.
    """

    def __init__(self, encode: Encode, most_tokens: int, *, beta: float, file: Path) -> None:
        self._encode = encode
        self._most_tokens = most_tokens
        self._beta = beta
        self._file = file

    def read(self, examples: Sequence[Example]) -> list[Pair]:
        """A pair for each line."""
        return [Pair(self._encode(one), self._encode(one, rejected=True)) for one in examples]

    def prepare(self, model: Any, device: torch.device, lines: list[Pair]) -> None:
        """Asks the model as it is now; a training that is gone on with has that on file."""
        if not self._file.exists():
            model.train(mode=False)
            with torch.no_grad():
                found = [self._log_probabilities(model, [line], device) for line in lines]
            table = torch.tensor(
                [[chosen.item(), rejected.item()] for chosen, rejected in found], dtype=torch.float64
            )
            new = self._file.with_suffix(f".{os.getpid()}.new")  # each process asks, one answer stays
            save_file({"reference": table}, new)
            new.replace(self._file)
        for line, row in zip(lines, load_file(self._file)["reference"].tolist(), strict=True):
            line.reference = (row[0], row[1])

    def size(self, line: Pair) -> int:
        """Both texts."""
        return len(line.chosen) + len(line.rejected)

    def weight(self, batch: Sequence[Pair]) -> float:
        """The pairs."""
        return float(len(batch))

    def frequencies(self, lines: Sequence[Pair]) -> None:
        """A preference has no tokens to guess."""

    def split(self, batch: Sequence[Pair]) -> Iterator[list[Pair]]:
        """Pairs of like length together."""
        yield from in_parts(sorted(batch, key=self.size), self._most_tokens, self.size)

    def loss(self, model: Any, part: list[Pair], device: torch.device) -> tuple[torch.Tensor, Figures]:
        """−ln σ(β · (how much better the better answer became than the worse)), summed."""
        chosen, rejected = self._log_probabilities(model, part, device)
        reference = torch.tensor([line.reference for line in part], device=device)
        margin = self._beta * ((chosen - reference[:, 0]) - (rejected - reference[:, 1]))
        loss = -torch.nn.functional.logsigmoid(margin).sum()
        return loss, Figures(loss.item(), float((margin > 0).sum().item()), float(len(part)))

    def _log_probabilities(
        self, model: Any, part: list[Pair], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        lines = [line.chosen for line in part] + [line.rejected for line in part]
        logits, labels, rows = forward(model, lines, device)
        each = -torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        sums = torch.zeros(len(lines), device=device, dtype=each.dtype).index_add(0, rows, each)
        return sums[: len(part)], sums[len(part) :]


def forward(
    model: Any, lines: Sequence[Encoded], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(logits, the tokens that came, their rows) at every place where a completion's token is guessed."""
    longest = max(len(line) for line in lines)
    ids = torch.zeros(len(lines), longest, dtype=torch.long)
    mask, learnt = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, line in enumerate(lines):
        ids[row, : len(line)] = torch.tensor(line.prompt + line.completion)
        mask[row, : len(line)] = 1
        learnt[row, max(1, len(line.prompt)) : len(line)] = True
    ids, mask, learnt = ids.to(device), mask.to(device), learnt.to(device)
    output = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    places = learnt[:, 1:]
    return output[places].float(), ids[:, 1:][places], places.nonzero()[:, 0]


def in_parts(lines: Sequence[Any], most_tokens: int, size: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Runs of `lines` whose padded size stays within `most_tokens`, at least one line each."""
    part: list[Any] = []
    longest = 0
    for line in lines:
        longest = max(longest, size(line))
        if part and longest * (len(part) + 1) > most_tokens:
            yield part
            part, longest = [], size(line)
        part.append(line)
    if part:
        yield part
