"""The runner of fine-tuning jobs: one training child at a time, oldest job first.

A job that a stopped server left unfinished starts again with the next server: the built-in engine from the beginning,
lora from the state that it saved last.
"""

from __future__ import annotations

import json
from typing import Any

from ..child_processes import MAX_STARTS, ChildRunner, Claim
from ..engines.lora.train import remove_unfinished_files
from ..settings import Settings
from ..store import ENDED, PAUSED, Store

_SECONDS_TO_PAUSE = 30.0


class TrainingRunner(ChildRunner):
    """Starts, watches and ends training children. `cancel` and `pause` may be called from any thread."""

    module = "model_server.training.worker"

    def __init__(self, store: Store, settings: Settings) -> None:
        super().__init__(settings.data)
        self._store = store
        self._settings = settings

    def unfinished(self) -> list[str]:
        """The active jobs; a paused one is none of them."""
        return [job["id"] for job in self._store.unfinished_jobs()]

    def claim(self, task: str) -> Claim | None:
        """Counts the starts since the job's last checkpoint (`tries`); a further start adds an event."""
        row = self._store.begin_job(task)
        if row is None:
            return None
        if 1 < row["tries"] <= MAX_STARTS:
            message = (
                "Training begins again: it was stopped in the middle, by the server's end or a full disk."
            )
            self._store.add_event(task, message, level="warn")
        return Claim(task, fence=row["starts"], starts=row["tries"])

    def argument(self, claim: Claim) -> dict[str, Any]:
        """The fields of the worker's TrainingTask."""
        return {
            "job": claim.task,
            "org": self._settings.org,
            "bases": {name: str(folder) for name, folder in self._settings.base_models.items()},
            "options": self._settings.training_options,
        }

    def is_wanted(self, task: str) -> bool:
        """False once the job was cancelled or paused."""
        row = self._store.job(task)
        return row is None or row["status"] not in ("cancelled", PAUSED)

    def after_end(self, task: str) -> None:
        """Removes what only an unfinished training needs."""
        row = self._store.job(task)
        if row and row["status"] in ENDED:
            remove_unfinished_files(self._settings.models / task)

    def fail(self, claim: Claim, code: int | None) -> None:
        """Fails the job with a sentence for the person who ordered it."""
        if code is None:
            message = f"The job was started {MAX_STARTS} times and never got on."
        else:
            cause = f"signal {-code}" if code < 0 else f"exit code {code}"
            message = f"The training process ended unexpectedly ({cause})."
        error = {"code": "server_error", "message": message, "param": None}
        self._store.end_job(claim.task, "failed", message, error=json.dumps(error))

    def cancel(self, job: str) -> None:
        """Kills the child that works on a cancelled job; without one, only its files are removed."""
        if self.works_on(job):
            self.kill(job)
        else:
            remove_unfinished_files(self._settings.models / job)

    def pause(self, job: str) -> None:
        """Asks the child that works on a paused job to save its state and end."""
        self.terminate(job, seconds=_SECONDS_TO_PAUSE)
