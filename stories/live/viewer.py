"""What one viewer of a story has to be sent (pure).

The row is the truth; a publication only says what was committed. `Viewer` turns rows and publications into the
messages of the story socket (docs/contracts.md). It sends each piece of text exactly once, even if publications are
late, doubled or lost.
"""

from dataclasses import dataclass
from typing import Any

from stories.live.publications import Publication
from stories.models import EndReason, Story

# The contract of the socket has no word for a cancelled run: a viewer is told that somebody stopped the story.
SOCKET_REASONS = {EndReason.CANCELLED: EndReason.STOPPED, "": EndReason.UNKNOWN}
Message = dict[str, Any]  # Any: a JSON object, one of those in docs/contracts.md, "Story socket"


@dataclass(frozen=True)
class Snapshot:
    """A story's row as viewers need it: its final text under that text's name.

    `position` in the queue is None unless queued. `wait`: the seconds until a queued story's model is asked again, if
    its provider asked for a pause; else 0. `thinking`: the seconds that the model has been thinking, None once it
    writes.
    """

    attempt: str
    fence: int
    state: str
    text: str
    reason: str
    position: int | None
    wait: int = 0
    thinking: int | None = None

    @property
    def wait_minutes(self) -> int:
        """`wait` in minutes: a viewer gets a new state message each time it changes."""
        return in_minutes(self.wait)

    @property
    def has_ended(self) -> bool:
        return self.state in Story.ENDED


def in_minutes(seconds: int) -> int:
    """Whole minutes, rounded up."""
    return -(-seconds // 60)


class Viewer:
    """What one connection has been sent, and so what comes next. Offsets count Unicode code points."""

    def __init__(self, *, attempt: str, offset: int) -> None:
        self.attempt: str | None = attempt
        self.offset = offset
        self.fence = 0
        self.state = ""
        self.position: int | None = None
        self.wait_minutes = 0
        self.is_thinking = False
        self.greeted = False
        self.ended = False

    def catch_up(self, row: Snapshot) -> list[Message]:
        """The messages that bring this viewer to the row; the first time they begin with hello."""
        if self.ended or row.fence < self.fence:
            return []
        messages = self._restart(row) if self.greeted else self._hello(row)
        self.fence = row.fence
        messages += self._state(row)
        if len(row.text) > self.offset:
            messages.append(self._text(row.text[self.offset :]))
        if row.has_ended:
            self.ended = True
            messages.append(
                {
                    "type": "end",
                    "state": row.state,
                    "length": len(row.text),
                    "reason": str(SOCKET_REASONS.get(row.reason, row.reason)),
                }
            )
        return messages

    def relay(self, publication: Publication) -> list[Message] | None:
        """The messages for a publication; [] if the viewer has its text already, None if the row must be read."""
        if self.ended:
            return []
        if "text" not in publication:
            return None
        if publication["fence"] < self.fence:
            return []
        is_newer = publication["attempt"] != self.attempt or publication["fence"] > self.fence
        if is_newer or self.is_thinking or self.state != Story.State.WRITING:
            return None
        known = self.offset - publication["offset"]
        if known < 0:
            return None
        fresh = publication["text"][known:]
        return [self._text(fresh)] if fresh else []

    def _hello(self, row: Snapshot) -> list[Message]:
        self.greeted = True
        same = bool(row.attempt) and self.attempt == row.attempt
        self.offset = min(self.offset, len(row.text)) if same else 0
        self.attempt = row.attempt or None
        if row.state != Story.State.QUEUED:
            self.state = row.state
        return [{"type": "hello", "attempt": self.attempt, "offset": self.offset, "state": row.state}]

    def _restart(self, row: Snapshot) -> list[Message]:
        if (row.attempt or None) == self.attempt:
            return []
        self.attempt, self.offset = row.attempt, 0
        return [{"type": "restart", "attempt": row.attempt}]

    def _state(self, row: Snapshot) -> list[Message]:
        known = (self.state, self.position, self.wait_minutes, self.is_thinking)
        told = (row.state, row.position, row.wait_minutes, row.thinking is not None)
        if row.has_ended or told == known:
            return []
        self.state, self.position, self.wait_minutes, self.is_thinking = told
        details = {"wait": row.wait or None, "position": row.position, "thinking": row.thinking}
        known_details = {name: value for name, value in details.items() if value is not None}
        return [{"type": "state", "state": row.state} | known_details]

    def _text(self, text: str) -> Message:
        message = {"type": "text", "offset": self.offset, "text": text}
        self.offset += len(text)
        return message
