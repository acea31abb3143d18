"""/v1/fine_tuning/jobs: jobs, their events and their checkpoints."""

from __future__ import annotations

import json
import secrets
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..clients import client_of, own_row, owned
from ..errors import ApiError, invalid, not_found
from ..paging import page, read_page
from ..schemas import JobRequest, read_json
from ..store import ENDED


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """A job as OpenAI shows it."""
    hyperparameters = json.loads(row["hyperparameters"])
    return {
        "id": row["id"],
        "object": "fine_tuning.job",
        "model": row["model"],
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
        "estimated_finish": row["estimated_finish"],
        "fine_tuned_model": row["fine_tuned_model"],
        "organization_id": "org-local",
        "status": row["status"],
        "training_file": row["training_file"],
        "validation_file": row["validation_file"],
        "result_files": [row["result_file"]] if row["result_file"] else [],
        "trained_tokens": row["trained_tokens"],
        "hyperparameters": hyperparameters,
        "method": {"type": row["method"], row["method"]: {"hyperparameters": hyperparameters}},
        "error": json.loads(row["error"]) if row["error"] else None,
        "seed": row["seed"],
        "integrations": [],
        "metadata": json.loads(row["metadata"]) or None,
        "user_provided_suffix": row["suffix"],
    }


async def create_job(request: Request) -> Response:
    """Records the job; the runner starts it at once, or after those before it."""
    asked = await read_json(request, JobRequest)
    row = await run_in_threadpool(_record, request, asked)
    request.app.state.runner.wake()
    return JSONResponse(shape(row))


def _record(request: Request, asked: JobRequest) -> dict[str, Any]:
    store = request.app.state.store
    request.app.state.registry.check_trainable(asked.model, method=asked.kind, client=client_of(request))
    for param, id in (("training_file", asked.training_file), ("validation_file", asked.validation_file)):
        row = store.file(id) if id else None
        if id and not owned(row, request):
            raise invalid(f"invalid {param}: there is no file {id[:200]!r}.", param=param)
        if row and row["purpose"] != "fine-tune":
            raise invalid(f"{param} must have the purpose 'fine-tune', not {row['purpose']!r}.", param=param)
    created: dict[str, Any] = store.add_job(
        model=asked.model,
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        suffix=_suffix(asked.suffix),
        seed=secrets.randbelow(2**31) if asked.seed is None else asked.seed,
        metadata=asked.metadata or {},
        hyperparameters=asked.asked.model_dump(),
        method=asked.kind,
        client=client_of(request),
    )
    store.add_event(created["id"], f"Created fine-tuning job: {created['id']}")
    return created


def _suffix(suffix: str | None) -> str | None:
    """A suffix as it can stand in a model's name: lower case, no colon, no blanks."""
    if suffix is None:
        return None
    kept = "".join(sign if sign.isalnum() else "-" for sign in suffix.lower()).strip("-")
    if not kept:
        raise invalid("'suffix' needs at least one letter or digit.", param="suffix")
    return kept


def _row(request: Request) -> dict[str, Any]:
    id = request.path_params["id"]
    missing = not_found("fine-tuning job", id, param="fine_tuning_job_id", code="fine_tune_not_found")
    return own_row(request.app.state.store.job(id), request, missing=missing)


def list_jobs(request: Request) -> Response:
    """Jobs, newest first; `metadata[k]=v` keeps those that carry the pair, `metadata=null` those without any."""
    store = request.app.state.store
    after, limit = read_page(request, store, table="jobs", default=20, maximum=100)
    shapes = [shape(row) for row in store.jobs(client_of(request), after=after)]
    for name, value in request.query_params.items():
        if name == "metadata" and value == "null":
            shapes = [one for one in shapes if not one["metadata"]]
        elif name.startswith("metadata[") and name.endswith("]"):
            shapes = [one for one in shapes if (one["metadata"] or {}).get(name[9:-1]) == value]
    return JSONResponse(page(shapes[: limit + 1], limit))


def retrieve_job(request: Request) -> Response:
    """One job."""
    return JSONResponse(shape(_row(request)))


def cancel_job(request: Request) -> Response:
    """Ends an unfinished job at once; the runner kills its child."""
    row = _row(request)
    store = request.app.state.store
    if row["status"] in ENDED or not store.end_job(row["id"], "cancelled", "Cancelled on request."):
        status = store.job(row["id"])["status"]
        raise invalid(f"Job {row['id']} has already ended: {status}.", code="invalid_job_state")
    request.app.state.runner.cancel(row["id"])
    return JSONResponse(shape(store.job(row["id"])))


def pause_job(request: Request) -> Response:
    """Takes an unfinished job out of the queue; the engine lora saves its state first."""
    row = _row(request)
    if not request.app.state.store.pause_job(row["id"]):
        raise _wrong_state(request, row, "paused")
    request.app.state.runner.pause(row["id"])
    return JSONResponse(shape(request.app.state.store.job(row["id"])))


def resume_job(request: Request) -> Response:
    """Puts a paused job back into the queue; lora resumes from its saved state, the built-in engine starts again."""
    row = _row(request)
    if not request.app.state.store.resume_job(row["id"]):
        raise _wrong_state(request, row, "resumed")
    request.app.state.runner.wake()
    return JSONResponse(shape(request.app.state.store.job(row["id"])))


def _wrong_state(request: Request, row: dict[str, Any], change: str) -> ApiError:
    status = request.app.state.store.job(row["id"])["status"]
    return invalid(f"Job {row['id']} cannot be {change}: it is {status}.", code="invalid_job_state")


def list_events(request: Request) -> Response:
    """Events, newest first."""
    store, row = request.app.state.store, _row(request)
    after, limit = read_page(request, store, table="events", default=20, maximum=1000)
    shapes = [
        {
            "id": event["id"],
            "object": "fine_tuning.job.event",
            "created_at": event["created_at"],
            "level": event["level"],
            "message": event["message"],
            "type": event["type"],
            "data": json.loads(event["data"]) if event["data"] else None,
        }
        for event in store.events(row["id"], after=after, limit=limit + 1)
    ]
    return JSONResponse(page(shapes, limit))


def list_checkpoints(request: Request) -> Response:
    """Checkpoints, newest first: the last three epochs, or the finished model alone, as the engine has it."""
    store, row = request.app.state.store, _row(request)
    after, limit = read_page(request, store, table="checkpoints", default=10, maximum=100)
    shapes = [
        {
            "id": checkpoint["id"],
            "object": "fine_tuning.job.checkpoint",
            "created_at": checkpoint["created_at"],
            "fine_tuned_model_checkpoint": checkpoint["model"],
            "fine_tuning_job_id": row["id"],
            "step_number": checkpoint["step"],
            "metrics": json.loads(checkpoint["metrics"]),
        }
        for checkpoint in store.checkpoints(row["id"], after=after, limit=limit + 1)
    ]
    return JSONResponse(page(shapes, limit))


_JOBS = "/fine_tuning/jobs"
routes = [
    Route(_JOBS, list_jobs),
    Route(_JOBS, create_job, methods=["POST"]),
    Route(_JOBS + "/{id}", retrieve_job),
    Route(_JOBS + "/{id}/cancel", cancel_job, methods=["POST"]),
    Route(_JOBS + "/{id}/pause", pause_job, methods=["POST"]),
    Route(_JOBS + "/{id}/resume", resume_job, methods=["POST"]),
    Route(_JOBS + "/{id}/events", list_events),
    Route(_JOBS + "/{id}/checkpoints", list_checkpoints),
]
