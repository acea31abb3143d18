"""/v1/files: uploads streamed to disk, and the results of jobs."""

from __future__ import annotations

import base64
import shutil
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ..clients import client_of, own_row
from ..database import new_id
from ..errors import invalid, not_found, too_large
from ..paging import page, read_page

PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "evals")
RESULTS = "fine-tune-results"
_FORM_OVERHEAD = 64 * 1024


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """A file as OpenAI shows it."""
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created_at"],
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": "processed",
        "status_details": None,
        "expires_at": None,
    }


async def create_file(request: Request) -> Response:
    """Takes a multipart upload of `file` and `purpose`."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise invalid(
            "Send the file as multipart/form-data with the fields 'file' and 'purpose'.", param="file"
        )
    limit = request.app.state.settings.max_file_bytes
    if int(request.headers.get("content-length") or 0) > limit + _FORM_OVERHEAD:
        raise too_large("file", limit)
    parser = MultiPartParser(request.headers, _limited(request, limit), max_files=1, max_fields=8)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError):
        raise invalid("The multipart body could not be read.") from None
    except ClientDisconnect:
        raise invalid("The upload was broken off.") from None
    try:
        row = await run_in_threadpool(_keep, request, *_fields(form, limit))
    finally:
        await form.close()
    return JSONResponse(shape(row))


def _fields(form: FormData, limit: int) -> tuple[UploadFile, str]:
    """The file and its purpose. Raises ApiError for what is missing or too much."""
    upload, purpose = form.get("file"), form.get("purpose")
    if not isinstance(upload, UploadFile):
        raise invalid("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    if purpose not in PURPOSES:
        raise invalid(f"'purpose' must be one of: {', '.join(PURPOSES)}.", param="purpose")
    if not upload.size:
        raise invalid("The file is empty.", param="file")
    if upload.size > limit:
        raise too_large("file", limit)
    return upload, str(purpose)


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body. Raises ApiError 413 as soon as it is longer than the limit, whatever Content-Length said."""
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit + _FORM_OVERHEAD:
            raise too_large("file", limit)
        yield chunk


def _keep(request: Request, upload: UploadFile, purpose: str) -> dict[str, Any]:
    """Writes the file first and its row second, so that no row lacks its file."""
    id = new_id("file")
    path, name = request.app.state.settings.files / id, Path(upload.filename or "upload").name[:255]
    try:
        with path.open("wb") as place:
            shutil.copyfileobj(upload.file, place, 1024 * 1024)
            size = place.tell()
        row: dict[str, Any] = request.app.state.store.add_file(
            id=id, filename=name, purpose=purpose, size=size, client=client_of(request)
        )
    except (OSError, sqlite3.Error):
        path.unlink(missing_ok=True)  # an incomplete file, or one without a row
        raise
    return row


def _row(request: Request) -> dict[str, Any]:
    id = request.path_params["id"]
    missing = not_found("File object", id, param="id")
    return own_row(request.app.state.store.file(id), request, missing=missing)


def list_files(request: Request) -> Response:
    """Files, newest first; `purpose`, `order`, `after` and `limit` as at OpenAI."""
    store = request.app.state.store
    after, limit = read_page(request, store, table="files", default=10_000, maximum=10_000)
    ascending = request.query_params.get("order", "desc") == "asc"
    purpose = request.query_params.get("purpose")
    rows = store.files(client_of(request), purpose=purpose, after=after, limit=limit + 1, ascending=ascending)
    return JSONResponse(page([shape(row) for row in rows], limit))


def retrieve_file(request: Request) -> Response:
    """One file's description."""
    return JSONResponse(shape(_row(request)))


def delete_file(request: Request) -> Response:
    """Deletes a file; a job that has opened it reads on."""
    row = _row(request)
    request.app.state.store.delete_file(row["id"])
    (request.app.state.settings.files / row["id"]).unlink(missing_ok=True)
    return JSONResponse({"id": row["id"], "object": "file", "deleted": True})


def retrieve_content(request: Request) -> Response:
    """The bytes; results are base64-encoded with --results-base64, as at OpenAI."""
    row = _row(request)
    path = request.app.state.settings.files / row["id"]
    if row["purpose"] == RESULTS and request.app.state.settings.results_base64:
        return Response(base64.b64encode(path.read_bytes()), media_type="text/plain")
    return FileResponse(path, media_type="application/octet-stream")


routes = [
    Route("/files", list_files),
    Route("/files", create_file, methods=["POST"]),
    Route("/files/{id}", retrieve_file),
    Route("/files/{id}", delete_file, methods=["DELETE"]),
    Route("/files/{id}/content", retrieve_content),
]
