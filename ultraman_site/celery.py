"""The Celery application: queues, the beat schedule, and the workers' signs of life.

Queues: `readers` (a reader is waiting), `bulk` (runs), `checks` (the check of new stories), `training` (uploads,
jobs, imports), `housekeeping` (sweeps, seconds each). Bulk work never stands before a reader: it has another worker.
"""

import os
import threading
from typing import Any

from celery import Celery, signals
from kombu.asynchronous import get_event_loop

from stories.operations.task_queue import enqueue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ultraman_site.settings")

NEXT_LOOK = 0.02  # seconds

app = Celery("ultraman_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.task_routes = {
    "stories.tasks.write_story": {"queue": "readers"},
    "stories.tasks.generate_story": {"queue": "bulk"},
    "stories.tasks.advance_batch": {"queue": "training"},
    "stories.tasks.sweep": {"queue": "housekeeping"},
    "stories.tasks.check_story": {"queue": "checks"},
    "stories.tasks.check_new_stories": {"queue": "checks"},
    "stories.tasks.advance_import": {"queue": "training"},
    "stories.tasks.sweep_imports": {"queue": "housekeeping"},
    "stories.tasks.sweep_batches": {"queue": "housekeeping"},
    "stories.tasks.forget_old_days": {"queue": "housekeeping"},
    "finetuning.tasks.advance_job": {"queue": "training"},
    "finetuning.tasks.sweep_jobs": {"queue": "housekeeping"},
}
# A sweep that waited longer than its interval expires: the next one does its work.
app.conf.beat_schedule = {
    "sweep stories": {"task": "stories.tasks.sweep", "schedule": 10.0, "options": {"expires": 10}},
    "check stories": {
        "task": "stories.tasks.check_new_stories",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "sweep batches": {
        "task": "stories.tasks.sweep_batches",
        "schedule": 5.0,
        "options": {"expires": 10},
    },
    "sweep imports": {
        "task": "stories.tasks.sweep_imports",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "forget old days": {
        "task": "stories.tasks.forget_old_days",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "sweep jobs": {"task": "finetuning.tasks.sweep_jobs", "schedule": 5.0, "options": {"expires": 10}},
}


@signals.worker_ready.connect
# Any: Celery's signals are untyped.
def start_heartbeat(sender: Any, **_: Any) -> None:
    """A worker named `readers@host` writes the heartbeat row `worker-readers` every five seconds."""
    from stories.operations.heartbeats import keep_beating  # apps are ready only now

    name = str(sender.hostname).partition("@")[0]
    threading.Thread(target=keep_beating, args=(f"worker-{name}",), daemon=True).start()


@signals.worker_ready.connect
def look_for_messages_often(**_: object) -> None:
    """A worker with all threads busy asks Redis for the next message only at its loop's next turn.

    A thread that became free wakes nobody, so without prefetching half of the threads stood idle.
    """
    if loop := get_event_loop():
        loop.call_repeatedly(NEXT_LOOK, lambda: None)


@signals.beat_init.connect
def sweep_at_once(**_: object) -> None:
    """Beat's own first turn comes ten seconds late; what was left behind need not wait for it."""
    for entry in app.conf.beat_schedule.values():
        enqueue(app.tasks[entry["task"]])
