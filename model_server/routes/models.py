"""GET and DELETE /v1/models: the base models and every model tuned here, checkpoints too."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..clients import client_of, own_row
from ..engines.registry import BASE_CREATED
from ..errors import ApiError, not_found
from ..store import remove_model


def _shape(id: str, created: int, owned_by: str) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": created, "owned_by": owned_by, "shutdown_date": None}


def list_models(request: Request) -> Response:
    """All models, the bases first."""
    bases = [_shape(name, BASE_CREATED, "model-server") for name in request.app.state.registry.bases]
    rows = request.app.state.store.models(client_of(request))
    tuned = [_shape(row["id"], row["created"], row["owned_by"]) for row in rows]
    return JSONResponse({"object": "list", "data": [*bases, *tuned]})


def _row(request: Request) -> dict[str, Any]:
    id = request.path_params["id"]
    missing = _unknown(id)
    return own_row(request.app.state.store.model(id), request, missing=missing)


def _unknown(id: str) -> ApiError:
    return not_found("model", id, param="model", code="model_not_found")


def retrieve_model(request: Request) -> Response:
    """One model."""
    id = request.path_params["id"]
    if id in request.app.state.registry.bases:
        return JSONResponse(_shape(id, BASE_CREATED, "model-server"))
    row = _row(request)
    return JSONResponse(_shape(row["id"], row["created"], row["owned_by"]))


def delete_model(request: Request) -> Response:
    """Deletes a tuned model and its files; a base model cannot be deleted."""
    id = request.path_params["id"]
    if id in request.app.state.registry.bases:
        raise ApiError(HTTPStatus.FORBIDDEN, "A base model cannot be deleted.", code="model_not_deletable")
    row = _row(request)
    if not request.app.state.store.delete_model(id):
        raise _unknown(id)
    request.app.state.registry.forget(id)
    request.app.state.registry.forget_folder(request.app.state.settings.models / row["path"])
    remove_model(request.app.state.settings.models, row)
    return JSONResponse({"id": id, "object": "model", "deleted": True})


routes = [
    Route("/models", list_models),
    Route("/models/{id:path}", retrieve_model),
    Route("/models/{id:path}", delete_model, methods=["DELETE"]),
]
