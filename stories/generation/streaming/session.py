"""One story being written by this process: what has arrived, what is committed, how it ends (pure)."""

import asyncio
from dataclasses import dataclass, field

from llm.answers import Answer
from llm.calls import Ask
from llm.errors import LLMError
from llm.rate_headers import NOTHING, Rates
from stories.generation import outcomes
from stories.generation.outcomes import Outcome
from stories.generation.text_assembly import Gatherer
from stories.models import Attempt, Story


@dataclass(eq=False)
class Pen:
    """`story.text` is what is committed, `slice` what the next commit appends to it."""

    story: Story
    attempt: Attempt
    ask: Ask
    gatherer: Gatherer = field(init=False)
    slice: str = ""
    outcome: Outcome | None = None
    lost: bool = False
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    odd_usage: str = ""
    rates: Rates = NOTHING
    error: LLMError | None = None
    misses: int = 0
    """How often what arrived could not be stored, though the database was there."""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gatherer = Gatherer(self.story.text)

    @property
    def has_text(self) -> bool:
        return bool(self.story.text or self.slice)

    @property
    def is_dirty(self) -> bool:
        return not self.lost and bool(self.slice or self.outcome)

    @property
    def is_urgent(self) -> bool:
        """The first text of a call, and its end, do not wait for the window."""
        return self.outcome is not None or self.attempt.state == Attempt.State.SUBMITTING

    def take_in(self, piece: Answer) -> None:
        """What the provider sent: text, a finish reason, usage, any of them."""
        self.gatherer.add(piece.text)
        self.slice += self.gatherer.take()
        self.rates = self.rates if piece.rates == NOTHING else piece.rates
        self.finish_reason = piece.finish_reason or self.finish_reason
        self.odd_usage = piece.odd_usage or self.odd_usage
        self.prompt_tokens = self.prompt_tokens if piece.prompt_tokens is None else piece.prompt_tokens
        if piece.completion_tokens is not None:
            self.completion_tokens = piece.completion_tokens

    def finish(self, failure: BaseException | None) -> None:
        """Nothing more will come: keeps the text that waited in the gatherer, and what the end of the call means.

        `failure`: the error that ended the call; a `CancelledError` if a person stopped it.
        """
        self.gatherer.finish()
        self.slice += self.gatherer.take()
        if not self.completion_tokens and self.has_text:
            self.completion_tokens = None  # a text of no tokens was not counted
        self.error = failure if isinstance(failure, LLMError) else None
        self.outcome = self._outcome_of(failure)

    def _outcome_of(self, failure: BaseException | None) -> Outcome:
        if isinstance(failure, Exception):
            return outcomes.of_error(failure, for_reader=True, has_text=self.has_text)
        return outcomes.of_answer(self.finish_reason) if failure is None else outcomes.of_stop()


@dataclass(frozen=True)
class Slice:
    """A pen at the moment a commit begins; pieces that arrive meanwhile are for the next one."""

    pen: Pen
    text: str
    outcome: Outcome | None


def slice_of(pen: Pen) -> Slice:
    return Slice(pen, pen.slice, pen.outcome)
