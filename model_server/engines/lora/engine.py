"""The generating thread: one base model in memory at a time, its adapters swapped by request, several rows at once.

Orders are taken in turn. One for another base waits until the running rows have ended, and then the bases change; so do
the orders behind it, so that nobody waits for ever. More than `most_orders` running and waiting: 429.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ...errors import ApiError
from .batch import Batch
from .chat import Language
from .loading import device_here, load_base
from .sequence import Piece, Row

log = logging.getLogger("model_server")

_PREFILL_TOKENS = 8192


class Host:
    """Owns the thread and everything on the device. `submit` and `forget` may be called from any thread."""

    def __init__(
        self, bases: Mapping[str, Path], *, dtype: str = "auto", most_rows: int = 16, most_orders: int = 64
    ) -> None:
        self.bases = dict(bases)
        self.device = device_here()
        self._dtype = dtype
        self._most_rows = most_rows
        self._most_orders = most_orders
        self._languages: dict[str, Language] = {}
        self._waiting: deque[Row] = deque()
        self._forgotten: list[Path] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._loaded: str | None = None
        self._batch: Batch | None = None
        self._thread = threading.Thread(target=self._work, name="lora", daemon=True)

    def start(self) -> None:
        """Begins to work, with the first base model loaded ahead of the first order."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread at its next step."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def language(self, base: str) -> Language:
        """A base model's tokenizer and template; read once, blocks while it is."""
        if base not in self._languages:
            self._languages[base] = Language(self.bases[base])
        return self._languages[base]

    def submit(self, row: Row) -> None:
        """Takes an order. Raises ApiError 429 when there are too many."""
        with self._changed:
            rows = self._batch.rows if self._batch else []
            if len(self._waiting) + len(rows) >= self._most_orders:
                raise _too_many(self._most_orders)
            self._waiting.append(row)
            self._changed.notify()

    def forget(self, folder: Path) -> None:
        """Drops a deleted adapter from memory, once no row needs it."""
        with self._changed:
            self._forgotten.append(folder)
            self._changed.notify()

    # the thread

    def _work(self) -> None:
        first = next(iter(self.bases))
        try:
            self._change_base(first)
        except Exception:
            log.exception("the base model %s could not be loaded", first)
        while self._await_work():
            try:
                self._round()
            except Exception as error:
                log.exception("writing failed")
                self._fail_all(_sentence(error))

    def _await_work(self) -> bool:
        with self._changed:
            while not (self._waiting or (self._batch and self._batch.rows) or self._stopping):
                self._changed.wait()
            return not self._stopping

    def _round(self) -> None:
        if self._batch and self._batch.rows:
            self._batch.sweep()
        new = self._next_rows()
        if new:
            self._join(new)
        batch = self._batch
        if batch and batch.rows:
            batch.step()
            deliver(batch.rows)

    def _next_rows(self) -> list[Row]:
        """Orders that may join now, oldest first."""
        with self._changed:
            rows = self._batch.rows if self._batch else []
            busy_with = self._loaded if rows else None
            self._drop_forgotten({row.adapter for row in rows})
            new: list[Row] = []
            while self._waiting and len(rows) + len(new) < self._most_rows:
                head = self._waiting[0]
                size = max([len(head.prompt), *(len(row.prompt) for row in new)]) * (len(new) + 1)
                if head.base != (busy_with or head.base) or (new and size > _PREFILL_TOKENS):
                    break
                self._waiting.popleft()
                if not head.ended:
                    new.append(head)
                    busy_with = head.base
            return new

    def _drop_forgotten(self, needed: set[Path | None]) -> None:
        for folder in [folder for folder in self._forgotten if folder not in needed]:
            self._forgotten.remove(folder)
            if self._batch:
                self._batch.wardrobe.forget(folder)

    def _change_base(self, base: str) -> Batch:
        if self._batch and self._loaded == base:
            return self._batch
        self._batch, self._loaded = None, None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._batch = Batch(load_base(self.bases[base], device=self.device, dtype=self._dtype))
        self._loaded = base
        return self._batch

    def _join(self, new: list[Row]) -> None:
        try:
            batch = self._change_base(new[0].base)
            ready = [row for row in new if _dressed(row, batch)]
            if ready:
                batch.join(ready)
        except Exception as error:
            log.exception("new orders could not be begun")
            for row in new:
                row.fail(_sentence(error))
            self._fail_all(_sentence(error))
        deliver(new)

    def _fail_all(self, error: ApiError) -> None:
        """A fault in the midst of a batch leaves its cache unusable: every row of it ends."""
        if self._batch:
            for row in self._batch.rows:
                row.fail(error)
            deliver(self._batch.rows)
            self._batch.clear()


def _dressed(row: Row, batch: Batch) -> bool:
    """Whether the row's adapter is there; if not, the row has failed."""
    try:
        if row.adapter:
            batch.wardrobe.load(row.adapter)
    except Exception as error:
        log.exception("an adapter could not be loaded")
        row.fail(_sentence(error))
        return False
    return True


def deliver(rows: Sequence[Row]) -> None:
    """Hands what is in the rows' outboxes to their clients, in one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Row, list[Piece]]]] = {}
    for row in rows:
        if row.outbox:
            by_loop.setdefault(row.loop, []).append((row, row.outbox))
            row.outbox = []
    for loop, parcels in by_loop.items():
        try:
            loop.call_soon_threadsafe(_unpack, parcels)
        except RuntimeError:  # the server is going down and its loop is closed: nobody listens
            for row, _ in parcels:
                row.left = True


def _unpack(parcels: list[tuple[Row, list[Piece]]]) -> None:
    for row, pieces in parcels:
        for piece in pieces:
            row.pieces.put_nowait(piece)


def _sentence(error: Exception) -> ApiError:
    if isinstance(error, torch.OutOfMemoryError):
        message = (
            "The device ran out of memory while writing: ask for less at once, or start with fewer --rows."
        )
        return ApiError(503, message, kind="server_error", code="out_of_memory")
    return ApiError(500, f"The model failed while writing: {error}"[:300], kind="server_error")


def _too_many(limit: int) -> ApiError:
    return ApiError(
        429,
        f"Rate limit reached: {limit} requests are running or waiting. Please try again in 1s.",
        kind="requests",
        code="rate_limit_exceeded",
        headers={"Retry-After": "1", "retry-after-ms": "1000"},
    )
