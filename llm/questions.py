"""What a model is asked, in its dialect.

Source: https://platform.openai.com/docs/api-reference/chat and /completions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm.dialects import DEVELOPER, SYSTEM, Dialect
from llm.errors import Refused
from llm.lessons import Lesson, lesson_of

USUAL = Dialect()


@dataclass(frozen=True)
class Ask:
    """One question to a model: chat `messages`, or a legacy `prompt`. `stop` is "" for none.

    `max_characters`: an answer is cut after so many, whatever `max_tokens` the provider keeps to.
    `opens_inside`: the model's answers may begin inside its thinking (`thinking.py`).
    """

    model: str
    messages: tuple[dict[str, str], ...]
    prompt: str
    stop: str
    temperature: float
    max_tokens: int
    max_characters: int = 20_000
    opens_inside: bool = False
    seed: int | None = None
    dialect: Dialect = USUAL

    @property
    def limit(self) -> int:
        """The tokens that an answer may have, of which some may be thinking."""
        return min(self.max_tokens, self.dialect.max_length or self.max_tokens)

    # Any: the arguments differ in type, and the SDK has no type for all of them together.
    def parameters(self, *, is_streamed: bool = False) -> dict[str, Any]:
        """The keyword arguments of `client.chat.completions.create` or `client.completions.create`.

        All but `dialect.extra`, which the SDK takes as `extra_body`.
        """
        offered = {
            "temperature": self.temperature,
            "top_p": 1,
            "stop": [self.stop] if self.stop else None,
            "seed": self.seed,
            "stream_options": {"include_usage": True} if is_streamed else None,
        }
        taken = {
            name: value
            for name, value in offered.items()
            if value is not None and name not in self.dialect.omits
        }
        # Any: messages or a text, as above.
        question: dict[str, Any] = (
            {"messages": self.dialect.messages(self.messages)} if self.messages else {"prompt": self.prompt}
        )
        stream = {"stream": True} if is_streamed else {}
        limit = self.dialect.length(self.limit, is_chat=bool(self.messages))
        return {"model": self.model} | question | limit | taken | stream

    # Any: as above.
    def body(self) -> dict[str, Any]:
        """The JSON of the question, as a line of a batch's file holds it."""
        return self.parameters() | dict(self.dialect.extra)


Learn = Callable[[Lesson], None]
"""What becomes of what a refusal taught."""
MAX_LESSONS = 6  # from one question


def keep_nothing(_lesson: Lesson) -> None:
    """For a caller that has no model to keep a lesson for."""


def ask_again(ask: Ask, error: Refused, learn: Learn, *, tried: list[Dialect], is_streamed: bool) -> Ask:
    """The same question in the dialect that a refusal taught. Raises the refusal if it taught nothing.

    Nothing was billed for a refused question, so asking again costs nothing twice.
    """
    lesson = lesson_from(ask, error, tried=tried, is_streamed=is_streamed)
    if lesson is None or len(tried) >= MAX_LESSONS:
        raise error
    tried.append(ask.dialect)
    learn(lesson)
    return replace(ask, dialect=lesson.dialect)


def lesson_from(
    ask: Ask, error: Refused, *, tried: Sequence[Dialect] = (), is_streamed: bool = False
) -> Lesson | None:
    """What the refusal of a question taught; None if it taught nothing new."""
    sent = set(ask.parameters(is_streamed=is_streamed))
    if ask.dialect.system in (SYSTEM, DEVELOPER) and any(one["role"] == SYSTEM for one in ask.messages):
        sent.add("system")
    return lesson_of(error.refusal, ask.dialect, sent=frozenset(sent), tokens=ask.limit, tried=tried)
