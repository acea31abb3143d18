"""The calls to a fine-tuning provider, through the SDK.

Each raises one of the errors of `llm.errors`; `llm/remote_objects.py` checks what comes back.
Source: https://platform.openai.com/docs/api-reference/fine-tuning and /files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from finetuning.models import Job
from finetuning.training.hyperparameters import wire_parameters
from llm import remote_objects
from llm.remote_objects import clean, is_id, provider_call, timeout
from stories.generation.attempts import said
from stories.language_models import client_of

KEY = "ultraman_job"
"""The name in a remote job's metadata under which it carries our job's key."""
MAX_LISTED = 2_000
MAX_EVENTS = 100_000
MAX_RESULT_BYTES = 64 * 1024 * 1024
MAX_TOKENS = 10**15
MAX_NAME, MAX_STATUS = 200, 40  # characters


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
    return remote_objects.upload_file(client_of(job.language_model), file, name=name, purpose="fine-tune")


def find_file(job: Job, *, sha256: str) -> str | None:
    """The id of the newest remote file whose name carries that sha256."""
    with provider_call():
        listed = client_of(job.language_model).files.list(purpose="fine-tune", timeout=timeout())
        for file in remote_objects.entries(listed, most=MAX_LISTED):
            if sha256 in str(getattr(file, "filename", "")):
                return remote_objects.id_of(file)
    return None


def create_job(job: Job) -> RemoteJob:
    """Orders the training: the one call that costs money."""
    with provider_call():
        reply = client_of(job.language_model).fine_tuning.jobs.create(
            model=job.language_model.name,
            training_file=job.training_file_id,
            suffix=job.suffix,
            metadata={KEY: job.key.hex},
            method={"type": "supervised", "supervised": {"hyperparameters": wire_parameters(job)}},
            timeout=timeout(),
            **({"validation_file": job.validation_file_id} if job.validation_file_id else {}),
        )
    return _read_job(reply)


def find_jobs(job: Job) -> list[RemoteJob]:
    """The remote jobs that carry our key: none, or the one that was created."""
    key = job.key.hex
    with provider_call():
        api = client_of(job.language_model)
        listed = api.fine_tuning.jobs.list(limit=100, metadata={KEY: key}, timeout=timeout())
        found = remote_objects.entries(listed, most=MAX_LISTED)
        return [_read_job(one) for one in found if remote_objects.carries(one, name=KEY, key=key)]


def retrieve_job(job: Job) -> RemoteJob:
    with provider_call():
        return _read_job(
            client_of(job.language_model).fine_tuning.jobs.retrieve(job.remote_id, timeout=timeout())
        )


def cancel_job(job: Job) -> RemoteJob:
    with provider_call():
        return _read_job(
            client_of(job.language_model).fine_tuning.jobs.cancel(job.remote_id, timeout=timeout())
        )


# Any: a provider's JSON, whose values are checked one by one here.
def read_events(job: Job) -> Iterator[Any]:
    """The SDK's events, newest first; pages are fetched as they are needed. Raises while it is read."""
    with provider_call():
        jobs = client_of(job.language_model).fine_tuning.jobs
        listed = jobs.list_events(job.remote_id, limit=100, timeout=timeout())
        yield from remote_objects.entries(listed, most=MAX_EVENTS)


def read_content(job: Job, file_id: str) -> bytes:
    """The bytes of a remote file, at most `MAX_RESULT_BYTES`."""
    content = bytearray()
    for piece in remote_objects.download_file(client_of(job.language_model), file_id):
        content += piece
        if len(content) > MAX_RESULT_BYTES:
            break
    return bytes(content[:MAX_RESULT_BYTES])


def _read_job(reply: object) -> RemoteJob:
    """The provider's answer, read with care: a field that is left out, or holds an odd value, counts as missing."""
    tokens = getattr(reply, "trained_tokens", None)
    model, error = getattr(reply, "fine_tuned_model", None), getattr(reply, "error", None)
    is_count = type(tokens) is int and 0 <= tokens <= MAX_TOKENS
    return RemoteJob(
        id=remote_objects.id_of(reply),
        status=clean(getattr(reply, "status", None), most=MAX_STATUS),
        model=clean(model, most=MAX_NAME) if isinstance(model, str) else "",
        trained_tokens=tokens if is_count else None,
        odd_tokens="" if is_count or tokens is None else said(tokens),
        result_files=tuple(_read_files(getattr(reply, "result_files", None))),
        error=clean(error if isinstance(error, str) else getattr(error, "message", None)),
    )


def _read_files(value: object) -> Iterator[str]:
    """The ids of the result files, given as strings or as objects; anything else is skipped."""
    for file in value if isinstance(value, list) else []:
        id = file if isinstance(file, str) else getattr(file, "id", None)
        if is_id(id):
            yield str(id)
