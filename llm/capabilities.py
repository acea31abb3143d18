"""Finds out what an endpoint can do, without creating anything: lists are asked for, and two short answers at most.

Each finding is "yes", "no", or "unknown" where nobody answered. Whatever comes back is a finding, never an exception.
Source: https://platform.openai.com/docs/api-reference (models, files, fine-tuning, batch, moderations).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import httpx2

from llm import calls, clients, streams
from llm.answers import Answer, join
from llm.errors import LLMError, OutcomeUnknown, Refused
from llm.questions import Ask, Learn
from llm.rate_headers import NOTHING
from llm.redaction import redact
from llm.remote_objects import entries, is_list, provider_call, unreadable
from llm.translation import CONNECTION_ERRORS, SILENT

TIMEOUT, CONNECT_TIMEOUT = 10.0, 3.0  # seconds of one listing
MAX_LISTED = 500
MAX_QUOTED = 160  # characters
NOBODY = "ultraman_check_of_the_filter"


class Verdict(StrEnum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Capability:
    """`name` is one of `NAMES`; `asked` and `answered` are what went over the wire, in short."""

    name: str
    verdict: Verdict
    asked: str
    answered: str


NAMES = (
    *("models", "retirement", "chat", "rate_headers", "system_role", "stream", "stream_usage"),
    *("moderation", "files", "fine_tuning", "metadata_filter", "batches"),
)


Trial = tuple[Answer | None, list[Capability], LLMError | None]
"""The answer or the error of a short question, and what it shows."""


@dataclass(frozen=True)
class Listing:
    """What the free questions found; `retirements`: when which models will be shut down."""

    findings: list[Capability]
    retirements: dict[str, date]


def list_capabilities(alias: str) -> Listing:
    """Asks for every list at once. Costs nothing."""
    original = clients.client(alias)  # held here: a copy works only as long as its original is referenced
    api = original.with_options(timeout=httpx2.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT))
    retirements: dict[str, date] = {}
    questions: list[Callable[[], list[Capability]]] = [
        lambda: _find_models(api, retirements),
        lambda: [_find("files", "GET /files?limit=1", lambda: _listed(api.files.list(limit=1)))],
        lambda: _find_fine_tuning(api),
        lambda: [_find("batches", "GET /batches?limit=1", lambda: _listed(api.batches.list(limit=1)))],
        lambda: [_find("moderation", "POST /moderations", lambda: _moderated(api))],
    ]
    with ThreadPoolExecutor(len(questions)) as pool:
        found = pool.map(lambda question: question(), questions)
        return Listing([finding for part in found for finding in part], retirements)


def _find(name: str, asked: str, ask: Callable[[], str]) -> Capability:
    """The finding of one question; `ask` returns what was answered, in short."""
    try:
        with provider_call():
            return Capability(name, Verdict.YES, asked, redact(ask(), most=MAX_QUOTED))
    except LLMError as error:
        return Capability(name, verdict_of(error), asked, redact(error, most=MAX_QUOTED))


def verdict_of(error: LLMError) -> Verdict:
    """Whether an error says that there is no such thing. Silence and an overloaded server say nothing."""
    if isinstance(error, Refused) or error.status == HTTPStatus.NOT_IMPLEMENTED:
        return Verdict.NO
    # A page of HTML, or an error inside a 200; but nobody knows what a broken connection would have said.
    is_answer = isinstance(error, OutcomeUnknown) and not isinstance(error.__cause__, CONNECTION_ERRORS)
    return Verdict.NO if is_answer else Verdict.UNKNOWN


# Any: the SDK's pages and entries, of every kind of object it has.
def _listed(page: Any) -> str:
    if not is_list(page):
        raise unreadable()
    return f"{len(page.data)} …" if page.data else "[]"


# Any: the SDK's client.
def _moderated(api: Any) -> str:
    results = getattr(api.moderations.create(input="唐,隐形,轻松"), "results", None)
    if not isinstance(results, list) or not results:
        raise unreadable()
    return f"flagged: {getattr(results[0], 'flagged', None)}"


# Any: the SDK's client.
def _find_models(api: Any, retirements: dict[str, date]) -> list[Capability]:
    names: list[str] = []

    def read() -> str:
        for model in entries(api.models.list(), most=MAX_LISTED):
            names.append(redact(getattr(model, "id", ""), most=60))
            if (day := _read_date(getattr(model, "shutdown_date", None))) is not None:
                retirements[str(getattr(model, "id", ""))] = day
        return f"{len(names)}: {', '.join(names[:5])}"

    models = _find("models", "GET /models", read)
    if models.verdict != Verdict.YES:
        return [models]
    known = ", ".join(f"{name} {day}" for name, day in sorted(retirements.items())[:3])
    verdict = Verdict.YES if retirements else Verdict.NO
    return [models, Capability("retirement", verdict, "shutdown_date", redact(known or "—", most=MAX_QUOTED))]


def _read_date(value: object) -> date | None:
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


# Any: the SDK's client.
def _find_fine_tuning(api: Any) -> list[Capability]:
    """Fine-tuning, by its list; and whether the list keeps to a filter by metadata, by one that fits no job."""
    path = "GET /fine_tuning/jobs?limit=1"
    jobs = _find("fine_tuning", path, lambda: _listed(api.fine_tuning.jobs.list(limit=1)))
    if jobs.verdict != Verdict.YES:
        return [jobs]
    asked = f"{path}&metadata[{NOBODY}]=1"
    filtered = _find(
        "metadata_filter", asked, lambda: _listed(api.fine_tuning.jobs.list(limit=1, metadata={NOBODY: "1"}))
    )
    if filtered.verdict == Verdict.YES and filtered.answered != "[]":
        filtered = Capability("metadata_filter", Verdict.NO, asked, filtered.answered)
    elif filtered.verdict == Verdict.YES and jobs.answered == "[]":
        filtered = Capability("metadata_filter", Verdict.UNKNOWN, asked, "[]")
    return [jobs, filtered]


# --- short answers, which cost something ----------------------------------------------------------------------


def try_answer(alias: str, ask: Ask, *, seconds: float, learn: Learn) -> Trial:
    """One whole answer: the answer or the error, and what it shows."""
    taught: list[str] = []

    def keep(lesson: Any) -> None:  # Any: `Learn` is not generic
        taught.append(lesson.named)
        learn(lesson)

    try:
        answer = calls.complete(alias, ask, seconds=seconds, learn=keep)
    except LLMError as error:
        return None, [_failed("chat", "POST /chat/completions", error)], error
    rates = answer.rates
    named = "" if rates == NOTHING else f"{rates.requests} / {rates.tokens}"
    has_system = "system" not in taught
    return (
        answer,
        [
            Capability("chat", Verdict.YES, "POST /chat/completions", _quote(answer)),
            Capability(
                "rate_headers", Verdict.YES if named else Verdict.NO, "x-ratelimit-limit-*", named or "—"
            ),
            Capability(
                "system_role",
                Verdict.YES if has_system else Verdict.NO,
                "role: system",
                ", ".join(taught) or "—",
            ),
        ],
        None,
    )


def try_stream(alias: str, ask: Ask, *, seconds: float, learn: Learn) -> Trial:
    """One streamed answer: as `try_answer`."""
    asked = "POST /chat/completions stream"
    try:
        answer = asyncio.run(_stream(alias, ask, seconds, learn))
    except TimeoutError:
        error = OutcomeUnknown(SILENT)
        return None, [Capability("stream", Verdict.UNKNOWN, asked, f"> {seconds:.0f} s")], error
    except LLMError as error:
        return None, [_failed("stream", asked, error)], error
    counted = answer.completion_tokens is not None
    usage = f"{answer.prompt_tokens} + {answer.completion_tokens}" if counted else answer.odd_usage or "—"
    verdict = Verdict.YES if answer.finish_reason else Verdict.NO
    return (
        answer,
        [
            Capability("stream", verdict, asked, _quote(answer)),
            Capability(
                "stream_usage", Verdict.YES if counted else Verdict.NO, "stream_options.include_usage", usage
            ),
        ],
        None,
    )


async def _stream(alias: str, ask: Ask, seconds: float, learn: Learn) -> Answer:
    async with clients.async_client(alias, limit=1) as api, asyncio.timeout(seconds):
        return join([piece async for piece in streams.stream(api, ask, learn=learn)])


def _quote(answer: Answer) -> str:
    said = answer.text or answer.refusal or answer.thinking
    return redact(f"「{said[:40]}」 {answer.finish_word}".strip(), most=MAX_QUOTED)


def _failed(name: str, asked: str, error: LLMError) -> Capability:
    return Capability(name, verdict_of(error), asked, redact(error, most=MAX_QUOTED))
