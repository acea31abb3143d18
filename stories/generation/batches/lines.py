"""Reads the lines of a result file, so that an odd value concerns only the story of its own line (pure).

A line whose JSON cannot be read is still attributed to its story if its custom_id can be found in it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from llm.answers import Answer, read_json, read_whole
from llm.balance import is_out_of_money
from llm.declines import is_declined
from llm.errors import (
    UNREADABLE,
    Declined,
    LLMError,
    OutcomeUnknown,
    OutOfMoney,
    Refusal,
    Refused,
    ServerFailed,
    TryAgainLater,
)
from llm.event_stream import LineSplitter
from llm.redaction import redact
from llm.separation import separate
from sentences import sentence as _

NOT_RUN = ("batch_expired", "batch_cancelled")
"""Codes of requests that the provider neither ran nor billed."""
NAME = re.compile(rb'"custom_id"\s*:\s*"([^"\\]{1,100})"')


@dataclass(frozen=True)
class Line:
    """`custom_id` is "" where none can be read. `content` is None for a line that is no JSON object."""

    custom_id: str
    content: dict[str, object] | None


def split_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that are not empty. A line that is too long is cut, and then cannot be read."""
    lines = LineSplitter()
    for piece in pieces:
        yield from filter(bytes.strip, lines.feed(piece))
    yield from filter(bytes.strip, lines.finish())


def read_line(raw: bytes) -> Line:
    """Never raises."""
    try:
        content = read_json(raw)
    except OutcomeUnknown:
        content = None
    if isinstance(content, dict):
        name = content.get("custom_id")
        return Line(name if isinstance(name, str) else "", content)
    found = NAME.search(raw)
    return Line(found[1].decode(errors="replace") if found else "", None)


def read_answer(line: Line, *, opens_inside: bool = False) -> Answer:
    """The answer in a line. Raises what the same answer would have raised in a call of its own.

    `opens_inside`: as in `Ask`.
    """
    content = line.content or {}
    response = _mapping(content.get("response"))
    status, body = _read_status(response.get("status_code")), _mapping(response.get("body"))
    if status == HTTPStatus.OK or (status is None and body.get("choices")):
        return separate(read_whole(body), opens_inside=opens_inside)
    error = body.get("error") or content.get("error")
    if status is None and not error:
        raise OutcomeUnknown(UNREADABLE)
    raise _read_error(status, error, whole=response.get("body"))


def _read_error(status: int | None, error: object, *, whole: object) -> LLMError:
    said = {"status": "—" if status is None else status, "message": _words_of(error)}
    words = _("模型服务在批量结果里拒绝了（%(status)s：%(message)s）。") % said
    code = f"{_mapping(error).get('code')} {_mapping(error).get('type')}"
    if is_out_of_money(status, whole or error):
        return OutOfMoney(words, status=status)
    if status == HTTPStatus.TOO_MANY_REQUESTS or any(reason in code for reason in NOT_RUN):
        return TryAgainLater(words, status=HTTPStatus.TOO_MANY_REQUESTS)
    if status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFailed(words, status=status)
    kind = Declined if is_declined(code, _words_of(error)) else Refused
    refused = kind(words, status=status)
    param = _mapping(error).get("param")
    refused.refusal = Refusal(status, code, param if isinstance(param, str) else "", redact(whole or error))
    return refused


def _read_status(value: object) -> int | None:
    """An HTTP status, also as a string or a whole float; None for anything else."""
    try:
        status = int(value) if isinstance(value, int | float | str) else 0
    except (ValueError, OverflowError):
        return None
    return status if 100 <= status <= 599 else None


def _words_of(error: object) -> str:
    return redact(_mapping(error).get("message") or error or "")


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
