"""The events of a job: each kept once, with the figures that came with it, in whatever order they are listed."""

import hashlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from finetuning.models import Job, JobEvent
from finetuning.results import merge, read_figures, read_message, read_total_steps
from finetuning.training import remote
from finetuning.training.figures import keep_steps
from finetuning.training.states import keep
from llm.errors import LLMError, Refused
from llm.remote_objects import MAX_ID, clean, read_id
from sentences import Words, sentence_of

logger = logging.getLogger(__name__)
BATCH = 500
MAX_KNOWN = 50
"""After as many known events in a row, a list that is newest first is taken to hold nothing new."""
MAX_SECONDS = 10**11  # the year 5138; a larger number is of milliseconds
MAX_MILLISECONDS = 10**14


def keep_events(job: Job, *, thorough: bool = False) -> Words:
    """The events that are new since the last look, and their figures; why there are none, "" if it worked.

    `thorough` reads every page, also of a list whose beginning is known.
    """
    try:
        fresh = list(_fresh_events(job, thorough=thorough))
    except Refused as error:  # a compatible server need not have events; the status says enough
        logger.warning("job %s: no events: %s", job.pk, error)
        return ""
    except LLMError as error:
        return sentence_of(error)
    _put_in_order(fresh)
    for start in range(0, len(fresh), BATCH):
        _write(job, fresh[start : start + BATCH])
    return ""


def _fresh_events(job: Job, *, thorough: bool) -> Iterator[object]:
    """Those that are not among our rows, each once."""
    known = set(job.events.values_list("remote_id", flat=True))
    newest_first, last, in_a_row = not thorough, None, 0
    for event in remote.read_events(job):
        created, key = _created_at(event), event_key(event)
        newest_first = newest_first and created is not None and (last is None or created <= last)
        last = created
        if key not in known:
            known.add(key)
            in_a_row = 0
            yield event
            continue
        in_a_row += 1
        if newest_first and in_a_row >= MAX_KNOWN:
            return


def _put_in_order(events: list[object]) -> None:
    """Oldest first, as they happened; those of one moment as the list has them, or in reverse if it is newest first."""
    times = [_created_at(event) or 0.0 for event in events]
    if times and times[-1] <= times[0] > 0:
        events.reverse()
    events.sort(key=lambda event: _created_at(event) or 0.0)


def _write(job: Job, events: list[object]) -> None:
    """Writes them together, or, where one cannot be kept, the others one by one."""
    try:
        _write_together(job, events)
    except (OperationalError, InterfaceError):
        raise  # the database is away or full: the events are not at fault
    except Exception:
        if len(events) == 1:
            logger.exception("job %s: an event cannot be kept", job.pk)
            return
        for event in events:
            _write(job, [event])


def _write_together(job: Job, events: list[object]) -> None:
    measured = list(map(_measured, events))
    with transaction.atomic():
        JobEvent.objects.bulk_create((event_row(job, event) for event in events), ignore_conflicts=True)
        keep_steps(job, merge(figures for values in measured if (figures := read_figures(values))))
        if total := max(map(read_total_steps, measured), default=0):
            keep(job, total_steps=total)


# Any: a provider's JSON, whose values are checked one by one here.
def _measured(event: Any) -> dict[str, Any]:
    """What an event measured: in its data, beside its other fields, or, where it says no step, in its message."""
    # Any: as above.
    places: list[Any] = [getattr(event, "data", None), getattr(event, "model_extra", None)]
    for values in places:
        if isinstance(values, dict) and ("step" in values or "total_steps" in values):
            return values
    return read_message(clean(getattr(event, "message", None)))


# Any: a provider's JSON, whose values are checked one by one here.
def event_row(job: Job, event: Any) -> JobEvent:
    created = _created_at(event)
    return JobEvent(
        job=job,
        remote_id=event_key(event),
        level=clean(getattr(event, "level", None) or "info", most=20),
        message=clean(getattr(event, "message", None)),
        created_at=timezone.now() if created is None else datetime.fromtimestamp(created, UTC),
    )


# Any: a provider's JSON, whose values are checked one by one here.
def _created_at(event: Any) -> float | None:
    """Seconds since 1970, from a number of seconds or milliseconds, or from a text as ISO 8601 writes it."""
    # Any: as above.
    raw: Any = getattr(event, "created_at", None)
    if isinstance(raw, str):
        return _read_time(raw)
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not 0 < raw < MAX_MILLISECONDS:
        return None
    return raw if raw < MAX_SECONDS else raw / 1000


def _read_time(text: str) -> float | None:
    try:
        said = datetime.fromisoformat(text)
        return (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


# Any: a provider's JSON, whose values are checked one by one here.
def event_key(event: Any) -> str:
    """The provider's id; a long one by its hash, to fit its column; without one, the hash of what it says.

    Two events without an id that say the same, at the same time, with the same figures, are one: a list that is
    doubled could not be told from them.
    """
    id = clean(read_id(event))
    if 0 < len(id) <= MAX_ID:
        return id
    said = [getattr(event, name, None) for name in ("created_at", "message", "data")]
    words = id or json.dumps([*said, getattr(event, "step", None)], sort_keys=True, default=repr)
    return hashlib.sha256(words.encode("utf-8", "replace")).hexdigest()
