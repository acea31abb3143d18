"""One story being written by this process: the text that arrived, the text that is committed, the outcome (pure)."""

import asyncio
from dataclasses import dataclass, field

from llm.answers import Answer
from llm.calls import Ask
from llm.errors import LLMError
from llm.rate_headers import NOTHING, Rates
from stories.generation import outcomes
from stories.generation.outcomes import MAX_REFUSAL, Outcome
from stories.generation.text_assembly import TextAssembler
from stories.models import Attempt, Story

COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")


@dataclass(eq=False)
class Session:
    """`story.text` is what is committed; `pending` is the text that the next commit appends to it.

    `outcome` is set when the call has ended, `error` if the provider ended it with one. `lost`: the story is not ours
    any more. `done` is set once the end is committed, or the story is lost.
    """

    story: Story
    attempt: Attempt
    ask: Ask
    assembler: TextAssembler = field(init=False)
    pending: str = ""
    outcome: Outcome | None = None
    lost: bool = False
    finish_reason: str = ""
    finish_word: str = ""
    refusal: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    odd_usage: str = ""
    rates: Rates = NOTHING
    error: LLMError | None = None
    failed_commits: int = 0
    """How often the text could not be stored although the database was there."""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.assembler = TextAssembler(self.story.text)

    @property
    def has_text(self) -> bool:
        """Whether the story has text, committed or not, from this call or an earlier one."""
        return bool(self.story.text or self.pending)

    @property
    def has_pending(self) -> bool:
        """Whether there is anything to commit."""
        return not self.lost and bool(self.pending or self.outcome)

    @property
    def is_urgent(self) -> bool:
        """Whether the next commit must not wait for its window: it holds the first text of the call, or its end."""
        return self.outcome is not None or self.attempt.state == Attempt.State.SUBMITTING

    def receive(self, piece: Answer) -> None:
        """Takes what the provider sent: text, a finish reason, usage, any of them."""
        self.assembler.add(piece.text)
        self.pending += self.assembler.take()
        self.rates = self.rates if piece.rates == NOTHING else piece.rates
        self.refusal += piece.refusal if len(self.refusal) < MAX_REFUSAL else ""
        self.finish_reason = piece.finish_reason or self.finish_reason
        self.finish_word = piece.finish_word or self.finish_word
        if piece.says_usage:
            self._take_counts(piece)

    def _take_counts(self, piece: Answer) -> None:
        """What a provider counted last counts. An odd count takes the place of a possible one that came before it."""
        self.odd_usage = piece.odd_usage
        for name in COUNTS:
            if (count := getattr(piece, name)) is not None or piece.odd_usage:
                setattr(self, name, count)

    def finish(self, failure: BaseException | None) -> None:
        """Takes the text that the assembler still held back, and sets the outcome: nothing more will come.

        `failure`: the error that ended the call; a `CancelledError` if a person stopped it. It matters no more once the
        provider has ended the answer.
        """
        if self.finish_reason:
            failure = None
        self.assembler.finish()
        self.pending += self.assembler.take()
        if not self.completion_tokens and self.has_text:
            self.completion_tokens = None  # The provider counted no tokens for a text that has some.
        self.error = failure if isinstance(failure, LLMError) else None
        self.outcome = self._outcome_of(failure)

    def _outcome_of(self, failure: BaseException | None) -> Outcome:
        if isinstance(failure, Exception):
            return outcomes.of_error(failure, for_reader=True, has_text=self.has_text)
        if failure is not None:
            return outcomes.of_stop()
        return outcomes.of_answer(self.finish_reason, refusal=self.refusal)

    def pending_chunk(self) -> "PendingChunk":
        """What a commit that begins now has to write."""
        return PendingChunk(self, self.pending, self.outcome)


@dataclass(frozen=True)
class PendingChunk:
    """What one commit writes of a session. Text that arrives meanwhile is left for the next commit."""

    session: Session
    text: str
    outcome: Outcome | None
