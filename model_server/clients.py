"""Clients and ownership: a key belongs to a client, and a client owns the files, jobs, batches and models it made.

A key is written `CLIENT:KEY`, or `KEY` alone for the client without a name. Several keys of one client have the same
rights, so that a key can be replaced. An object of another client is answered with 404, as if there were none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request

from .errors import ApiError

UNNAMED_CLIENT = ""  # the client of keys without a name, and of every request where no key is required


def read_keys(written: Iterable[str]) -> dict[str, str]:
    """Key → client, from the command line and the environment; empty words are ignored."""
    keys = {}
    for word in written:
        client, colon, key = word.strip().rpartition(":")
        if key:
            keys[key] = client if colon else UNNAMED_CLIENT
    return keys


def client_of(request: Request) -> str:
    """The client of the request's key, which AccessControl has checked."""
    client: str = request.state.client
    return client


def owned(row: Mapping[str, Any] | None, request: Request) -> bool:
    """Whether there is such a row and the requesting client owns it."""
    return row is not None and row["client"] == client_of(request)


def own_row(row: dict[str, Any] | None, request: Request, *, missing: ApiError) -> dict[str, Any]:
    """`row`. Raises `missing` if there is no row or another client owns it."""
    if row is None or not owned(row, request):
        raise missing
    return row
