"""The engine: one thread that generates, one base model in memory at a time, several sequences in one batch.

Sequences are served first come, first served. One for another base model waits until the running batch has ended, and
then the engine loads that base; the sequences behind it wait too, so that none waits for ever. With more than
`max_requests` sequences running and waiting, further ones are refused with 429.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path

import torch

from ...errors import ApiError
from .batch import Batch
from .chat import ChatTokenizer
from .loading import device_here, load_base
from .sequence import Piece, Sequence

log = logging.getLogger("model_server")

_MAX_PREFILL_TOKENS = 8192


class Engine:
    """Owns the thread and everything on the device. `submit` and `forget` may be called from any thread."""

    def __init__(
        self,
        bases: Mapping[str, Path],
        *,
        dtype: str = "auto",
        max_sequences: int = 16,
        max_requests: int = 64,
    ) -> None:
        self.bases = dict(bases)
        self.device = device_here()
        self._dtype = dtype
        self._max_sequences = max_sequences
        self._max_requests = max_requests
        self._tokenizers: dict[str, ChatTokenizer] = {}
        self._waiting: deque[Sequence] = deque()
        self._deleted: list[Path] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._loaded: str | None = None
        self._batch: Batch | None = None
        self._thread = threading.Thread(target=self._run, name="lora", daemon=True)

    def start(self) -> None:
        """Starts the thread, which loads the first base model ahead of the first request."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread at its next step."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def tokenizer(self, base: str) -> ChatTokenizer:
        """A base model's tokenizer and template; the first call for a base reads files and blocks."""
        if base not in self._tokenizers:
            self._tokenizers[base] = ChatTokenizer(self.bases[base])
        return self._tokenizers[base]

    def submit(self, sequence: Sequence) -> None:
        """Queues a sequence. Raises ApiError 429 when there are too many."""
        with self._changed:
            running = self._batch.sequences if self._batch else []
            if len(self._waiting) + len(running) >= self._max_requests:
                raise _too_many(self._max_requests)
            self._waiting.append(sequence)
            self._changed.notify()

    def forget(self, folder: Path) -> None:
        """Drops a deleted adapter from memory, as soon as no running sequence uses it."""
        with self._changed:
            self._deleted.append(folder)
            self._changed.notify()

    # What follows runs in the engine's thread.

    def _run(self) -> None:
        first = next(iter(self.bases))
        try:
            self._load_base(first)
        except Exception:
            log.exception("the base model %s could not be loaded", first)
        while self._wait_for_work():
            try:
                self._step()
            except Exception as error:
                log.exception("writing failed")
                self._fail_batch(_api_error(error))

    def _wait_for_work(self) -> bool:
        """Blocks until there is a sequence to serve; False once the engine is to stop."""
        with self._changed:
            while not (self._waiting or (self._batch and self._batch.sequences) or self._stopping):
                self._changed.wait()
            return not self._stopping

    def _step(self) -> None:
        """Removes what has ended, admits what may join, and generates one token for every sequence."""
        if self._batch and self._batch.sequences:
            self._batch.sweep()
        admitted = self._next_sequences()
        if admitted:
            self._admit(admitted)
        batch = self._batch
        if batch and batch.sequences:
            batch.step()
            flush(batch.sequences)

    def _next_sequences(self) -> list[Sequence]:
        """Takes the waiting sequences that may join now, oldest first."""
        with self._changed:
            running = self._batch.sequences if self._batch else []
            base = self._loaded if running else None
            self._drop_deleted({sequence.adapter for sequence in running})
            admitted: list[Sequence] = []
            while self._waiting and len(running) + len(admitted) < self._max_sequences:
                head = self._waiting[0]
                longest = max([len(head.prompt), *(len(one.prompt) for one in admitted)])
                too_large = admitted and longest * (len(admitted) + 1) > _MAX_PREFILL_TOKENS
                if too_large or head.base != (base or head.base):
                    break
                self._waiting.popleft()
                if not head.ended:
                    admitted.append(head)
                    base = head.base
            return admitted

    def _drop_deleted(self, used: set[Path | None]) -> None:
        for folder in [folder for folder in self._deleted if folder not in used]:
            self._deleted.remove(folder)
            if self._batch:
                self._batch.adapters.forget(folder)

    def _load_base(self, base: str) -> Batch:
        """An empty batch of `base`, or the running one if it is of this base already."""
        if self._batch and self._loaded == base:
            return self._batch
        self._batch, self._loaded = None, None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._batch = Batch(load_base(self.bases[base], device=self.device, dtype=self._dtype))
        self._loaded = base
        return self._batch

    def _admit(self, admitted: list[Sequence]) -> None:
        try:
            batch = self._load_base(admitted[0].base)
            ready = [sequence for sequence in admitted if _load_adapter(sequence, batch)]
            if ready:
                batch.join(ready)
        except Exception as error:
            log.exception("new sequences could not be begun")
            for sequence in admitted:
                sequence.fail(_api_error(error))
            self._fail_batch(_api_error(error))
        flush(admitted)

    def _fail_batch(self, error: ApiError) -> None:
        """Ends every running sequence: an error in the middle of a step leaves the batch's cache unusable."""
        if self._batch:
            for sequence in self._batch.sequences:
                sequence.fail(error)
            flush(self._batch.sequences)
            self._batch.clear()


def _load_adapter(sequence: Sequence, batch: Batch) -> bool:
    """Loads the adapter that a sequence needs; on an error the sequence fails, and False is returned."""
    try:
        if sequence.adapter:
            batch.adapters.load(sequence.adapter)
    except Exception as error:
        log.exception("an adapter could not be loaded")
        sequence.fail(_api_error(error))
        return False
    return True


def flush(sequences: Iterable[Sequence]) -> None:
    """Moves the text in the outboxes to the clients' queues, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Sequence, list[Piece]]]] = {}
    for sequence in sequences:
        if sequence.outbox:
            by_loop.setdefault(sequence.loop, []).append((sequence, sequence.outbox))
            sequence.outbox = []
    for loop, outboxes in by_loop.items():
        try:
            loop.call_soon_threadsafe(_enqueue, outboxes)
        except RuntimeError:  # the server is stopping and its event loop is closed: no client is left
            for sequence, _ in outboxes:
                sequence.abandoned = True


def _enqueue(outboxes: list[tuple[Sequence, list[Piece]]]) -> None:
    for sequence, pieces in outboxes:
        for piece in pieces:
            sequence.pieces.put_nowait(piece)


def _api_error(error: Exception) -> ApiError:
    if isinstance(error, torch.OutOfMemoryError):
        return ApiError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The device ran out of memory while writing: ask for less at once, or start with fewer --rows.",
            kind="server_error",
            code="out_of_memory",
        )
    message = f"The model failed while writing: {error}"[:300]
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message, kind="server_error")


def _too_many(limit: int) -> ApiError:
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"Rate limit reached: {limit} requests are running or waiting. Please try again in 1s.",
        kind="requests",
        code="rate_limit_exceeded",
        headers={"Retry-After": "1", "retry-after-ms": "1000"},
    )
