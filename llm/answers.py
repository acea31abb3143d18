"""What a model's answer says, read once and with care: the edge of the wire (pure).

Compatible servers send counts as strings, floats or below zero, content as a list of parts, and words where
others have null. A value that cannot be what it should be counts as not said; an answer whose text cannot be
read is an unknown outcome. Nothing behind this module checks a type again.
"""

import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Any

from llm.errors import UNREADABLE, OutcomeUnknown
from llm.rate_headers import NOTHING, Rates
from llm.redaction import redact

MOST_TOKENS = 10**9  # of one call; what is above it is no count
MOST_LINE = 1024 * 1024  # bytes of one event
MOST_DIGITS = 40
LONGEST_REASON, LONGEST_USAGE = 40, 120


@dataclass(frozen=True)
class Answer:
    """A whole answer, or a piece of one. Token counts are the provider's own, None where it gave none that can be
    true: `odd_usage` is then what it said instead. `finish_reason` is "" if it gave none; `rates` come with a whole
    answer, or with the first piece.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    odd_usage: str = ""
    rates: Rates = NOTHING


def read_count(value: Any) -> int | None:
    """A number of tokens: a whole number from 0 to `MOST_TOKENS`, None for anything else."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and 0 <= value <= MOST_TOKENS else None


def read_finish_reason(value: Any) -> str:
    """The provider's word for why it ended; "" where it is no word."""
    return redact(value, most=LONGEST_REASON) if isinstance(value, str) else ""


def read_text(value: Any) -> str:
    """The text of a content: a string, or a list of parts whose kind is text. Raises `OutcomeUnknown`."""
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise OutcomeUnknown(UNREADABLE)
    return "".join(_read_part(part) for part in value)


def _read_part(part: Any) -> str:
    """A part of another kind (thinking, an image) is no text of the story."""
    if isinstance(part, dict):
        part = part.get("text") if part.get("type", "text") == "text" else ""
    if not isinstance(part, str):
        raise OutcomeUnknown(UNREADABLE)
    return part


def read_json(data: bytes | str) -> Any:
    """Raises `OutcomeUnknown` for what is no JSON, also for nestings that Python refuses."""
    try:
        return json.loads(data, parse_int=_read_whole_number)
    except (ValueError, RecursionError) as error:
        raise OutcomeUnknown(UNREADABLE) from error


def _read_whole_number(digits: str) -> int | float:
    """Python refuses whole numbers of thousands of digits, and with them the answer that they stand in."""
    return int(digits) if len(digits) < MOST_DIGITS else float(digits)


def read_answer(event: Any) -> Answer:
    """A whole answer's body, or one event of a stream. Raises `OutcomeUnknown`, with the provider's words if any."""
    if not isinstance(event, dict):
        raise OutcomeUnknown(UNREADABLE)
    if event.get("error"):
        raise OutcomeUnknown(f"模型服务中途报错：{_words_of(event['error'])}")
    choice = _first_choice(event)
    inner = choice.get("delta") or choice.get("message")
    content = inner.get("content") if isinstance(inner, dict) else None
    return Answer(
        text=read_text(choice.get("text") if content is None else content),
        finish_reason=read_finish_reason(choice.get("finish_reason")),
        **_read_usage(event.get("usage")),
    )


def _read_usage(usage: Any) -> dict[str, Any]:
    """The counts of an answer as `Answer` names them."""
    said = usage if isinstance(usage, dict) else {}
    counts = {name: read_count(said.get(name)) for name in ("prompt_tokens", "completion_tokens")}
    is_odd = any(count is None and said.get(name) is not None for name, count in counts.items())
    is_odd = is_odd or not isinstance(usage, dict | None)
    return counts | {"odd_usage": redact(usage, most=LONGEST_USAGE) if is_odd else ""}


def read_whole(body: Any) -> Answer:
    """The body of an answer that was not streamed. Raises `OutcomeUnknown`, also where it holds no text or message."""
    if isinstance(body, dict) and not body.get("error"):
        choice = _first_choice(body)
        if not ("message" in choice or "text" in choice):
            raise OutcomeUnknown(UNREADABLE)
    return read_answer(body)


def _first_choice(event: dict[str, Any]) -> dict[str, Any]:
    choices = event.get("choices") or [{}]
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise OutcomeUnknown(UNREADABLE)
    return choices[0]


def _words_of(error: Any) -> str:
    return redact(error.get("message") if isinstance(error, dict) else error)


class LineSplitter:
    """Cuts bytes at newlines and at nothing else, and keeps no more of a line than `MOST_LINE` bytes.

    Readers of text lines also cut at U+2028 and NEL, which a story may hold.
    """

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_overlong(self) -> bool:
        """Whether the line that has not ended yet is longer than any that makes sense."""
        return len(self._rest) > MOST_LINE

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece."""
        *lines, rest = (self._rest + piece).split(b"\n")
        self._rest = rest[: MOST_LINE + 1]
        return lines

    def finish(self) -> list[bytes]:
        """What stands after the last newline, if anything does."""
        return [self._rest] if self._rest else []


async def split_lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines of an event stream as they arrive. Raises `OutcomeUnknown` for a line without end."""
    lines = LineSplitter()
    async for chunk in chunks:
        for line in lines.feed(chunk):
            yield line
        if lines.is_overlong:
            raise OutcomeUnknown(UNREADABLE)
    for line in lines.finish():
        yield line
