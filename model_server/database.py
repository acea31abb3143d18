# ruff: noqa: S608 - what is put into the SQL texts is names of our own tables and columns, never a client's word
"""The SQLite file: connections, transactions, and the two changes of a row that has a fence.

The server and its children all open the file (WAL, short transactions). A status changes by compare-and-set. The column
`starts` is the fence: a child that was replaced by a newer one can no longer write.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def new_id(prefix: str) -> str:
    """A fresh id such as `file-3f…`."""
    return f"{prefix}-{secrets.token_hex(12)}"


class Database:
    """Reads and writes rows as dicts; every thread has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mine = threading.local()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as db:  # sqlite3's own block: commit, or roll back on an error
            yield db

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection, kept open: SQLite flushes its whole log to disk when the last one is closed."""
        db: sqlite3.Connection | None = getattr(self._mine, "db", None)
        if db is None:
            db = self._mine.db = sqlite3.connect(self._path, timeout=10)
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous=NORMAL")  # safe with WAL, and an event costs no disk flush
        return db

    def _one(self, query: str, values: Sequence[Any]) -> dict[str, Any] | None:
        with self._transaction() as db:
            row = db.execute(query, values).fetchone()
        return dict(row) if row else None

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with self._transaction() as db:
            return [dict(row) for row in db.execute(query, values)]

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        with self._transaction() as db:
            db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def add_columns(db: sqlite3.Connection, table: str, columns: Mapping[str, str]) -> None:
    """Adds the columns that the table of an earlier version lacks; name to declaration."""
    there = {row["name"] for row in db.execute(f"PRAGMA table_info({table})")}
    for name in columns.keys() - there:
        db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")


def claim_row(
    db: sqlite3.Connection,
    table: str,
    id: str,
    *,
    states: Sequence[str],
    counters: Sequence[str] = ("starts",),
) -> dict[str, Any] | None:
    """Gives a row to a new child by raising its counters; the changed row, None if its status is none of `states`."""
    raised = ", ".join(f"{name} = {name} + 1" for name in counters)
    query = f"UPDATE {table} SET {raised} WHERE id = ? AND status IN ({_marks(states)}) RETURNING *"
    row = db.execute(query, (id, *states)).fetchone()
    return dict(row) if row else None


def change_row(
    db: sqlite3.Connection,
    table: str,
    id: str,
    values: Mapping[str, Any],
    *,
    states: Sequence[str],
    fence: int | None = None,
) -> bool:
    """Changes a row whose status is one of `states`; False if it is not, or a newer child than `fence` has it."""
    settings = ", ".join(f"{name} = ?" for name in values)
    query = (
        f"UPDATE {table} SET {settings} WHERE id = ? AND status IN ({_marks(states)})"
        " AND (? IS NULL OR starts = ?)"
    )
    return db.execute(query, (*values.values(), id, *states, fence, fence)).rowcount == 1


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
