"""What the bytes of an answer say, piece by piece, and when it has ended (pure).

An answer ends when the provider says so: by a finish reason or by `[DONE]`. Text that comes after that is ignored; only
the usage, which OpenAI sends between the two, is still taken. A closed connection alone is no end, except after JSON
that came without events, which is a whole answer.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from llm.answers import NOTHING_SAID, Answer, ended, read_answer, read_whole
from llm.errors import MAX_QUOTE, FailedAnswer, OutcomeUnknown
from llm.event_stream import DONE, MAX_LINE, EventReader
from llm.finish_reasons import CONTENT_FILTER, is_break
from llm.redaction import redact
from sentences import sentence as _

TAG = re.compile(r"<[^>]*>")


class AnswerReader:
    """`feed` and `close` bring the pieces; the one that ends the answer has the finish reason.

    `has_ended`: the provider has ended the answer. `is_done`: it has said that nothing follows. Both functions raise
    `FailedAnswer` for an error in the answer, or an answer without any event, and `OutcomeUnknown` for an event that
    cannot be read, but nothing once the answer has ended.
    """

    def __init__(self, *, max_line: int = MAX_LINE) -> None:
        self._events = EventReader(max_line=max_line)
        self._taken = 0
        self._last: object = None
        self._declined = False
        self._silence = NOTHING_SAID
        self.has_ended = False
        self.is_done = False

    def feed(self, piece: bytes) -> Iterator[Answer]:
        """The pieces of the answer that end in these bytes."""
        return self._read(self._events.feed(piece))

    def close(self) -> Iterator[Answer]:
        """The connection was closed in good order: the pieces that are left."""
        yield from self._read(self._events.finish())
        if self.has_ended:
            return
        if self._events.stray or not self._events.has_event:
            raise _no_answer(self._events.stray)
        if not self._events.is_framed:
            if not self._taken:
                read_whole(self._last)  # Whatever JSON it is, it must be an answer.
            yield self._end(self._silence)

    def _read(self, events: Iterator[object]) -> Iterator[Answer]:
        try:
            for event in events:
                if event is DONE:
                    self.is_done = True
                    if not self.has_ended:
                        yield self._end(self._silence)
                else:
                    yield _usage_of(event) if self.has_ended else self._take(event)
        except OutcomeUnknown:
            if not self.has_ended:
                raise

    def _take(self, event: object) -> Answer:
        piece = read_answer(event, taken=self._taken)
        self._last = event
        self._taken += len(piece.text)
        if piece.refusal:
            self._declined = True
        if not piece.finish_word:
            return piece
        self._silence = replace(NOTHING_SAID, finish_word=piece.finish_word)
        return self._end(piece) if piece.finish_reason or is_break(piece.finish_word) else piece

    def _end(self, piece: Answer) -> Answer:
        """`_silence`, the piece that says nothing but the last word for an end, is the end where none else is."""
        self.has_ended = True
        return replace(piece, finish_reason=CONTENT_FILTER) if self._declined else ended(piece)


def _usage_of(event: object) -> Answer:
    """What an event after the end of an answer still says: its token counts."""
    piece = read_answer(event)
    return replace(piece, text="", thinking="", refusal="", finish_reason="", finish_word="")


def _no_answer(said: bytes) -> FailedAnswer:
    """The error for an answer that was no answer, with what it said: a page of HTML, a line of text, or nothing."""
    words = redact(" ".join(TAG.sub(" ", said.decode(errors="replace")).split()), most=MAX_QUOTE)
    if not words:
        return FailedAnswer(_("模型服务的回答是空的。"))
    return FailedAnswer(_("模型服务没有回答故事，而是说：%(words)s") % {"words": words})
