"""The calls to a provider's Batch API, through the SDK.

Each raises one of the errors of `llm.errors`; `llm/remote_objects.py` checks what comes back.
Source: https://platform.openai.com/docs/api-reference/batch.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from llm import remote_objects
from llm.errors import Refused
from llm.redaction import redact
from llm.remote_objects import provider_call, timeout
from sentences import Words
from stories.generation.batches.lines import Line, read_line, split_lines
from stories.generation.batches.orders import ask_of, open_calls
from stories.language_models import client_of
from stories.models import Attempt, BatchOrder

KEY = "ultraman_batch"
"""The name in a remote batch's metadata under which it carries our order's key."""
MAX_LISTED = 1_000
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True)
class RemoteBatch:
    """What a provider says of a batch. `status` is its own word."""

    id: str
    status: str
    files: tuple[str, ...]
    error: Words


def custom_id(attempt: Attempt) -> str:
    """The name of a request in the file: a story and the claim it was made under."""
    return f"{attempt.story_id}:{attempt.fence}"


def upload_requests(order: BatchOrder) -> str:
    """Sends the file of the order's requests; its remote id. A file that is there under its name is taken."""
    name = f"ultraman-batch-{order.key.hex}.jsonl"
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in _requests(order)).encode()
    if found := _find_file(order, name=name, size=len(content)):
        return found
    api = client_of(order.run.language_model)
    return remote_objects.upload_file(api, content, name=name, purpose="batch")


def _find_file(order: BatchOrder, *, name: str, size: int) -> str:
    """The id of a whole remote file of that name; "" if there is none, or the provider lists no files."""
    try:
        with provider_call():
            listed = client_of(order.run.language_model).files.list(purpose="batch", timeout=timeout())
            if not remote_objects.is_list(listed):
                return ""
            files = remote_objects.entries(listed, most=MAX_LISTED)
            fitting = (file for file in files if _is_file(file, name=name, size=size))
            return next(map(remote_objects.id_of, fitting), "")
    except Refused:
        return ""


def _is_file(file: object, *, name: str, size: int) -> bool:
    whole = getattr(file, "bytes", None) in (None, size) and getattr(file, "status", None) != "error"
    return getattr(file, "filename", None) == name and whole


def _requests(order: BatchOrder) -> Iterator[dict[str, object]]:
    for attempt in open_calls(order):
        ask = ask_of(attempt.own_story)
        url = CHAT if ask.messages else COMPLETIONS
        yield {"custom_id": custom_id(attempt), "method": "POST", "url": url, "body": ask.body()}


def create_batch(order: BatchOrder) -> RemoteBatch:
    """Orders the answers: the one call that costs money."""
    with provider_call():
        reply = client_of(order.run.language_model).batches.create(
            input_file_id=order.input_file_id,
            endpoint=COMPLETIONS if order.run.language_model.prompt_style == "completion" else CHAT,
            completion_window="24h",
            metadata={KEY: order.key.hex},
            timeout=timeout(),
        )
        return _read(reply)


def find_batches(order: BatchOrder) -> list[RemoteBatch]:
    """The remote batches made of our file or with our key: none, or the one that was created."""
    with provider_call():
        listed = client_of(order.run.language_model).batches.list(limit=100, timeout=timeout())
        found = remote_objects.entries(listed, most=MAX_LISTED)
        return [_read(one) for one in found if _is_ours(one, order)]


def _is_ours(listed: object, order: BatchOrder) -> bool:
    """By our key; by our file at providers that keep no metadata. No other order sends that file."""
    if not isinstance(getattr(listed, "id", None), str):
        return False
    file = getattr(listed, "input_file_id", None)
    return remote_objects.carries(listed, name=KEY, key=order.key.hex) or file == order.input_file_id


def retrieve_batch(order: BatchOrder) -> RemoteBatch:
    with provider_call():
        return _read(client_of(order.run.language_model).batches.retrieve(order.remote_id, timeout=timeout()))


def cancel_batch(order: BatchOrder) -> RemoteBatch:
    with provider_call():
        return _read(client_of(order.run.language_model).batches.cancel(order.remote_id, timeout=timeout()))


def read_lines(order: BatchOrder, file_id: str) -> Iterator[Line]:
    """The lines of a result file, as they arrive. Raises while it is read."""
    pieces = remote_objects.download_file(client_of(order.run.language_model), file_id)
    yield from map(read_line, split_lines(pieces))


def _read(reply: object) -> RemoteBatch:
    names = (getattr(reply, "output_file_id", None), getattr(reply, "error_file_id", None))
    status = getattr(reply, "status", None)
    return RemoteBatch(
        id=remote_objects.id_of(reply),
        status=redact(status, most=40) if isinstance(status, str) else "",
        files=tuple(name for name in names if isinstance(name, str) and name),
        error="；".join(_faults(reply)),
    )


def _faults(reply: object) -> Iterator[str]:
    """What is wrong with the file, as far as it is said: the first three sentences with their lines."""
    faults = getattr(getattr(reply, "errors", None), "data", None)
    for fault in faults[:3] if isinstance(faults, list) else []:
        yield redact(f"{getattr(fault, 'message', fault)}（{getattr(fault, 'line', None)}）")
