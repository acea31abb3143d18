# ruff: noqa: S608 - what is put into the SQL texts is names of our own tables and columns, never a client's word
"""The server's data: files, jobs, their events and checkpoints, and tuned models, in one SQLite file."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .database import Database, add_columns, change_row, claim_row, new_id

ENDED = ("succeeded", "failed", "cancelled")
ACTIVE = ("validating_files", "queued", "running")
PAUSED = "paused"
UNFINISHED = (*ACTIVE, PAUSED)
_CLIENT = {"client": "TEXT NOT NULL DEFAULT ''"}
_ADDED = {  # columns that stores of earlier versions lack, by table
    "files": _CLIENT,
    "jobs": {
        "method": "TEXT NOT NULL DEFAULT 'supervised'",
        "tries": "INTEGER NOT NULL DEFAULT 0",
    }
    | _CLIENT,
    "models": _CLIENT,
}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL,
  bytes INTEGER NOT NULL, created_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, status TEXT NOT NULL, model TEXT NOT NULL,
  training_file TEXT NOT NULL, validation_file TEXT, suffix TEXT, seed INTEGER NOT NULL, metadata TEXT NOT NULL,
  hyperparameters TEXT NOT NULL, fine_tuned_model TEXT, trained_tokens INTEGER, result_file TEXT, error TEXT,
  starts INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, finished_at INTEGER, estimated_finish INTEGER);
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL, created_at INTEGER NOT NULL,
  level TEXT NOT NULL, type TEXT NOT NULL, message TEXT NOT NULL, data TEXT, step INTEGER,
  UNIQUE (job, type, step));
CREATE INDEX IF NOT EXISTS events_job ON events (job, seq);
CREATE TABLE IF NOT EXISTS checkpoints (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL, created_at INTEGER NOT NULL,
  step INTEGER NOT NULL, model TEXT NOT NULL, metrics TEXT NOT NULL, UNIQUE (job, step));
CREATE TABLE IF NOT EXISTS models (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, engine TEXT NOT NULL, parent TEXT NOT NULL,
  job TEXT NOT NULL, path TEXT NOT NULL, created INTEGER NOT NULL, owned_by TEXT NOT NULL);
"""


class Store(Database):
    """All reads and writes; each method is one short transaction."""

    def create(self) -> None:
        """Makes the tables that are missing; called once by the server at its start."""
        with self._transaction() as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(_SCHEMA)
            for table, columns in _ADDED.items():
                add_columns(db, table, columns)

    # files

    def add_file(self, *, id: str, filename: str, purpose: str, size: int, client: str) -> dict[str, Any]:
        """Records a file whose bytes are already on disk; returns its row."""
        row = {
            "id": id,
            "filename": filename,
            "purpose": purpose,
            "bytes": size,
            "created_at": int(time.time()),
            "client": client,
        }
        self._insert("files", row)
        return row

    def file(self, id: str) -> dict[str, Any] | None:
        """One file's row."""
        return self._one("SELECT * FROM files WHERE id = ?", (id,))

    def files(
        self, client: str, *, purpose: str | None, after: int | None, limit: int, ascending: bool
    ) -> list[dict[str, Any]]:
        """A client's files by age, newest first unless `ascending`; `after` is the seq of the last one already seen."""
        order, sign = ("ASC", ">") if ascending else ("DESC", "<")
        return self._all(
            f"SELECT * FROM files WHERE client = ?4 AND (?1 IS NULL OR purpose = ?1)"
            f" AND (?2 IS NULL OR seq {sign} ?2) ORDER BY seq {order} LIMIT ?3",
            (purpose, after, limit, client),
        )

    def delete_file(self, id: str) -> bool:
        """True if there was such a file."""
        with self._transaction() as db:
            return db.execute("DELETE FROM files WHERE id = ?", (id,)).rowcount == 1

    # jobs

    def add_job(self, **row: Any) -> dict[str, Any]:
        """A new job, still validating its files; returns its row."""
        row |= {"id": new_id("ftjob"), "status": "validating_files", "created_at": int(time.time())}
        row["metadata"] = json.dumps(row["metadata"])
        row["hyperparameters"] = json.dumps(row["hyperparameters"])
        self._insert("jobs", row)
        job = self.job(row["id"])
        assert job is not None
        return job

    def job(self, id: str) -> dict[str, Any] | None:
        """One job's row."""
        return self._one("SELECT * FROM jobs WHERE id = ?", (id,))

    def jobs(self, client: str, *, after: int | None = None) -> list[dict[str, Any]]:
        """A client's jobs, newest first, beginning behind `after` (a seq)."""
        query = "SELECT * FROM jobs WHERE client = ?2 AND (?1 IS NULL OR seq < ?1) ORDER BY seq DESC"
        return self._all(query, (after, client))

    def unfinished_jobs(self) -> list[dict[str, Any]]:
        """Jobs that a child may work on, oldest first; a paused one is none of them."""
        return self._all(f"SELECT * FROM jobs WHERE status IN {ACTIVE} ORDER BY seq")

    def begin_job(self, id: str) -> dict[str, Any] | None:
        """Gives the job to a new child; None if it has ended or was paused meanwhile.

        `starts` of the row is the fence for the child's writes, `tries` counts the starts since the last checkpoint.
        """
        with self._transaction() as db:
            return claim_row(db, "jobs", id, states=ACTIVE, counters=("starts", "tries"))

    def is_active(self, id: str, *, fence: int) -> bool:
        """Whether the job is to be worked on, and by the child with this fence."""
        row = self.job(id)
        return row is not None and row["status"] in ACTIVE and row["starts"] == fence

    def pause_job(self, id: str) -> bool:
        """True for the one caller who paused it; its child may write no more."""
        values = {"status": PAUSED, "tries": 0, "estimated_finish": None}
        with self._transaction() as db:
            paused = change_row(db, "jobs", id, values, states=ACTIVE)
            if paused:
                _add_event(db, id, "Paused on request.", level="info")
        return paused

    def resume_job(self, id: str) -> bool:
        """True for the one caller who put a paused job back into the queue."""
        with self._transaction() as db:
            resumed = change_row(db, "jobs", id, {"status": "queued"}, states=(PAUSED,))
            if resumed:
                _add_event(db, id, "Resumed on request.", level="info")
        return resumed

    def change_job(self, id: str, *, fence: int | None = None, **values: Any) -> bool:
        """Changes an unfinished job; False if it has ended, or belongs to a newer child than `fence`."""
        with self._transaction() as db:
            return change_row(db, "jobs", id, values, states=ACTIVE, fence=fence)

    def end_job(self, id: str, status: str, message: str, *, fence: int | None = None, **values: Any) -> bool:
        """Moves an unfinished job to an end, together with its last event; True for the one caller who did it.

        A child (with its `fence`) cannot end a job that was paused meanwhile.
        """
        values |= {"status": status, "finished_at": int(time.time())}
        states = UNFINISHED if fence is None else ACTIVE
        with self._transaction() as db:
            ended = change_row(db, "jobs", id, values, states=states, fence=fence)
            if ended:
                _add_event(db, id, message, level="info" if status == "succeeded" else "error")
        return ended

    # events and checkpoints

    def add_event(
        self,
        job: str,
        message: str,
        *,
        level: str = "info",
        data: dict[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        """A message, or with `step` a metrics event; the same step twice (after a restart) is kept once."""
        with self._transaction() as db:
            _add_event(db, job, message, level=level, data=data, step=step)

    def events(self, job: str, *, after: int | None, limit: int) -> list[dict[str, Any]]:
        """A job's events, newest first."""
        query = "SELECT * FROM events WHERE job = ?1 AND (?2 IS NULL OR seq < ?2) ORDER BY seq DESC LIMIT ?3"
        return self._all(query, (job, after, limit))

    def add_checkpoint(self, job: str, *, step: int, model: str, metrics: dict[str, Any]) -> None:
        """The state after an epoch; kept once per step."""
        values = (new_id("ftckpt"), job, int(time.time()), step, model, json.dumps(metrics))
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO checkpoints (id, job, created_at, step, model, metrics)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )

    def checkpoints(self, job: str, *, after: int | None, limit: int) -> list[dict[str, Any]]:
        """A job's checkpoints, newest first."""
        query = (
            "SELECT * FROM checkpoints WHERE job = ?1 AND (?2 IS NULL OR seq < ?2) ORDER BY seq DESC LIMIT ?3"
        )
        return self._all(query, (job, after, limit))

    def drop_checkpoints(self, job: str, *, keep: int) -> list[dict[str, Any]]:
        """Removes all but the newest `keep` of a job's checkpoints and their models; the rows of those models."""
        query = "SELECT model FROM checkpoints WHERE job = ? ORDER BY step DESC LIMIT -1 OFFSET ?"
        with self._transaction() as db:
            old = [row["model"] for row in db.execute(query, (job, keep))]
            dropped = []
            for model in old:
                db.execute("DELETE FROM checkpoints WHERE job = ? AND model = ?", (job, model))
                dropped += [
                    dict(row) for row in db.execute("DELETE FROM models WHERE id = ? RETURNING *", (model,))
                ]
        return dropped

    def seq(self, table: str, id: str) -> int | None:
        """Where a row stands in its table, for paging; `table` is one of ours, never a client's word."""
        row = self._one(f"SELECT seq FROM {table} WHERE id = ?", (id,))
        return row["seq"] if row else None

    # models

    def add_model(self, job: Mapping[str, Any], *, id: str, engine: str, path: str, owned_by: str) -> None:
        """A model tuned by `job` whose file is already on disk; once more, after a restart, it is kept once."""
        values = (id, engine, job["model"], job["id"], path, int(time.time()), owned_by, job["client"])
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO models (id, engine, parent, job, path, created, owned_by, client)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )

    def model(self, id: str) -> dict[str, Any] | None:
        """One tuned model's row."""
        return self._one("SELECT * FROM models WHERE id = ?", (id,))

    def models(self, client: str) -> list[dict[str, Any]]:
        """A client's tuned models, oldest first."""
        return self._all("SELECT * FROM models WHERE client = ? ORDER BY seq", (client,))

    def delete_model(self, id: str) -> bool:
        """True if there was such a model."""
        with self._transaction() as db:
            return db.execute("DELETE FROM models WHERE id = ?", (id,)).rowcount == 1


def _add_event(
    db: sqlite3.Connection,
    job: str,
    message: str,
    *,
    level: str,
    data: dict[str, Any] | None = None,
    step: int | None = None,
) -> None:
    kind = "message" if step is None else "metrics"
    said = None if data is None else json.dumps(data)
    db.execute(
        "INSERT OR IGNORE INTO events (id, job, created_at, level, type, message, data, step)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (new_id("ftevent"), job, int(time.time()), level, kind, message, said, step),
    )


def remove_model(models: Path, row: Mapping[str, Any]) -> None:
    """Removes a deleted model's file or folder. Its path is ours, and still has to lie within the folder of models."""
    place = (models / row["path"]).resolve()
    if not place.is_relative_to(models.resolve()) or place == models.resolve():
        raise ValueError(f"the model {row['id']} lies outside the folder of models")
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
