"""Objects that a provider keeps for us: files, batches and jobs, which are uploaded, listed, found again and read.

A call that creates an object may succeed although its answer is lost. So an object carries a key of ours, in its
metadata or its name, and is looked for by that key instead of being created twice.

Compatible servers leave fields out, ignore a list's filter or its paging, or answer a page of HTML with status 200.
What comes is checked here: an answer without what it must hold is an `OutcomeUnknown`. Objects of the SDK are `Any`,
because they hold whatever the provider sent.
Source: https://platform.openai.com/docs/api-reference/files, /batch and /fine-tuning.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

import httpx2

from llm import clients, translation
from llm.errors import UNREADABLE, OutcomeUnknown
from llm.redaction import redact

CALL_TIMEOUT = 60.0  # seconds
MAX_ID = 100  # characters


@contextmanager
def provider_call() -> Iterator[None]:
    """As `translation.provider_errors`; and what the SDK, or we, trip over in an odd answer makes it unreadable."""
    with translation.provider_errors():
        try:
            yield
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise unreadable() from error


def unreadable() -> OutcomeUnknown:
    """The error of an answer that does not hold what it must."""
    return OutcomeUnknown(UNREADABLE)


def timeout() -> httpx2.Timeout:
    """The timeout of one call about an object."""
    return httpx2.Timeout(CALL_TIMEOUT, connect=clients.CONNECT_TIMEOUT)


# Any: the SDK's pages and entries, of every kind of object it has.
def upload_file(api: Any, content: bytes | BinaryIO, *, name: str, purpose: Any) -> str:
    """Uploads a file of JSON lines; its remote id. Raises `LLMError`."""
    with provider_call():
        reply = api.files.create(
            file=(name, content, "application/jsonl"), purpose=purpose, timeout=timeout()
        )
        return id_of(reply)


# Any: the SDK's pages and entries, of every kind of object it has.
def download_file(api: Any, file_id: str) -> Iterator[bytes]:
    """The pieces of a remote file as they arrive. Raises `LLMError` while it is read."""
    with (
        provider_call(),
        api.files.with_streaming_response.content(file_id, timeout=timeout()) as reply,
    ):
        yield from reply.iter_bytes()


# Any: the SDK's pages and entries, of every kind of object it has.
def entries(page: Any, *, most: int) -> Iterator[Any]:
    """Each entry of all pages once, `most` at most, until as many in a row are repeated as a page has.

    Servers list an entry twice, or ignore where a page is to begin and answer the first one for ever. An entry
    without an id is an entry, too. Raises `OutcomeUnknown` if `page` is no list.
    """
    if not is_list(page):
        raise unreadable()
    size = len(page.data)
    # Any: the SDK's pages and entries, of every kind of object it has.
    listed: Iterable[Any] = page
    seen: set[str] = set()
    repeated = 0
    for entry in islice(listed, most):
        if id := read_id(entry):
            repeated = repeated + 1 if id in seen else 0
            if repeated >= size:
                return
            if repeated:
                continue
            seen.add(id)
        yield entry


# Any: the SDK's pages and entries, of every kind of object it has.
def is_list(page: Any) -> bool:
    """Whether a provider that was asked for a list answered with one."""
    return isinstance(getattr(page, "data", None), list)


def carries(entry: object, *, name: str, key: str) -> bool:
    """Whether the metadata of an entry hold our `key` under `name`."""
    metadata = getattr(entry, "metadata", None)
    return isinstance(metadata, dict) and metadata.get(name) == key


def read_id(entry: object) -> str:
    """The id of an entry of a list, as a string; "" where there is none."""
    id = getattr(entry, "id", None)
    return str(id) if isinstance(id, str | int) and not isinstance(id, bool) else ""


def id_of(reply: object) -> str:
    """The id of an object that we will ask for again. Raises `OutcomeUnknown` if it has none that can be kept."""
    id = getattr(reply, "id", None)
    if not is_id(id):
        raise unreadable()
    return str(id)


def is_id(value: object) -> bool:
    """Whether the value is an id that our columns can keep: a short string without odd characters."""
    return isinstance(value, str) and bool(value) and value == clean(value, most=MAX_ID)


def clean(value: object, *, most: int = 10_000) -> str:
    """A provider's words as `redact` leaves them; "" for none."""
    return redact(value or "", most=most)
