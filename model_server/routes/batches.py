"""/v1/batches: many requests in one file."""

from __future__ import annotations

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..batches.store import ENDED
from ..clients import client_of, own_row, owned
from ..errors import invalid, not_found
from ..paging import page, read_page
from ..schemas import BatchRequest, read_json

TIMES = (
    *("created_at", "expires_at", "in_progress_at", "finalizing_at", "completed_at"),
    *("failed_at", "expired_at", "cancelling_at", "cancelled_at"),
)


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """A batch as OpenAI shows it."""
    return {
        "id": row["id"],
        "object": "batch",
        "endpoint": row["endpoint"],
        "status": row["status"],
        "input_file_id": row["input_file"],
        "output_file_id": row["output_file"],
        "error_file_id": row["error_file"],
        "errors": json.loads(row["errors"]) if row["errors"] else None,
        "completion_window": row["completion_window"],
        "request_counts": {name: row[name] for name in ("total", "completed", "failed")},
        "metadata": json.loads(row["metadata"]) or None,
        **{name: row[name] for name in TIMES},
    }


async def create_batch(request: Request) -> Response:
    """Records the batch; the runner starts it at once, or after those before it."""
    asked = await read_json(request, BatchRequest)
    row = await run_in_threadpool(_record, request, asked)
    request.app.state.batch_runner.wake()
    return JSONResponse(shape(row))


def _record(request: Request, asked: BatchRequest) -> dict[str, Any]:
    store = request.app.state.store
    file = store.file(asked.input_file_id)
    if not owned(file, request):
        raise invalid(f"There is no file {asked.input_file_id[:200]!r}.", param="input_file_id")
    if file["purpose"] != "batch":
        raise invalid(
            f"input_file_id must have the purpose 'batch', not {file['purpose']!r}.", param="input_file_id"
        )
    row: dict[str, Any] = store.add_batch(
        endpoint=asked.endpoint,
        input_file=asked.input_file_id,
        window=asked.completion_window,
        metadata=asked.metadata or {},
        client=client_of(request),
    )
    return row


def _row(request: Request) -> dict[str, Any]:
    id = request.path_params["id"]
    missing = not_found("batch", id, param="batch_id")
    return own_row(request.app.state.store.batch(id), request, missing=missing)


def list_batches(request: Request) -> Response:
    """Batches, newest first."""
    store = request.app.state.store
    after, limit = read_page(request, store, table="batches", default=20, maximum=100)
    rows = store.batches(client_of(request), after=after, limit=limit + 1)
    return JSONResponse(page([shape(row) for row in rows], limit))


def retrieve_batch(request: Request) -> Response:
    """One batch."""
    return JSONResponse(shape(_row(request)))


def cancel_batch(request: Request) -> Response:
    """Asks an unfinished batch to end; what was answered until then stays in its output file."""
    row, store = _row(request), request.app.state.store
    if row["status"] in ENDED:
        raise invalid(f"Batch {row['id']} has already ended: {row['status']}.", code="invalid_batch_state")
    store.change_batch(row["id"], only=("validating", "in_progress", "finalizing"), status="cancelling")
    request.app.state.batch_runner.wake()
    return JSONResponse(shape(store.batch(row["id"])))


routes = [
    Route("/batches", list_batches),
    Route("/batches", create_batch, methods=["POST"]),
    Route("/batches/{id}", retrieve_batch),
    Route("/batches/{id}/cancel", cancel_batch, methods=["POST"]),
]
