"""Reads what a model answered, and checks every type once (pure).

Compatible servers send counts as strings, floats or negative numbers, content as a list of parts, and words where
others have null. A value of a wrong type or range counts as absent. An answer whose text cannot be read is an unknown
outcome. The modules that use this one need not check a type again.
"""

import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from llm.errors import UNREADABLE, OutcomeUnknown
from llm.rate_headers import NOTHING, Rates
from llm.redaction import redact
from sentences import sentence as _

MAX_TOKENS = 10**9  # of one call; a larger number is an error of the provider
MAX_LINE = 1024 * 1024  # bytes of one event
MAX_DIGITS = 40
MAX_REASON, MAX_USAGE = 40, 120  # characters that are kept


@dataclass(frozen=True)
class Answer:
    """A whole answer, or a piece of one. Token counts are the provider's own, None where it gave no possible
    one: `odd_usage` then quotes what it sent instead. `finish_reason` is "" if it gave none. `rates` come with a whole
    answer, or with the first piece. `thinking` is no part of the text; `begins_anew`: neither is any text before this
    piece. `opened_inside`: whether the answer began inside its thinking, None where it does not show
    (`separation.py`).
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    odd_usage: str = ""
    rates: Rates = NOTHING
    thinking: str = ""
    begins_anew: bool = False
    opened_inside: bool | None = None


def read_count(value: object) -> int | None:
    """A number of tokens: a whole number from 0 to `MAX_TOKENS`, None for anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MAX_TOKENS else None


def read_finish_reason(value: object) -> str:
    """The provider's word for why the answer ended; "" if it sent no text."""
    return redact(value, most=MAX_REASON) if isinstance(value, str) else ""


def read_text(value: object) -> str:
    """The text of a content: a string, or a list of parts whose kind is text. Raises `OutcomeUnknown`."""
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise OutcomeUnknown(UNREADABLE)
    return "".join(_read_part(part) for part in value)


def _read_part(part: object) -> str:
    """The text of a part; "" for a part of another kind (thinking, an image). Raises `OutcomeUnknown`."""
    if isinstance(part, dict):
        part = part.get("text") if part.get("type", "text") == "text" else ""
    if not isinstance(part, str):
        raise OutcomeUnknown(UNREADABLE)
    return part


# Any: JSON; the readers below check what it holds.
def read_json(data: bytes | str) -> object:
    """Raises `OutcomeUnknown` for data that is no JSON, or is nested more deeply than Python allows."""
    try:
        return json.loads(data, parse_int=_read_whole_number)
    except (ValueError, RecursionError) as error:
        raise OutcomeUnknown(UNREADABLE) from error


def _read_whole_number(digits: str) -> int | float:
    """A float for many digits: `int` refuses thousands of them, and the whole answer would be lost with the number."""
    return int(digits) if len(digits) < MAX_DIGITS else float(digits)


def read_answer(event: object) -> Answer:
    """A whole answer's body, or one event of a stream. Raises `OutcomeUnknown`, with the provider's words if any."""
    if not isinstance(event, dict):
        raise OutcomeUnknown(UNREADABLE)
    if event.get("error"):
        raise OutcomeUnknown(_("模型服务中途报错：%(words)s") % {"words": _words_of(event["error"])})
    choice = _first_choice(event)
    inner = choice.get("delta") or choice.get("message")
    content = inner.get("content") if isinstance(inner, dict) else None
    prompt_tokens, completion_tokens, odd_usage = _read_usage(event.get("usage"))
    return Answer(
        text=read_text(choice.get("text") if content is None else content),
        finish_reason=read_finish_reason(choice.get("finish_reason")),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        odd_usage=odd_usage,
    )


def _read_usage(usage: object) -> tuple[int | None, int | None, str]:
    """The prompt's and the completion's tokens; and the usage as text if it holds what is no count, else ""."""
    said = usage if isinstance(usage, dict) else {}
    values = said.get("prompt_tokens"), said.get("completion_tokens")
    counts = read_count(values[0]), read_count(values[1])
    is_odd = any(count is None and value is not None for count, value in zip(counts, values, strict=True))
    is_odd = is_odd or not isinstance(usage, dict | None)
    return *counts, redact(usage, most=MAX_USAGE) if is_odd else ""


def read_whole(body: object) -> Answer:
    """The body of an answer that was not streamed. Raises `OutcomeUnknown`, also where it holds no text or message."""
    if isinstance(body, dict) and not body.get("error"):
        choice = _first_choice(body)
        if not ("message" in choice or "text" in choice):
            raise OutcomeUnknown(UNREADABLE)
    return read_answer(body)


# Any: the values of a JSON object.
def _first_choice(event: dict[str, object]) -> dict[str, object]:
    choices = event.get("choices") or [{}]
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise OutcomeUnknown(UNREADABLE)
    return choices[0]


def _words_of(error: object) -> str:
    return redact(error.get("message") if isinstance(error, dict) else error)


class LineSplitter:
    """Cuts bytes at newlines and at nothing else, and keeps no more of a line than `MAX_LINE` bytes.

    A reader of text lines would also cut at U+2028 and NEL, which a story may hold.
    """

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_overlong(self) -> bool:
        """Whether the line that has not ended yet is longer than `MAX_LINE`."""
        return len(self._rest) > MAX_LINE

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece."""
        *lines, rest = (self._rest + piece).split(b"\n")
        self._rest = rest[: MAX_LINE + 1]
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
