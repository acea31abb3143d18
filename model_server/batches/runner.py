"""The runner of batches: one child at a time, oldest batch first.

A batch that a stopped server left unfinished starts again from its beginning; no client has seen any of its results,
as the result files are recorded at the end.
"""

from __future__ import annotations

import json
from typing import Any

from ..child_processes import ChildRunner, Claim
from ..settings import Settings
from .store import BatchStore


class BatchRunner(ChildRunner):
    """Starts and watches the children that answer batches."""

    module = "model_server.batches.worker"

    def __init__(self, store: BatchStore, settings: Settings) -> None:
        super().__init__(settings.data)
        self._store = store
        self._settings = settings

    def unfinished(self) -> list[str]:
        """The batches that have not ended."""
        return [batch["id"] for batch in self._store.unfinished_batches()]

    def claim(self, task: str) -> Claim | None:
        """Every start counts: a batch makes no progress that outlives its child."""
        fence = self._store.begin_batch(task)
        return None if fence is None else Claim(task, fence=fence, starts=fence)

    def argument(self, claim: Claim) -> dict[str, Any]:
        """What the worker's `main` reads."""
        return {
            "batch": claim.task,
            "mistake_rate": self._settings.mistake_rate,
            "base_models": list(self._settings.base_models),
        }

    def fail(self, claim: Claim, code: int | None) -> None:
        """Fails the batch with an entry in its errors."""
        message = f"The batch was started {claim.starts} times and did not end (exit code {code or 0})."
        error = {"code": "server_error", "message": message, "line": None, "param": None}
        errors = json.dumps({"object": "list", "data": [error]})
        self._store.change_batch(claim.task, status="failed", errors=errors)
