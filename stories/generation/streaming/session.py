"""One story being written by this process: the text that arrived, the text that is committed, the outcome (pure)."""

import asyncio
from dataclasses import dataclass, field

from django.utils import timezone

from llm.answers import Answer
from llm.errors import LLMError
from llm.lessons import Lesson
from llm.questions import Ask
from llm.rate_headers import NOTHING, Rates
from llm.thinking import without_thinking
from stories.generation import outcomes, states
from stories.generation.outcomes import MAX_REFUSAL, Outcome
from stories.generation.text_assembly import TextAssembler
from stories.models import Attempt, Story

COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")


@dataclass(eq=False)
class Session:
    """`story.text` is what is committed; `pending` is the text that the next commit appends to it, or to `base`,
    the text that there was before this call.

    `outcome` is set when the call has ended, `error` if the provider ended it with one. `lost`: the story is not ours
    any more. `done` is set once the end is committed, or the story is lost.
    """

    story: Story
    attempt: Attempt
    ask: Ask
    assembler: TextAssembler = field(init=False)
    base: str = field(init=False)
    pending: str = ""
    outcome: Outcome | None = None
    lost: bool = False
    anew: str = ""
    """The name under which the row's text must begin anew, at `base`: what it holds beyond that was thinking."""
    epoch: int = 0
    """How often the text has begun anew."""
    thought: int = 0
    """Characters of thinking, which are kept nowhere."""
    opened_inside: bool | None = None
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
    lessons: list[Lesson] = field(default_factory=list)
    """What refusals of the call taught of how its model is asked."""
    failed_commits: int = 0
    """How often the text could not be stored although the database was there."""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    _was_handed_over: bool = field(init=False, default=False)
    """Whether a commit has been given text of this epoch."""

    def __post_init__(self) -> None:
        self.base = without_thinking(self.story.text)
        self.assembler = TextAssembler(self.base)
        if self.base != self.story.text:
            self.anew = states.new_name()

    @property
    def has_text(self) -> bool:
        """Whether the story has text, committed or not, from this call or an earlier one."""
        return bool((self.base if self.anew else self.story.text) or self.pending)

    @property
    def has_new_thought(self) -> bool:
        """Whether the model thinks and the row of the call does not say so yet."""
        return self.thought > 0 and self.attempt.first_thought_at is None

    @property
    def has_pending(self) -> bool:
        """Whether there is anything to commit."""
        return not self.lost and bool(self.pending or self.outcome or self.anew or self.has_new_thought)

    @property
    def is_urgent(self) -> bool:
        """Whether the next commit must not wait for its window: it holds the first text of the call, or its end,
        or takes back what was no text."""
        return self.outcome is not None or bool(self.anew) or self.attempt.first_text_at is None

    def receive(self, piece: Answer) -> None:
        """Takes what the provider sent: text, a finish reason, usage, any of them."""
        if piece.begins_anew:
            self._begin_anew()
        self.thought += len(piece.thinking)
        self.assembler.add(piece.text)
        self.pending += self.assembler.take()
        self.rates = self.rates if piece.rates == NOTHING else piece.rates
        self.refusal += piece.refusal if len(self.refusal) < MAX_REFUSAL else ""
        self.finish_reason = piece.finish_reason or self.finish_reason
        self.finish_word = piece.finish_word or self.finish_word
        if piece.opened_inside is not None:
            self.opened_inside = piece.opened_inside
        if piece.says_usage:
            self._take_counts(piece)

    def _take_counts(self, piece: Answer) -> None:
        """What a provider counted last counts. An odd count takes the place of a possible one that came before it."""
        self.odd_usage = piece.odd_usage
        for name in COUNTS:
            if (count := getattr(piece, name)) is not None or piece.odd_usage:
                setattr(self, name, count)

    def _begin_anew(self) -> None:
        """Drops the text of this call so far. Commits of it, one of which may be on its way, are taken back."""
        self.thought += len(self.story.text) - len(self.base) + len(self.pending)
        self.assembler, self.pending = TextAssembler(self.base), ""
        self.epoch += 1
        if self._was_handed_over:
            self.anew, self._was_handed_over = states.new_name(), False

    def finish(self, failure: BaseException | None) -> None:
        """Takes the text that the assembler still held back, and sets the outcome: nothing more will come.

        `failure`: the error that ended the call; a `CancelledError` if a person stopped it. It matters no more once the
        provider has ended the answer.
        """
        if self.finish_reason:
            failure = None
        self.assembler.finish()
        self.pending += self.assembler.take()
        if not self.completion_tokens and (self.has_text or self.thought):
            self.completion_tokens = None  # The provider counted no tokens for an answer that has some.
        self.error = failure if isinstance(failure, LLMError) else None
        self.outcome = self._outcome_of(failure)

    def _outcome_of(self, failure: BaseException | None) -> Outcome:
        if isinstance(failure, Exception):
            return outcomes.of_error(failure, for_reader=True, has_text=self.has_text)
        if failure is not None:
            return outcomes.of_stop()
        outcome = outcomes.of_answer(self.finish_reason, refusal=self.refusal)
        return outcomes.of_thought(outcome) if self.thought and not self.has_text else outcome

    def pending_chunk(self) -> "PendingChunk":
        """What a commit that begins now has to write."""
        self._was_handed_over = self._was_handed_over or bool(self.pending)
        return PendingChunk(self, self.pending, self.outcome, self.anew, self.epoch, self.has_new_thought)

    def note_committed(self, chunk: "PendingChunk", *, offset: int, text: str) -> None:
        """What a commit wrote: `text` at `offset`. The text may have begun anew since."""
        now = timezone.now()
        self.story.text = (chunk.before + chunk.text)[:offset] + text
        self.story.attempt_name = chunk.anew or self.story.attempt_name
        self.attempt.state = Attempt.State.STREAMING
        if chunk.thought:
            self.attempt.first_thought_at = now
        if text:
            self.attempt.first_text_at = self.attempt.first_text_at or now
        if chunk.epoch == self.epoch:
            self.pending = self.pending[len(chunk.text) :]
        if chunk.anew == self.anew:
            self.anew = ""


@dataclass(frozen=True)
class PendingChunk:
    """What one commit writes of a session. Text that arrives meanwhile is left for the next commit.

    `anew`, `epoch`: those of the session. `thought`: the model began to think.
    """

    session: Session
    text: str
    outcome: Outcome | None
    anew: str
    epoch: int
    thought: bool

    @property
    def before(self) -> str:
        """The text that this one is put behind."""
        return self.session.base if self.anew else self.session.story.text
