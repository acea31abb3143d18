"""The calls to a fine-tuning provider, through the SDK.

Each raises one of the errors of `llm.errors`. An answer without what it must hold (an HTML page with status
200, say) is an unknown outcome. A server may ignore a list's filter or its paging: every entry is checked here,
and a listing ends when the server repeats itself.
Source: https://platform.openai.com/docs/api-reference/fine-tuning and /files.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import httpx2

from finetuning.models import Job
from finetuning.training.hyperparameters import wire_parameters
from llm import clients, translation
from llm.errors import OutcomeUnknown, Refused
from llm.redaction import redact
from stories.errors import UnknownModel
from stories.generation.attempts import said
from stories.language_models import check_endpoint

KEY = "ultraman_job"
"""The name in a remote job's metadata under which it carries our job's key."""
CALL_TIMEOUT = 60.0
MAX_LISTED = 2_000
MAX_EVENTS = 100_000
MAX_RESULT_BYTES = 64 * 1024 * 1024
MAX_TOKENS = 10**15
MAX_ID_LENGTH, MAX_NAME_LENGTH, MAX_STATUS_LENGTH = 100, 200, 40


@dataclass(frozen=True)
class RemoteJob:
    """What a provider says of a job. `status` is its own word; `odd_tokens` is a count that can't be, as said."""

    id: str
    status: str
    model: str
    trained_tokens: int | None
    result_files: tuple[str, ...]
    error: str
    odd_tokens: str = ""


def file_name(split: str, sha256: str) -> str:
    """The name an uploaded file goes by: a file carries no metadata, so its sha256 stands here."""
    return f"ultraman-{split}-{sha256}.jsonl"


def upload_file(job: Job, file: BinaryIO, *, name: str) -> str:
    """The id of the new remote file."""
    with _calling():
        reply = _api(job).files.create(
            file=(name, file, "application/jsonl"), purpose="fine-tune", timeout=_timeout()
        )
    return _id_of(reply)


def find_file(job: Job, *, sha256: str) -> str | None:
    """The id of the newest remote file whose name carries that sha256."""
    with _calling():
        listed = _api(job).files.list(purpose="fine-tune", timeout=_timeout())
        for file in _walk(listed, most=MAX_LISTED):
            if sha256 in str(getattr(file, "filename", "")):
                return _id_of(file)
    return None


def create_job(job: Job) -> RemoteJob:
    """Orders the training: the one call that costs money."""
    with _calling():
        reply = _api(job).fine_tuning.jobs.create(
            model=job.language_model.name,
            training_file=job.training_file_id,
            suffix=job.suffix,
            metadata={KEY: job.key.hex},
            method={"type": "supervised", "supervised": {"hyperparameters": wire_parameters(job)}},
            timeout=_timeout(),
            **({"validation_file": job.validation_file_id} if job.validation_file_id else {}),
        )
    return _read_job(reply)


def find_jobs(job: Job) -> list[RemoteJob]:
    """The remote jobs that carry our key: none, or the one that was created."""
    with _calling():
        listed = _api(job).fine_tuning.jobs.list(limit=100, metadata={KEY: job.key.hex}, timeout=_timeout())
        return [_read_job(found) for found in _walk(listed, most=MAX_LISTED) if _key_of(found) == job.key.hex]


def _key_of(listed: Any) -> Any:
    metadata = getattr(listed, "metadata", None)
    return metadata.get(KEY) if isinstance(metadata, dict) else None


def retrieve_job(job: Job) -> RemoteJob:
    with _calling():
        return _read_job(_api(job).fine_tuning.jobs.retrieve(job.remote_id, timeout=_timeout()))


def cancel_job(job: Job) -> RemoteJob:
    with _calling():
        return _read_job(_api(job).fine_tuning.jobs.cancel(job.remote_id, timeout=_timeout()))


def read_events(job: Job) -> Iterator[Any]:
    """The SDK's events, newest first; pages are fetched as they are needed. Raises while it is read."""
    with _calling():
        listed = _api(job).fine_tuning.jobs.list_events(job.remote_id, limit=100, timeout=_timeout())
        yield from _walk(listed, most=MAX_EVENTS)


def read_content(job: Job, file_id: str) -> bytes:
    """The bytes of a remote file, at most `MAX_RESULT_BYTES`."""
    content = bytearray()
    with (
        _calling(),
        _api(job).files.with_streaming_response.content(file_id, timeout=_timeout()) as reply,
    ):
        for piece in reply.iter_bytes():
            content += piece
            if len(content) > MAX_RESULT_BYTES:
                break
    return bytes(content[:MAX_RESULT_BYTES])


@contextmanager
def _calling() -> Iterator[None]:
    """Raises the errors of `llm.errors`; an odd answer that the SDK, or our reading of it, fails on is unreadable."""
    with translation.provider_errors():
        try:
            yield
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise _unreadable() from error


def _unreadable() -> OutcomeUnknown:
    return OutcomeUnknown("模型服务的回答无法读懂，结果不明。")


def _api(job: Job) -> Any:
    """The client of the endpoint that the job's model lives at. Raises `Refused` if the settings no longer name it."""
    try:
        check_endpoint(job.language_model)
    except UnknownModel as error:
        raise Refused(str(error)) from error
    return clients.client(job.language_model.endpoint)


def _timeout() -> httpx2.Timeout:
    return httpx2.Timeout(CALL_TIMEOUT, connect=clients.CONNECT_TIMEOUT)


def _id_of(reply: Any) -> str:
    id = getattr(reply, "id", None)
    if not _is_id(id):
        raise _unreadable()
    return str(id)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value == clean(value, most=MAX_ID_LENGTH)


def _read_job(reply: Any) -> RemoteJob:
    """The provider's answer, read with care: a field that is left out, or holds an odd value, counts as missing."""
    tokens = getattr(reply, "trained_tokens", None)
    model, error = getattr(reply, "fine_tuned_model", None), getattr(reply, "error", None)
    is_count = type(tokens) is int and 0 <= tokens <= MAX_TOKENS
    return RemoteJob(
        id=_id_of(reply),
        status=clean(getattr(reply, "status", None), most=MAX_STATUS_LENGTH),
        model=clean(model, most=MAX_NAME_LENGTH) if isinstance(model, str) else "",
        trained_tokens=tokens if is_count else None,
        odd_tokens="" if is_count or tokens is None else said(tokens),
        result_files=tuple(_read_files(getattr(reply, "result_files", None))),
        error=clean(error if isinstance(error, str) else getattr(error, "message", None)),
    )


def _read_files(value: Any) -> Iterator[str]:
    """The ids of the result files, given as strings or as objects; anything else is skipped."""
    for file in value if isinstance(value, list) else []:
        id = file if isinstance(file, str) else getattr(file, "id", None)
        if _is_id(id):
            yield str(id)


def clean(value: Any, *, most: int = 10_000) -> str:
    """A provider's words as `redact` leaves them; "" for none."""
    return redact(value or "", most=most)


def _walk(page: Any, *, most: int) -> Iterator[Any]:
    """Each entry of all pages once, until the provider repeats itself. One without an id is an entry too."""
    if not isinstance(getattr(page, "data", None), list):
        raise _unreadable()
    entries: Iterable[Any] = page
    seen: set[str] = set()
    for entry in islice(entries, most):
        if id := read_id(entry):
            if id in seen:
                return
            seen.add(id)
        yield entry


def read_id(entry: Any) -> str:
    """The id of an entry of a list, as a string; "" where there is none."""
    id = getattr(entry, "id", None)
    return str(id) if isinstance(id, str | int) and not isinstance(id, bool) else ""
