"""Reads server-sent events whose data is JSON, and whatever else servers send in their place (pure).

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html. Beyond it: an event whose one data line is whole
is taken before its blank line, since some servers send none; JSON without any framing is taken as an event.
"""

from collections.abc import Iterator

from llm.answers import read_json
from llm.errors import OutcomeUnknown, unreadable

MAX_LINE = 1024 * 1024  # bytes of one event
MAX_STRAY = 1_000  # bytes that are kept of what is no event
DONE = object()
"""The event `[DONE]`: no answer follows."""
NO_EVENT = object()
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineSplitter:
    """Cuts bytes at newlines and at nothing else, and keeps no more of a line than `most` bytes.

    A reader of text lines would also cut at U+2028 and NEL, which a story may hold.
    """

    def __init__(self, most: int = MAX_LINE) -> None:
        self._rest = bytearray()
        self._most = most

    @property
    def is_overlong(self) -> bool:
        """Whether the line that has not ended yet is longer than it may be."""
        return len(self._rest) > self._most

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece."""
        if b"\n" not in piece:
            self._rest += piece[: max(0, self._most + 1 - len(self._rest))]
            return []
        *lines, rest = (bytes(self._rest) + piece).split(b"\n")
        self._rest = bytearray(rest[: self._most + 1])
        return lines

    def finish(self) -> list[bytes]:
        """What stands after the last newline, if anything does."""
        return [bytes(self._rest)] if self._rest else []


class EventReader:
    """`feed` and `finish` bring the events: JSON values, or `DONE`. An event named "error" is `{"error": …}`.

    `is_framed`: whether an event with `data:` came. `has_event`: whether any came. `stray`: the beginning of what was
    no event. Raises `OutcomeUnknown` for an event that cannot be read, after those before it.
    """

    def __init__(self, *, max_line: int = MAX_LINE) -> None:
        self._lines = LineSplitter(max_line)
        self._most = max_line
        self._carriage = b""
        self._parts: list[bytes] = []
        self._kept = 0
        self._name = b""
        self.is_framed = False
        self.has_event = False
        self.stray = b""

    def feed(self, piece: bytes) -> Iterator[object]:
        """The events that end in this piece."""
        if self._carriage or b"\r" in piece:
            piece = self._without_carriages(piece)
        for line in self._lines.feed(piece):
            if (event := self._take(line)) is not NO_EVENT:
                yield event
        if self._lines.is_overlong:
            raise unreadable(b"".join(self._lines.finish()))

    def finish(self) -> Iterator[object]:
        """The events that were not ended by a blank line: no more pieces will come."""
        for line in (*self._lines.finish(), b""):
            if (event := self._take(line)) is not NO_EVENT:
                yield event
        if self._parts:
            yield self._read_parts()

    def _without_carriages(self, piece: bytes) -> bytes:
        r"""The piece with \r\n and \r as \n, a \r at its end kept for the next. No text in JSON holds a raw \r."""
        piece = self._carriage + piece
        self._carriage = b"\r" if piece.endswith(b"\r") else b""
        piece = piece.removesuffix(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take(self, line: bytes) -> object:
        """The event that this line ends, or `NO_EVENT`."""
        if line.startswith(b"data:"):
            self.is_framed = True
            return self._take_data(line[5:].strip())
        if not line.strip():
            return self._end_event()
        if self._is_bare(line):
            return self._take_data(line.strip())
        if line.startswith(BYTE_ORDER_MARK):
            return self._take(line.removeprefix(BYTE_ORDER_MARK))
        if line.startswith(b"event:"):
            self._name = line[6:].strip()
        elif not line.startswith((b":", b"id:", b"retry:")) and len(self.stray) < MAX_STRAY:
            self.stray += line[:MAX_STRAY] + b"\n"
        return NO_EVENT

    def _is_bare(self, line: bytes) -> bool:
        """Whether the line is JSON, or a line of JSON, that no event frames. Between events it must be whole."""
        if not self.is_framed:
            return bool(self._parts) or line.lstrip()[:1] in (b"{", b"[")
        return not self._parts and line[:1] == b"{" and line.rstrip()[-1:] == b"}"

    def _take_data(self, data: bytes) -> object:
        if not data:
            return NO_EVENT  # A heartbeat.
        if self._parts or self._name == b"error":
            return self._keep(data)
        if data != b"[DONE]":
            try:
                event = read_json(data)
            except OutcomeUnknown:
                return self._keep(data)  # Perhaps its other lines follow.
        else:
            event = DONE
        self.has_event = True
        return event

    def _keep(self, data: bytes) -> object:
        self._parts.append(data)
        self._kept += len(data)
        if self._kept > self._most:
            raise unreadable(data)
        return NO_EVENT

    def _end_event(self) -> object:
        """At a blank line. One within JSON that no event frames ends nothing."""
        event = self._read_parts() if self._parts and self.is_framed else NO_EVENT
        self._name = b""
        return event

    def _read_parts(self) -> object:
        data, self._parts, self._kept = b"\n".join(self._parts), [], 0
        self.has_event = True
        if self._name != b"error":
            return read_json(data)
        try:
            said = read_json(data)
        except OutcomeUnknown:
            said = data.decode(errors="replace")
        return said if isinstance(said, dict) and said.get("error") else {"error": said or "error"}
