"""The child process of one batch: checks its file, answers each line, and leaves an output and an error file.

Started by runner.py with one JSON argument. It ends at once when it has lost its lease; a batch that is being cancelled
ends after the current line and keeps the answers so far.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TextIO

from ..child_processes import Lease, LeaseLost, run_child
from ..clients import UNNAMED_CLIENT
from ..database import new_id
from ..engines.base import Answering, Writer
from ..engines.lora.bases import base_of
from ..engines.registry import Registry
from ..errors import ApiError, invalid
from ..routes.chat import CHAT
from ..routes.completions import COMPLETIONS
from ..routes.text_endpoint import TextEndpoint
from ..schemas import parse
from ..settings import Settings
from .store import BatchStore

ENDPOINTS: dict[str, TextEndpoint[Any]] = {"/v1/chat/completions": CHAT, "/v1/completions": COMPLETIONS}
MAX_LINES = 50_000
_CHECK_SECONDS = 0.2


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
        self._lease = Lease(check_seconds=_CHECK_SECONDS)
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
        except LeaseLost:
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
            for place in places.values():  # the batch starts again with new files
                place.unlink(missing_ok=True)
            raise

    def _fill(self, places: dict[str, Path], row: dict[str, Any], requests: Sequence[dict[str, Any]]) -> None:
        with (
            places["output"].open("w", encoding="utf-8") as output,
            places["error"].open("w", encoding="utf-8") as errors,
        ):
            for request in requests:
                self._check()
                if self._cancelled:
                    break
                self._write(request, row["endpoint"], output=output, errors=errors)

    def _check(self) -> None:
        """Now and then writes the counts, and reads whether the batch is being cancelled. Raises LeaseLost."""
        if self._lease.is_due():
            counts = vars(self._counts)
            self._lease.check(lambda: self._store.change_batch(self._id, fence=self._fence, **counts))
            row = self._store.batch(self._id)
            self._cancelled = row is None or row["status"] == "cancelling"

    def _write(self, request: dict[str, Any], endpoint: str, *, output: TextIO, errors: TextIO) -> None:
        answering = ENDPOINTS[endpoint]
        try:
            asked = parse(answering.schema, request["body"])
            status, body = HTTPStatus.OK.value, answering.write(asked, self._writer(asked.model))
        except ApiError as error:
            status, body = error.status, json.loads(bytes(error.response().body))
        line = {
            "id": new_id("batch_req"),
            "custom_id": request["custom_id"],
            "response": {"status_code": status, "request_id": new_id("req"), "body": body},
            "error": None,
        }
        (output if status == HTTPStatus.OK else errors).write(json.dumps(line, ensure_ascii=False) + "\n")
        self._counts.completed += status == HTTPStatus.OK
        self._counts.failed += status != HTTPStatus.OK

    def _writer(self, model: str) -> Writer:
        """A built-in engine. LoRA models are refused: their base is in the server's memory, and is not loaded twice."""
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
        """Records a result file and returns its id; removes an empty file and returns None."""
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
    """Answers the batch that the argument describes."""
    run_child(arguments, _work)


def _work(given: dict[str, Any]) -> None:
    settings = Settings(data=Path(given["data"]), mistake_rate=given["mistake_rate"])
    BatchWorker(settings, given["batch"], given["fence"], base_models=given["base_models"]).run()


if __name__ == "__main__":
    main(sys.argv[1:])
