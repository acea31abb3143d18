"""Paging of lists: `after`, `limit` and `has_more`."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from .errors import invalid
from .store import Store


def read_page(
    request: Request, store: Store, *, table: str, default: int, maximum: int
) -> tuple[int | None, int]:
    """(seq of the row named by `after` or None, limit). Raises ApiError 400 for an unknown `after` or a bad limit."""
    text = request.query_params.get("limit", str(default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= maximum:
        raise invalid(f"'limit' must be a whole number from 1 to {maximum}.", param="limit")
    after = request.query_params.get("after")
    if not after:
        return None, int(text)
    seq = store.seq(table, after)
    if seq is None:
        raise invalid(f"'after' names nothing in this list: {after[:200]!r}.", param="after")
    return seq, int(text)


def page(shapes: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A list object; `shapes` holds one more than `limit` when there is more."""
    data = shapes[:limit]
    return {
        "object": "list",
        "data": data,
        "has_more": len(shapes) > limit,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
