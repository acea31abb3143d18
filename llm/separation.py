"""Separates an answer's thinking from its text, whether the server gives it apart or in the text (pure)."""

from dataclasses import replace

from llm.answers import NOTHING_SAID, Answer
from llm.finish_reasons import LENGTH, STOP
from llm.thinking import Split, ThinkingSplitter

MAX_THINKING = 400_000  # characters of one answer: more than any length limit that we ask for


class AnswerSplitter:
    """Takes the pieces of one answer in order, and cuts its text after `most` characters, thinking not counted.

    `opens_inside`: see `ThinkingSplitter`.
    """

    def __init__(self, *, most: int, opens_inside: bool = False) -> None:
        self._splitter = ThinkingSplitter(opens_inside=opens_inside)
        self._most = self._room = most
        self._thought = 0
        self._finish_reason = ""

    @property
    def is_full(self) -> bool:
        """Whether nothing more of the answer is wanted: its text was cut, or it thinks without end."""
        return self._room < 0 or self._thought > MAX_THINKING

    def take(self, piece: Answer) -> Answer:
        """The piece, its thinking apart. `Answer.begins_anew`: all text before it was thinking, too."""
        apart = self._splitter.note_thinking() if piece.thinking else Split()
        part = apart + self._splitter.feed(piece.text)
        self._finish_reason = piece.finish_reason or self._finish_reason
        return self._with(piece, part)

    def finish(self) -> Answer:
        """What was held back, once the answer has ended, and what it showed of its model."""
        part = self._splitter.finish(is_complete=self._finish_reason == STOP)
        return replace(self._with(NOTHING_SAID, part), opened_inside=self._splitter.opened_inside)

    def _with(self, piece: Answer, part: Split) -> Answer:
        thinking, room = piece.thinking + part.thinking, self._most if part.begins_anew else self._room
        self._thought += len(thinking)
        self._room = room - len(part.text)
        piece = replace(
            piece, text=part.text[: max(0, room)], thinking=thinking, begins_anew=part.begins_anew
        )
        return replace(piece, finish_reason=LENGTH) if self.is_full else piece


def separate(answer: Answer, *, opens_inside: bool = False) -> Answer:
    """A whole answer, its thinking apart. The text is not cut."""
    splitter = ThinkingSplitter(opens_inside=opens_inside)
    apart = splitter.note_thinking() if answer.thinking else Split()
    part = apart + splitter.feed(answer.text) + splitter.finish(is_complete=answer.finish_reason == STOP)
    return replace(
        answer,
        text=part.text,
        thinking=answer.thinking + part.thinking,
        opened_inside=splitter.opened_inside,
    )
