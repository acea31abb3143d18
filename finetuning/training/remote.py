"""The calls to a fine-tuning provider, through the SDK.

Each raises one of the errors of `llm.errors`; `llm/remote_objects.py` checks what comes back.
Source: https://platform.openai.com/docs/api-reference/fine-tuning and /files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from finetuning.models import Job
from finetuning.training.hyperparameters import wire_parameters
from finetuning.training.statuses import Meaning, meaning_of, plain
from llm import remote_objects
from llm.errors import OutcomeUnknown
from llm.remote_objects import clean, is_id, provider_call, timeout
from sentences import sentence as _
from stories.generation.attempts import said
from stories.language_models import client_of

KEY = "ultraman_job"
"""The name in a remote job's metadata under which it carries our job's key."""
MAX_LISTED = 2_000
MAX_EVENTS = 100_000
MAX_RESULT_BYTES = 64 * 1024 * 1024
MAX_TOKENS = 10**15
MAX_NAME, MAX_STATUS = 200, 40  # characters
ANNOUNCED = ("output_name", "model_output_name", "output_model")
"""Where compatible servers name the tuned model; some do from the start."""


@dataclass(frozen=True)
class RemoteJob:
    """What a provider says of a job. `status` is its own word; `odd_tokens` is a count that can't be, as said.

    `model` is the tuned model's name, `announced` a name that a provider may give long before the model is there.
    """

    id: str
    status: str
    model: str = ""
    trained_tokens: int | None = None
    result_files: tuple[str, ...] = ()
    error: str = ""
    odd_tokens: str = ""
    announced: str = ""
    meaning: Meaning = Meaning.UNKNOWN


@dataclass(frozen=True)
class RemoteFile:
    """What a provider says of a file: `word` is its own, `status` the same in our spelling; "" for none."""

    status: str
    word: str
    error: str


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


def retrieve_file(job: Job, file_id: str) -> RemoteFile:
    with provider_call():
        return _read_file(client_of(job.language_model).files.retrieve(file_id, timeout=timeout()))


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
        reply = client_of(job.language_model).fine_tuning.jobs.retrieve(job.remote_id, timeout=timeout())
        return _read_job(reply, id=job.remote_id)


def cancel_job(job: Job) -> RemoteJob:
    with provider_call():
        reply = client_of(job.language_model).fine_tuning.jobs.cancel(job.remote_id, timeout=timeout())
        return _read_job(reply, id=job.remote_id)


# Any: a provider's JSON, whose values are checked one by one here.
def read_events(job: Job) -> Iterator[Any]:
    """The SDK's events as they are listed; pages are fetched as they are needed. Raises while it is read."""
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


def _read_job(reply: object, *, id: str = "") -> RemoteJob:
    """The provider's answer, read with care: a field that is left out, or holds an odd value, counts as missing.

    `id` is the job's where it is known; an answer need not repeat it, but must then say a status.
    """
    tokens, error = _first(reply, "trained_tokens"), _first(reply, "error")
    is_count = type(tokens) is int and 0 <= tokens <= MAX_TOKENS
    status = clean(_first(reply, "status", "state"), most=MAX_STATUS)
    words = _words_of(error)
    if not is_id(getattr(reply, "id", None)) and words and not status:
        raise OutcomeUnknown(_("模型服务报错：%(words)s") % {"words": words})
    return RemoteJob(
        id=id if id and status else remote_objects.id_of(reply),
        status=status,
        model=_name(reply, "fine_tuned_model"),
        announced=_name(reply, *ANNOUNCED),
        trained_tokens=tokens if is_count else None,
        odd_tokens="" if is_count or tokens is None else said(tokens),
        result_files=tuple(_read_files(getattr(reply, "result_files", None))),
        error=words,
        meaning=meaning_of(status),
    )


def _read_file(reply: object) -> RemoteFile:
    """The state of a file: a word, or whether it is processed."""
    word = clean(_first(reply, "status", "state"), most=MAX_STATUS)
    flag = _first(reply, "processed", "Processed")
    if not word and isinstance(flag, bool):
        word = "processed" if flag else "processing"
    return RemoteFile(plain(word), word, _words_of(_first(reply, "status_details", "error")))


# Any: a provider's JSON, whose values are checked one by one here.
def _words_of(error: Any) -> str:
    """What an error says: it is a text, an object, or one that the SDK knows."""
    if isinstance(error, dict):
        return clean(error.get("message") or error.get("code"))
    return clean(error if isinstance(error, str) else getattr(error, "message", None))


# Any: a provider's JSON, whose values are checked one by one here.
def _first(reply: object, *names: str) -> Any:
    """The first of these fields that holds anything."""
    values = (getattr(reply, name, None) for name in names)
    return next((value for value in values if value is not None), None)


def _name(reply: object, *names: str) -> str:
    """The first of these fields that holds a name."""
    values = (getattr(reply, name, None) for name in names)
    return next((clean(value, most=MAX_NAME) for value in values if value and isinstance(value, str)), "")


def _read_files(value: object) -> Iterator[str]:
    """The ids of the result files, given as strings or as objects; anything else is skipped."""
    for file in value if isinstance(value, list) else []:
        id = file if isinstance(file, str) else getattr(file, "id", None)
        if is_id(id):
            yield str(id)
