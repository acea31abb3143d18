"""The interface between the server and its engines; a further engine implements it and joins registry.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

MIN_TEMPERATURE = 0.01  # below it the likeliest token is taken


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn: `temperature` 0 to 2, `top_p` 0 to 1."""

    temperature: float
    top_p: float


@dataclass(frozen=True)
class WriteOrder:
    """One text to write about `prompt`. `written` is the text so far; only the rest is written.

    `as_completion`: requested through /v1/completions, where a model tuned on prompt/completion lines shows its leading
    space and its stop string. `messages` (role, content) and `raw` are the chat or the completion prompt word for word;
    `stops` and `limit` (tokens, None: the engine's own) are for engines that end by themselves.
    """

    prompt: str
    written: str = ""
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    as_completion: bool = False
    messages: tuple[tuple[str, str], ...] = ()
    raw: str = ""
    stops: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def sampling(self) -> SamplingParams:
        """Temperature and top_p together."""
        return SamplingParams(self.temperature, self.top_p)


class Writer(Protocol):
    """A loaded model."""

    def write(self, order: WriteOrder) -> Iterator[str]:
        """The text in one or more non-empty pieces; may block, is called in a thread."""
        ...


class Answer(Protocol):
    """One answer being written. Iterate it for its pieces; afterwards `finish_reason` and `tokens` hold."""

    @property
    def finish_reason(self) -> str:
        """`stop` or `length`."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens written so far."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """Tokens of what was asked."""
        ...

    @property
    def paced(self) -> bool:
        """Whether a stream is slowed to the server's pace."""
        ...

    def __aiter__(self) -> AsyncGenerator[str, None]:
        """The text in non-empty pieces; leaving the iteration early ends the writing."""
        ...


@runtime_checkable
class Answering(Protocol):
    """A writer that applies stop strings and the limit itself, and counts its own tokens."""

    async def answer(self, order: WriteOrder) -> Answer:
        """Begins to write. Raises ApiError for an order that it cannot take, or while it is too busy."""
        ...


@dataclass(frozen=True)
class Example:
    """One training line: what was asked and what was answered. `legacy`: it was a prompt/completion line.

    `messages` (role, content) is the whole chat of a chat line, `rejected` the worse answer of a preference line,
    `line` its number in the file.
    """

    prompt: str
    answer: str
    legacy: bool = False
    messages: tuple[tuple[str, str], ...] = ()
    rejected: str | None = None
    line: int = 0


@dataclass(frozen=True)
class Step:
    """The figures of one training step. Losses are mean natural-log losses per token; `epoch` starts at 1.

    `in_sample`: the tokens had been counted before they were predicted (every epoch but the first); None for
    engines that do not count.
    Validation figures are those of the whole validation file, None where it was not evaluated. `at` is the Unix
    time of the step, where the engine reports it.
    """

    number: int
    total: int
    epoch: int
    in_sample: bool | None
    train_loss: float
    train_accuracy: float
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    at: float | None = None


@dataclass(frozen=True)
class TrainOrder:
    """One training: examples, numbers already resolved from "auto", and the model file to begin from.

    `parent` None begins from the base model. The result is written to `target`, a file or a folder as the engine
    likes. `watch` is to be called at least twice a second, and ends the training by raising; `checkpoint` is called for
    each state that can already be used, as its step and its path within the folder of models.
    """

    training: Sequence[Example]
    validation: Sequence[Example]
    parent: Path | None
    target: Path
    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    seed: int
    base: Path | None = None
    method: str = "supervised"
    beta: float = 0.1
    fence: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    watch: Callable[[], None] = lambda: None
    checkpoint: Callable[[int, str], None] = lambda step, path: None
    say: Callable[[str], None] = lambda sentence: None


Report = Callable[[Step], None]


class TrainingFault(Exception):
    """A training that cannot be done; the message is for the person who ordered it, `code` for their program."""

    def __init__(self, message: str, *, code: str = "training_failed") -> None:
        super().__init__(message)
        self.code = code


class TrainingStopped(Exception):
    """The training was stopped on request before its end; the order stays unfinished."""


@dataclass
class Trained:
    """The result of a training besides its file. `notes` become events of the job.

    `tokens` is the number of trained tokens, None: the worker counts them. `path` is the model's place, None: that of
    the order. `unigram_loss` is the loss of a model that knows only how often each token occurs in the lines, None
    where losses are not of tokens.
    """

    notes: list[str] = field(default_factory=list)
    tokens: int | None = None
    path: str | None = None
    unigram_loss: float | None = None


class TrainFunction(Protocol):
    """Trains in the child process; calls `report` after each step."""

    def __call__(self, order: TrainOrder, report: Report) -> Trained:
        """Trains and writes `order.target`. Raises TrainingFault with a clear sentence if it cannot be done."""
        ...
