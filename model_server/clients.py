"""Whose what is: a key belongs to a client, and files, jobs, batches and tuned models belong to who made them.

A key is written `CLIENT:KEY`, or `KEY` alone for the client without a name. Several keys of one client see the
same things, so that a key can be replaced. What another client made is answered like what never was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request

UNNAMED_CLIENT = ""  # the client of keys without a name, and of everyone where no key is asked for


def read_keys(written: Iterable[str]) -> dict[str, str]:
    """Key → client, of the words of the command line and the environment; empty ones are left out."""
    keys = {}
    for word in written:
        client, colon, key = word.strip().rpartition(":")
        if key:
            keys[key] = client if colon else UNNAMED_CLIENT
    return keys


def client_of(request: Request) -> str:
    """The client whose key the request carried; the gate has seen to it that it is one."""
    client: str = request.state.client
    return client


def owned(row: Mapping[str, Any] | None, request: Request) -> bool:
    """Whether there is such a row and it is the asking client's."""
    return row is not None and row["client"] == client_of(request)
