"""Signs of life of the processes, as rows: what `make run` waits for and `/health/ready` reports."""

import logging
import threading
from datetime import timedelta

from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from stories.models import Heartbeat

logger = logging.getLogger(__name__)
EVERY = 5.0
FRESH = timedelta(seconds=30)
GAP = timedelta(seconds=15)
CALM = timedelta(seconds=10)
EXPECTED = ("worker-readers", "worker-bulk", "beat")


def beat(process: str) -> None:
    """Notes that `process` is alive now."""
    Heartbeat.objects.update_or_create(process=process, defaults={"beat_at": timezone.now()})


def beat_steadily(process: str) -> bool:
    """As `beat`, for what comes every ten seconds; True once it has come without a gap for `CALM`.

    After a gap (the database was locked, full or away) no other process could beat either: the caller waits with
    its judgement of the others until they could.
    """
    since = f"{process}-since"
    last = Heartbeat.objects.filter(process=process).values_list("beat_at", flat=True).first()
    if last is not None and timezone.now() - last > GAP:
        # Before our own beat: another sweep that waited with us then finds either the gap or this row.
        beat(since)
    beat(process)
    calm = timezone.now() - CALM
    return not Heartbeat.objects.filter(process=since, beat_at__gt=calm).exists()


def silent_processes() -> list[str]:
    """The expected processes that gave no sign of life within `FRESH`."""
    fresh = Heartbeat.objects.filter(beat_at__gte=timezone.now() - FRESH).values_list("process", flat=True)
    return [process for process in EXPECTED if process not in set(fresh)]


def keep_beating(process: str, *, stop: threading.Event | None = None) -> None:
    """Beats until `stop`; a worker's thread. A database that is away for a while costs a line in the log."""
    stop = stop or threading.Event()
    while True:
        try:
            close_old_connections()
            beat(process)
        except DatabaseError as error:
            logger.warning("no heartbeat of %s: %s", process, error)
        finally:
            connection.close()
        if stop.wait(EVERY):
            return
