"""The calls to a provider's Batch API, through the SDK. Each raises one of llm.py's errors.

Source: https://platform.openai.com/docs/api-reference/batch.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import httpx2

from llm import clients, translation
from llm.errors import OutcomeUnknown, Refused
from llm.redaction import redact
from stories.errors import UnknownModel
from stories.generation.batches.lines import Line, read_line, split_lines
from stories.generation.batches.orders import ask_of, open_calls
from stories.language_models import check_endpoint
from stories.models import Attempt, BatchOrder

KEY = "ultraman_batch"
"""The name in a remote batch's metadata under which it carries our order's key."""
CALL_TIMEOUT = 60.0
MOST_LISTED = 1_000
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True)
class RemoteBatch:
    """What a provider says of a batch. `status` is its own word."""

    id: str
    status: str
    files: tuple[str, ...]
    error: str


def custom_id(attempt: Attempt) -> str:
    """The name of a request in the file: a story and the claim it was made under."""
    return f"{attempt.story_id}:{attempt.fence}"


def upload_requests(order: BatchOrder) -> str:
    """Sends the file of the order's requests; its remote id. A file that is there under its name is taken."""
    name = f"ultraman-batch-{order.key.hex}.jsonl"
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in _requests(order)).encode()
    if found := _find_file(order, name=name, size=len(content)):
        return found
    with _calling():
        reply = _api(order).files.create(
            file=(name, content, "application/jsonl"), purpose="batch", timeout=_timeout()
        )
        return _id_of(reply)


def _find_file(order: BatchOrder, *, name: str, size: int) -> str:
    """The id of a whole remote file of that name; "" if there is none, or the provider lists no files."""
    try:
        with _calling():
            listed = islice(_api(order).files.list(purpose="batch", timeout=_timeout()), MOST_LISTED)
            fitting = (file for file in listed if _is_file(file, name=name, size=size))
            return next(map(_id_of, fitting), "")
    except Refused:
        return ""


def _is_file(file: Any, *, name: str, size: int) -> bool:
    whole = getattr(file, "bytes", None) in (None, size) and getattr(file, "status", None) != "error"
    return getattr(file, "filename", None) == name and whole


def _requests(order: BatchOrder) -> Iterator[dict[str, Any]]:
    for attempt in open_calls(order):
        ask = ask_of(attempt.own_story)
        url = CHAT if ask.messages else COMPLETIONS
        yield {"custom_id": custom_id(attempt), "method": "POST", "url": url, "body": ask.parameters()}


def create_batch(order: BatchOrder) -> RemoteBatch:
    """Orders the answers: the one call that costs money."""
    with _calling():
        reply = _api(order).batches.create(
            input_file_id=order.input_file_id,
            endpoint=COMPLETIONS if order.run.language_model.prompt_style == "completion" else CHAT,
            completion_window="24h",
            metadata={KEY: order.key.hex},
            timeout=_timeout(),
        )
        return _read(reply)


def find_batches(order: BatchOrder) -> list[RemoteBatch]:
    """The remote batches made of our file or with our key: none, or the one that was created."""
    with _calling():
        listed = islice(_api(order).batches.list(limit=100, timeout=_timeout()), MOST_LISTED)
        found = {one.id: _read(one) for one in listed if _is_ours(one, order)}
    return list(found.values())


def _is_ours(listed: Any, order: BatchOrder) -> bool:
    """By our key; by our file at providers that keep no metadata. No other order sends that file."""
    metadata = getattr(listed, "metadata", None)
    has_key = isinstance(metadata, dict) and metadata.get(KEY) == order.key.hex
    file = getattr(listed, "input_file_id", None)
    return isinstance(getattr(listed, "id", None), str) and (has_key or file == order.input_file_id)


def retrieve_batch(order: BatchOrder) -> RemoteBatch:
    with _calling():
        return _read(_api(order).batches.retrieve(order.remote_id, timeout=_timeout()))


def cancel_batch(order: BatchOrder) -> RemoteBatch:
    with _calling():
        return _read(_api(order).batches.cancel(order.remote_id, timeout=_timeout()))


def read_lines(order: BatchOrder, file_id: str) -> Iterator[Line]:
    """The lines of a result file, as they arrive. Raises while it is read."""
    with (
        _calling(),
        _api(order).files.with_streaming_response.content(file_id, timeout=_timeout()) as reply,
    ):
        for raw in split_lines(reply.iter_bytes()):
            yield read_line(raw)


@contextmanager
def _calling() -> Iterator[None]:
    """As `llm.provider_errors`; what the SDK, or we, trip over in an odd answer cannot be read."""
    with translation.provider_errors():
        try:
            yield
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise _unreadable() from error


def _api(order: BatchOrder) -> Any:
    """The client of the endpoint that the run's model lives at. Raises `llm.Refused` if the site left it."""
    model = order.run.language_model
    try:
        check_endpoint(model)
    except UnknownModel as error:
        raise Refused(str(error)) from error
    return clients.client(model.endpoint)


def _timeout() -> httpx2.Timeout:
    return httpx2.Timeout(CALL_TIMEOUT, connect=clients.CONNECT_TIMEOUT)


def _read(reply: Any) -> RemoteBatch:
    names = (getattr(reply, "output_file_id", None), getattr(reply, "error_file_id", None))
    status = getattr(reply, "status", None)
    return RemoteBatch(
        id=_id_of(reply),
        status=redact(status, most=40) if isinstance(status, str) else "",
        files=tuple(name for name in names if isinstance(name, str) and name),
        error="；".join(_faults(reply)),
    )


def _faults(reply: Any) -> Iterator[str]:
    """What is wrong with the file, as far as it is said: the first three sentences with their lines."""
    faults = getattr(getattr(reply, "errors", None), "data", None)
    for fault in faults[:3] if isinstance(faults, list) else []:
        yield redact(f"{getattr(fault, 'message', fault)}（{getattr(fault, 'line', None)}）")


def _id_of(reply: Any) -> str:
    id = getattr(reply, "id", None)
    if not isinstance(id, str) or not 0 < len(id) <= 100 or id != redact(id):
        raise _unreadable()
    return id


def _unreadable() -> OutcomeUnknown:
    return OutcomeUnknown("模型服务的回答无法读懂，结果不明。")
