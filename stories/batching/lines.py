"""The lines of a result file, read with care: an odd value is about the story of its own line (floor 3, pure).

A line whose JSON cannot be read is known by its custom_id where that can be made out.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from ultraman_site import llm

OK, NO_BALANCE, TOO_MANY, SERVER = 200, 402, 429, 500
NOT_RUN = ("batch_expired", "batch_cancelled")
"""Codes of requests that the provider never came to, nor billed."""
LONGEST_WORDS = 1_000
MOST_TOKENS = 10**9
NAME = re.compile(rb'"custom_id"\s*:\s*"([^"\\]{1,100})"')


@dataclass(frozen=True)
class Line:
    """`custom_id` is "" where none can be read; `content` is None for what is no JSON object."""

    custom_id: str
    content: dict[str, Any] | None


def split_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that hold anything. Readers of text lines also cut at U+2028 and NEL, which a story may hold."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(bytes.strip, lines)
    if rest.strip():
        yield rest


def read_line(raw: bytes) -> Line:
    """Never raises."""
    try:
        content = json.loads(raw, parse_int=_read_whole)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        name = content.get("custom_id")
        return Line(name if isinstance(name, str) else "", content)
    found = NAME.search(raw)
    return Line(found[1].decode(errors="replace") if found else "", None)


def read_answer(line: Line) -> llm.Answer:
    """The answer in a line. Raises what the same answer would have raised in a call of its own."""
    content = line.content or {}
    response = _mapping(content.get("response"))
    status, body = _read_status(response.get("status_code")), _mapping(response.get("body"))
    if status == OK or (status is None and body.get("choices")):
        return _read_body(body)
    error = body.get("error") or content.get("error")
    if status is None and not error:
        raise _unreadable()
    raise _read_error(status, error)


def _read_body(body: dict[str, Any]) -> llm.Answer:
    choices, counts = body.get("choices"), _mapping(body.get("usage"))
    if body.get("error") and not choices:
        raise llm.OutcomeUnknown(_("模型服务报错：%(words)s") % {"words": _words_of(body["error"])})
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not ("message" in choice or "text" in choice):
        raise _unreadable()
    message = choice.get("message")
    return llm.Answer(
        text=read_text(message.get("content") if isinstance(message, dict) else choice.get("text")),
        finish_reason=read_finish_reason(choice.get("finish_reason")),
        prompt_tokens=read_count(counts.get("prompt_tokens")),
        completion_tokens=read_count(counts.get("completion_tokens")),
    )


def _read_error(status: int | None, error: Any) -> llm.LLMError:
    said = {"status": "—" if status is None else status, "message": _words_of(error)}
    words = _("模型服务在批量结果里拒绝了（%(status)s：%(message)s）。") % said
    code = f"{_mapping(error).get('code')} {_mapping(error).get('type')}"
    if status == NO_BALANCE or any(reason in code for reason in llm.OUT_OF_MONEY):
        return llm.OutOfMoney(words, status=status)
    if status == TOO_MANY or any(reason in code for reason in NOT_RUN):
        return llm.TryAgainLater(words, status=TOO_MANY)
    if status is not None and status >= SERVER:
        return llm.ServerFailed(words, status=status)
    return llm.Refused(words, status=status)


def read_count(value: Any) -> int | None:
    """A number of tokens; None for anything that cannot be one."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and 0 <= value <= MOST_TOKENS else None


def read_finish_reason(value: Any) -> str:
    """The provider's word for why it ended; "" where it is no word."""
    return storable(value) if isinstance(value, str) else ""


def read_text(value: Any) -> str:
    """The text of a content: a string, or a list of parts whose kind is text. Raises `OutcomeUnknown`."""
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise _unreadable()
    return "".join(_read_part(part) for part in value)


def _read_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else ""
    if not isinstance(text, str):
        raise _unreadable()
    return text


def _read_status(value: Any) -> int | None:
    """An HTTP status, also as a string or a whole float; None for anything else."""
    try:
        status = int(value) if isinstance(value, int | float | str) else 0
    except (ValueError, OverflowError):
        return None
    return status if 100 <= status <= 599 else None


def _read_whole(digits: str) -> int | float:
    """Python refuses whole numbers of thousands of digits, and with them the line they stand in."""
    return int(digits) if len(digits) < 40 else float(digits)


def _words_of(error: Any) -> str:
    return storable(str(_mapping(error).get("message") or error or ""))


def storable(words: str) -> str:
    """As every database keeps it: no NUL, no lone surrogate, not endless."""
    return words[:LONGEST_WORDS].replace("\0", "�").encode("utf-8", "replace").decode()


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unreadable() -> llm.OutcomeUnknown:
    return llm.OutcomeUnknown(_("模型服务的回答无法读懂，结果不明。"))
