"""The calls to a provider's Batch API, through the SDK (floor 3). Each raises one of llm.py's errors.

Source: https://platform.openai.com/docs/api-reference/batch.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import httpx2

from stories.batching.gathering import ask_of, open_calls
from stories.errors import UnknownModel
from stories.models import Attempt, BatchOrder
from stories.serving import check_endpoint
from ultraman_site import llm

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
    """Sends the file of the order's requests; its remote id. A file costs nothing: twice does no harm."""
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in _requests(order)).encode()
    file = (f"ultraman-batch-{order.key.hex}.jsonl", content, "application/jsonl")
    with llm.provider_errors():
        reply = _api(order).files.create(file=file, purpose="batch", timeout=_timeout())
    return _id_of(reply)


def _requests(order: BatchOrder) -> Iterator[dict[str, Any]]:
    for attempt in open_calls(order):
        ask = ask_of(attempt.story)
        url = CHAT if ask.messages else COMPLETIONS
        yield {"custom_id": custom_id(attempt), "method": "POST", "url": url, "body": ask.parameters()}


def create_batch(order: BatchOrder) -> RemoteBatch:
    """Orders the answers: the one call that costs money."""
    with llm.provider_errors():
        reply = _api(order).batches.create(
            input_file_id=order.input_file_id,
            endpoint=COMPLETIONS if order.run.language_model.prompt_style == "completion" else CHAT,
            completion_window="24h",
            metadata={KEY: order.key.hex},
            timeout=_timeout(),
        )
    return _read(reply)


def find_batches(order: BatchOrder) -> list[RemoteBatch]:
    """The remote batches that carry our key: none, or the one that was created."""
    with llm.provider_errors():
        try:
            listed = islice(_api(order).batches.list(limit=100, timeout=_timeout()), MOST_LISTED)
            found = {
                one.id: one
                for one in listed
                if (getattr(one, "metadata", None) or {}).get(KEY) == order.key.hex
            }
        except AttributeError as error:  # the SDK trips over a list that is no JSON object
            raise _unreadable() from error
    return [_read(one) for one in found.values()]


def retrieve_batch(order: BatchOrder) -> RemoteBatch:
    with llm.provider_errors():
        return _read(_api(order).batches.retrieve(order.remote_id, timeout=_timeout()))


def cancel_batch(order: BatchOrder) -> RemoteBatch:
    with llm.provider_errors():
        return _read(_api(order).batches.cancel(order.remote_id, timeout=_timeout()))


def read_lines(order: BatchOrder, file_id: str) -> Iterator[dict[str, Any]]:
    """The answers in a result file; a line that cannot be read is left out, its story comes back unanswered."""
    with (
        llm.provider_errors(),
        _api(order).files.with_streaming_response.content(file_id, timeout=_timeout()) as reply,
    ):
        for text in reply.iter_lines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line


def _api(order: BatchOrder) -> Any:
    """The client of the endpoint that the run's model lives at. Raises `llm.Refused` if the site left it."""
    model = order.run.language_model
    try:
        check_endpoint(model)
    except UnknownModel as error:
        raise llm.Refused(str(error)) from error
    return llm.client(model.endpoint)


def _timeout() -> httpx2.Timeout:
    return httpx2.Timeout(CALL_TIMEOUT, connect=llm.CONNECT_TIMEOUT)


def _read(reply: Any) -> RemoteBatch:
    names = (getattr(reply, "output_file_id", None), getattr(reply, "error_file_id", None))
    faults = getattr(getattr(reply, "errors", None), "data", None) or []
    words = "；".join(f"{fault.message}（{fault.line}）" for fault in faults[:3])
    return RemoteBatch(
        id=_id_of(reply),
        status=str(getattr(reply, "status", None) or "")[:40],
        files=tuple(name for name in names if isinstance(name, str) and name),
        error=words.replace("\0", "")[:2000],
    )


def _id_of(reply: Any) -> str:
    id = getattr(reply, "id", None)
    if not isinstance(id, str) or not 0 < len(id) <= 100:
        raise _unreadable()
    return id


def _unreadable() -> llm.OutcomeUnknown:
    return llm.OutcomeUnknown("模型服务的回答无法读懂，结果不明。")
