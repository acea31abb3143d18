"""The child process that answers one batch: checks its file, writes a story per line, leaves output and errors.

Started by runner.py with one JSON argument. It ends at once when a newer child has the batch or the server is gone;
a batch that is being cancelled ends after the line it is at, with what was written until then.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ..clients import UNNAMED_CLIENT
from ..disk import EXIT_DISK_FULL, is_full
from ..engines.base import Answering, Writer
from ..engines.lora.bases import base_of
from ..engines.registry import Registry
from ..errors import ApiError, invalid
from ..routes import chat, completions
from ..schemas import ChatRequest, CompletionRequest, parse
from ..settings import Settings
from ..store import new_id
from .store import BatchStore

ENDPOINTS: dict[str, Any] = {
    "/v1/chat/completions": (ChatRequest, chat.write),
    "/v1/completions": (CompletionRequest, completions.write),
}
MAX_LINES = 50_000
_CHECK_SECONDS = 0.2


class Gone(Exception):
    """The batch is no longer this child's to do."""


class BadInput(ValueError):
    """The input file cannot be used; `line` is its number."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class RequestCounts:
    """Lines so far, as `request_counts` shows them."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchWorker:
    """One batch, from its file to its end."""

    def __init__(
        self, settings: Settings, batch: str, fence: int, *, base_models: Sequence[str] = ()
    ) -> None:
        self._settings = settings
        self._base_models = base_models
        self._store = BatchStore(settings.database)
        self._registry = Registry(self._store, settings)
        self._id, self._fence = batch, fence
        self._parent = os.getppid()
        self._looked = 0.0
        self._cancelled = False
        self._client = UNNAMED_CLIENT
        self._counts = RequestCounts()

    def run(self) -> None:
        """Does the batch; a fault in its file ends it as failed."""
        row = self._store.batch(self._id)
        if row is None:
            return
        try:
            self._client = row["client"]
            self._answer(row, self._read(row))
        except BadInput as fault:
            error = {"code": "invalid_input", "message": str(fault), "line": fault.line, "param": None}
            listed = json.dumps({"object": "list", "data": [error]})
            self._store.change_batch(self._id, fence=self._fence, status="failed", errors=listed)
        except Gone:
            return

    def _read(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """The requests of the file, each with its own custom_id. Raises BadInput."""
        requests: dict[str, dict[str, Any]] = {}
        try:
            with (self._settings.files / row["input_file"]).open(encoding="utf-8-sig") as lines:
                for number, request in _requests(lines, endpoint=row["endpoint"]):
                    if request["custom_id"] in requests:
                        raise BadInput("The custom_id of this line was used before.", line=number)
                    requests[request["custom_id"]] = request
        except FileNotFoundError:
            raise BadInput("The input file was deleted before it could be read.") from None
        except UnicodeDecodeError:
            raise BadInput("The input file is not UTF-8 text.") from None
        if not requests:
            raise BadInput("The input file is empty.")
        if len(requests) > MAX_LINES:
            raise BadInput(f"The input file has more than {MAX_LINES:,} lines.")
        return list(requests.values())

    def _answer(self, row: dict[str, Any], requests: Sequence[dict[str, Any]]) -> None:
        self._counts.total = len(requests)
        self._store.change_batch(self._id, fence=self._fence, only=("validating",), status="in_progress")
        places = {name: self._settings.files / new_id("file") for name in ("output", "error")}
        try:
            self._fill(places, row, requests)
            self._finish(places)
        except (OSError, sqlite3.Error):
            for place in places.values():  # the batch begins again, with files of its own
                place.unlink(missing_ok=True)
            raise

    def _fill(self, places: dict[str, Path], row: dict[str, Any], requests: Sequence[dict[str, Any]]) -> None:
        with (
            places["output"].open("w", encoding="utf-8") as output,
            places["error"].open("w", encoding="utf-8") as errors,
        ):
            for request in requests:
                self._look()
                if self._cancelled:
                    break
                self._write(request, row["endpoint"], output=output, errors=errors)

    def _look(self) -> None:
        """Now and then: is the batch still ours, and wanted?"""
        if time.monotonic() - self._looked < _CHECK_SECONDS:
            return
        self._looked = time.monotonic()
        if os.getppid() != self._parent or not self._store.change_batch(
            self._id, fence=self._fence, **vars(self._counts)
        ):
            raise Gone
        row = self._store.batch(self._id)
        self._cancelled = row is None or row["status"] == "cancelling"

    def _write(self, request: dict[str, Any], endpoint: str, *, output: TextIO, errors: TextIO) -> None:
        schema, write = ENDPOINTS[endpoint]
        try:
            asked = parse(schema, request["body"])
            status, body = 200, write(asked, self._writer(asked.model))
        except ApiError as error:
            status, body = error.status, json.loads(bytes(error.response().body))
        line = {
            "id": new_id("batch_req"),
            "custom_id": request["custom_id"],
            "response": {"status_code": status, "request_id": new_id("req"), "body": body},
            "error": None,
        }
        (output if status == 200 else errors).write(json.dumps(line, ensure_ascii=False) + "\n")
        self._counts.completed += status == 200
        self._counts.failed += status != 200

    def _writer(self, model: str) -> Writer:
        """A built-in engine: the base of a LoRA model is in the server's memory, and not loaded twice."""
        if base_of(model) in self._base_models:
            message = f"The model {model[:200]} does not answer batches here: ask it directly."
            raise invalid(message, param="model", code="model_not_batched")
        writer = self._registry.writer(model, client=self._client)
        assert not isinstance(writer, Answering)
        return writer

    def _finish(self, places: dict[str, Path]) -> None:
        if not self._cancelled:
            only = ("validating", "in_progress")
            self._store.change_batch(self._id, fence=self._fence, only=only, status="finalizing")
        self._store.change_batch(
            self._id,
            fence=self._fence,
            status="cancelled" if self._cancelled else "completed",
            output_file=self._keep("output", places["output"]),
            error_file=self._keep("error", places["error"]),
            **vars(self._counts),
        )

    def _keep(self, name: str, place: Path) -> str | None:
        """Records a result file; an empty one is none."""
        if not place.stat().st_size:
            place.unlink()
            return None
        filename = f"{self._id}_{name}.jsonl"
        self._store.add_file(
            id=place.name,
            filename=filename,
            purpose="batch_output",
            size=place.stat().st_size,
            client=self._client,
        )
        return place.name


def _requests(lines: TextIO, *, endpoint: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            request = json.loads(line)
        except ValueError:
            raise BadInput("This line is not JSON.", line=number) from None
        if not isinstance(request, dict) or not isinstance(request.get("body"), dict):
            raise BadInput("This line has no body.", line=number)
        if not isinstance(request.get("custom_id"), str) or not request["custom_id"]:
            raise BadInput("This line has no custom_id.", line=number)
        if request.get("method") != "POST" or request.get("url") != endpoint:
            raise BadInput(f"Every line must be a POST to {endpoint}.", line=number)
        if request["body"].get("stream"):
            raise BadInput("A batch cannot stream.", line=number)
        yield number, request


def main(arguments: Sequence[str]) -> None:
    """Reads the one argument and works. Ctrl-C is the server's to answer: it ends its children itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    given = json.loads(arguments[0])
    settings = Settings(data=Path(given["data"]), mistake_rate=given["mistake_rate"])
    try:
        BatchWorker(settings, given["batch"], given["fence"], base_models=given["base_models"]).run()
    except Exception as error:
        if not is_full(error):
            raise
        sys.exit(EXIT_DISK_FULL)


if __name__ == "__main__":
    main(sys.argv[1:])
