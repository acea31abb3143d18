"""created: asks the provider how far it is, keeps its events and figures, until it ended."""

import hashlib
import logging
from datetime import UTC, datetime
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from finetuning.models import Job, JobEvent
from finetuning.results import merge, read_figures, read_total_steps
from finetuning.training import remote
from finetuning.training.bills import Bill, bill_for
from finetuning.training.completion import finish_job, has_waited, wait_for_rest
from finetuning.training.figures import keep_steps
from finetuning.training.remote import RemoteJob
from finetuning.training.states import claim, end, hand_back, keep, pace
from finetuning.training.transitions import MAX_WAIT
from llm.errors import LLMError, Refused, TryAgainLater
from llm.remote_objects import MAX_ID, clean, read_id
from sentences import Words, sentence_of

logger = logging.getLogger(__name__)
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
BATCH = 500


def poll_job(job: Job) -> None:
    """Reads status and events once, and does what follows from them. A failed read is repeated later."""
    if not claim(job):
        return
    try:
        seen = remote.retrieve_job(job)
        if job.cancel_requested and seen.status not in (SUCCEEDED, FAILED, CANCELLED):
            seen = remote.cancel_job(job)
        missed = keep_events(job)
        _conclude(job, seen, missed=missed)
    except LLMError as error:
        asked = error.retry_after if isinstance(error, TryAgainLater) else None
        after = pace(job.created_at) if asked is None else min(MAX_WAIT, asked)
        hand_back(job, state=Job.State.CREATED, after=after, error=sentence_of(error))


def keep_events(job: Job) -> Words:
    """The events since the last look, each once, and the figures that came with them; why not, "" if it worked."""
    try:
        fresh = _fresh_events(job)
    except Refused as error:  # a compatible server need not have events; the status says enough
        logger.warning("job %s: no events: %s", job.pk, error)
        return ""
    except LLMError as error:
        return sentence_of(error)
    for start in range(0, len(fresh), BATCH):
        # Oldest first: were we to die between two batches, the next look would stop at the newest known one,
        # which is then also the last one written.
        _write(job, fresh[start : start + BATCH])
    return ""


def _fresh_events(job: Job) -> list[object]:
    """Those that are not among our rows, oldest first."""
    known = set(job.events.values_list("remote_id", flat=True))
    fresh: list[object] = []
    for event in remote.read_events(job):
        if _event_id(event) in known:
            break
        fresh.append(event)
    fresh.reverse()
    return fresh


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


# Any: a provider's JSON, whose values are checked one by one here.
def _write_together(job: Job, events: list[Any]) -> None:
    data = [event.data for event in events if isinstance(getattr(event, "data", None), dict)]
    with transaction.atomic():
        JobEvent.objects.bulk_create((_row(job, event) for event in events), ignore_conflicts=True)
        keep_steps(job, merge(figures for values in data if (figures := read_figures(values))))
        if total := max(map(read_total_steps, data), default=0):
            keep(job, total_steps=total)


def _conclude(job: Job, seen: RemoteJob, *, missed: Words) -> None:
    """What the status means; `missed` says why the events could not be read; they are waited for a while."""
    known = {"remote_status": seen.status, "last_polled_at": timezone.now()}
    if missed and seen.status in (SUCCEEDED, FAILED, CANCELLED) and not has_waited(job):
        wait_for_rest(job, missed, known=known)
    elif seen.status == SUCCEEDED:
        finish_job(job, seen, known=known)
    elif seen.status == FAILED:
        # A failed training is not billed, unless the provider counted tokens all the same.
        bill = bill_for(job, seen.trained_tokens or 0, odd=seen.odd_tokens)
        end(job, state=Job.State.FAILED, bill=bill, error=seen.error, **_tokens(seen), **known)
    elif seen.status == CANCELLED:
        end(job, state=Job.State.CANCELLED, bill=_cancelled_bill(job, seen), **_tokens(seen), **known)
    else:
        hand_back(job, state=Job.State.CREATED, after=pace(job.created_at), error=missed, **known)


def _cancelled_bill(job: Job, seen: RemoteJob) -> Bill:
    """The steps taken until then are billed; their tokens unknown, the reservation counts."""
    if seen.trained_tokens is None and not seen.odd_tokens and not job.steps.exists():
        return bill_for(job, 0)
    return bill_for(job, seen.trained_tokens, odd=seen.odd_tokens)


# Any: a provider's JSON, whose values are checked one by one here.
def _tokens(seen: RemoteJob) -> dict[str, Any]:
    return {"trained_tokens": seen.trained_tokens}


# Any: a provider's JSON, whose values are checked one by one here.
def _row(job: Job, event: Any) -> JobEvent:
    # Any: a provider's JSON, whose values are checked one by one here.
    created: Any = getattr(event, "created_at", None)
    is_time = isinstance(created, int | float) and not isinstance(created, bool) and 0 < created < 10**11
    return JobEvent(
        job=job,
        remote_id=_event_id(event),
        level=clean(getattr(event, "level", None) or "info", most=20),
        message=clean(getattr(event, "message", None)),
        created_at=datetime.fromtimestamp(created, UTC) if is_time else timezone.now(),
    )


# Any: a provider's JSON, whose values are checked one by one here.
def _event_id(event: Any) -> str:
    """The provider's id; a long one by its hash, to fit its column; without one, the hash of what it says."""
    id = clean(read_id(event))
    if 0 < len(id) <= MAX_ID:
        return id
    said = [getattr(event, name, None) for name in ("created_at", "message", "data")]
    return hashlib.sha256((id or repr(said)).encode("utf-8", "replace")).hexdigest()
