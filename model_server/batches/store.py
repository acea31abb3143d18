"""Batches in the server's SQLite file. A status changes by compare-and-set; `starts` is the fence of a child."""

# ruff: noqa: S608 - what is put into the SQL texts is names of our own columns, never a client's word

from __future__ import annotations

import json
import time
from typing import Any

from ..database import add_columns, change_row, claim_row, new_id
from ..store import Store

ENDED = ("failed", "completed", "expired", "cancelled")
ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
DAY = 24 * 60 * 60

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, status TEXT NOT NULL, endpoint TEXT NOT NULL,
  input_file TEXT NOT NULL, completion_window TEXT NOT NULL, metadata TEXT NOT NULL, output_file TEXT,
  error_file TEXT, errors TEXT, total INTEGER NOT NULL DEFAULT 0, completed INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0, starts INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL, in_progress_at INTEGER, finalizing_at INTEGER, completed_at INTEGER,
  failed_at INTEGER, expired_at INTEGER, cancelling_at INTEGER, cancelled_at INTEGER);
"""


class BatchStore(Store):
    """The same file as `Store`, with the table of the batches."""

    def create(self) -> None:
        super().create()
        with self._transaction() as db:
            db.executescript(_SCHEMA)
            add_columns(db, "batches", {"client": "TEXT NOT NULL DEFAULT ''"})

    def add_batch(
        self, *, endpoint: str, input_file: str, window: str, metadata: dict[str, str], client: str
    ) -> dict[str, Any]:
        """A new batch, its file not yet read; returns its row."""
        now = int(time.time())
        row = {
            "id": new_id("batch"),
            "status": "validating",
            "endpoint": endpoint,
            "input_file": input_file,
            "completion_window": window,
            "metadata": json.dumps(metadata),
            "created_at": now,
            "expires_at": now + DAY,
            "client": client,
        }
        self._insert("batches", row)
        found = self.batch(row["id"])
        assert found is not None
        return found

    def batch(self, id: Any) -> dict[str, Any] | None:
        return self._one("SELECT * FROM batches WHERE id = ?", (id,))

    def batches(self, client: str, *, after: int | None, limit: int) -> list[dict[str, Any]]:
        """A client's, newest first, beginning behind `after` (a seq)."""
        query = (
            "SELECT * FROM batches WHERE client = ?3 AND (?1 IS NULL OR seq < ?1) ORDER BY seq DESC LIMIT ?2"
        )
        return self._all(query, (after, limit, client))

    def unfinished_batches(self) -> list[dict[str, Any]]:
        """Those that still have to end, oldest first."""
        return self._all(f"SELECT * FROM batches WHERE status IN {ACTIVE} ORDER BY seq")

    def begin_batch(self, id: str) -> int | None:
        """Gives the batch to a new child; the fence for its writes, None if it has ended meanwhile."""
        with self._transaction() as db:
            row = claim_row(db, "batches", id, states=ACTIVE)
        return row["starts"] if row else None

    def change_batch(
        self, id: str, *, fence: int | None = None, only: tuple[str, ...] = ACTIVE, **values: Any
    ) -> bool:
        """Changes a batch whose status is one of `only`; False if it is not, or a newer child has it."""
        if "status" in values:
            values[f"{values['status']}_at"] = int(time.time())
        with self._transaction() as db:
            return change_row(db, "batches", id, values, states=only, fence=fence)
