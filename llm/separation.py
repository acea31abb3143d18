"""Separates an answer's thinking from its text, whether the server gives it apart or in the text (pure)."""

from dataclasses import replace

from llm.answers import Answer
from llm.thinking import Part, ThinkingSplitter

MAX_THINKING = 400_000  # characters of one answer: more than any length limit that we ask for


class AnswerSplitter:
    """Takes the pieces of one answer in order. `opens_inside`: see `ThinkingSplitter`."""

    def __init__(self, *, opens_inside: bool = False) -> None:
        self._splitter = ThinkingSplitter(opens_inside=opens_inside)
        self._thought = 0
        self._finish_reason = ""

    @property
    def is_endless(self) -> bool:
        """Whether the answer has thought for longer than any that we asked for."""
        return self._thought > MAX_THINKING

    def take(self, piece: Answer) -> Answer:
        """The piece, its thinking apart. `Answer.begins_anew`: all text before it was thinking, too."""
        apart = self._splitter.note_thinking() if piece.thinking else Part()
        part = apart + self._splitter.feed(piece.text)
        self._finish_reason = piece.finish_reason or self._finish_reason
        return self._with(piece, part)

    def finish(self) -> Answer:
        """What was held back, once the answer has ended, and what it showed of its model."""
        part = self._splitter.finish(is_complete=self._finish_reason == "stop")
        return replace(self._with(Answer("", ""), part), opened_inside=self._splitter.opened_inside)

    def _with(self, piece: Answer, part: Part) -> Answer:
        thinking = piece.thinking + part.thinking
        self._thought += len(thinking)
        return replace(piece, text=part.text, thinking=thinking, begins_anew=part.begins_anew)


def separate(answer: Answer, *, opens_inside: bool = False) -> Answer:
    """A whole answer, its thinking apart."""
    splitter = AnswerSplitter(opens_inside=opens_inside)
    first, last = splitter.take(answer), splitter.finish()
    part = Part(first.text, first.thinking) + Part(last.text, last.thinking, last.begins_anew)
    return replace(
        first, text=part.text, thinking=part.thinking, begins_anew=False, opened_inside=last.opened_inside
    )
