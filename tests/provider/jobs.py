"""The provider's files and fine-tuning jobs; their states move when a test says so.

job = provider.jobs.only_job()
provider.jobs.advance(job["id"], "running")
provider.jobs.succeed(job["id"], results=b"step,train_loss\\n1,0.9\\n", base64=True)

Compatible servers differ:

provider.jobs.file_words = ["uploaded", "processed"]       a file's status at each look, the last one for ever
provider.jobs.refuse_create = lambda body: (400, "…")      a creation is refused with these words; None: it works
provider.jobs.list_events = lambda events: [*events]       given oldest first, as they are listed
provider.jobs.say_job = lambda job: job | {"status": "…"}  a job as it is shown
provider.jobs.missing = {"/cancel": 405}                   a page that ends so answers with that status
"""

import base64 as base64_codec
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response

FILES, JOBS, MODELS = "/v1/files", "/v1/fine_tuning/jobs", "/v1/models"


class Json(JSONResponse):
    """As many servers write it: NaN and Infinity go onto the wire."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


@dataclass
class Jobs:
    """`list_lag`: how many list calls pass before a new file or job shows in lists."""

    list_lag: int = 0
    honours_metadata_filter: bool = True
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    hidden: dict[str, int] = field(default_factory=dict)
    file_words: list[Any] = field(default_factory=lambda: ["processed"])
    refuse_create: Callable[[dict[str, Any]], tuple[int, str] | None] = lambda _body: None
    list_events: Callable[[list[Any]], list[Any]] = lambda events: list(reversed(events))
    say_job: Callable[[dict[str, Any]], dict[str, Any]] = lambda job: job
    missing: dict[str, int] = field(default_factory=dict)

    # --- what a test says

    def only_job(self) -> dict[str, Any]:
        """The one job there is; fails if there are none or several."""
        (job,) = self.jobs.values()
        return job

    def advance(self, job_id: str, status: str, **fields: Any) -> None:
        self.jobs[job_id].update(status=status, **fields)

    def add_event(self, job_id: str, message: str, *, level: str = "info", **data: Any) -> dict[str, Any]:
        """An event; with `data` (step=…, train_loss=…) one of type metrics."""
        events = self.events.setdefault(job_id, [])
        event = {
            "id": f"ftevent-{job_id}-{len(events)}",
            "object": "fine_tuning.job.event",
            "created_at": int(time.time()),
            "level": level,
            "message": message,
            "type": "metrics" if data else "message",
            "data": data or None,
        }
        events.append(event)
        return event

    def succeed(
        self,
        job_id: str,
        *,
        results: bytes = b"",
        base64: bool = False,
        model: str = "",
        trained_tokens: int = 1000,
    ) -> str:
        """The job succeeds; the tuned model's name."""
        job = self.jobs[job_id]
        name = model or f"ft:{job['model']}:org:{job['suffix'] or ''}:{len(self.jobs)}"
        content = base64_codec.b64encode(results) if base64 else results
        result = self._store(content, {"filename": "step_metrics.csv", "purpose": "fine-tune-results"})
        now = int(time.time())
        self.advance(
            job_id,
            "succeeded",
            fine_tuned_model=name,
            trained_tokens=trained_tokens,
            result_files=[result["id"]],
            finished_at=now,
        )
        return name

    def fail(self, job_id: str, message: str, *, code: str = "invalid_training_file") -> None:
        error = {"code": code, "message": message, "param": "training_file"}
        self.advance(job_id, "failed", error=error, finished_at=int(time.time()))

    # --- how it answers

    def answer(self, method: str, path: str, body: Any, query: dict[str, str]) -> Response:
        parts = path.removeprefix("/v1/").split("/")
        for end, status in self.missing.items():
            if path.endswith(end):
                return _not_found(path, status)
        if path == FILES:
            return self._create_file(body) if method == "POST" else self._list(self.files, query)
        if path == JOBS:
            return self._create_job(body) if method == "POST" else self._list(self.jobs, query)
        if path == MODELS:
            return JSONResponse({"object": "list", "data": []})
        if path.startswith(FILES) and parts[1] in self.files:
            if parts[-1] == "content":
                return Response(self.contents[parts[1]], media_type="application/octet-stream")
            return JSONResponse(self._show_file(self.files[parts[1]]))
        if path.startswith(JOBS) and parts[2] in self.jobs:
            return self._answer_job(parts[2], parts[3] if len(parts) > 3 else "", query)
        return _not_found(path)

    def _answer_job(self, job_id: str, part: str, query: dict[str, str]) -> Response:
        if part == "cancel":
            self.advance(job_id, "cancelled", finished_at=int(time.time()))
        if part == "events":
            return _page(self.list_events(self.events.get(job_id, [])), query)
        if part == "checkpoints":
            return _page([], query)
        return Json(self.say_job(self.jobs[job_id]))

    def _show_file(self, file: dict[str, Any]) -> dict[str, Any]:
        word = self.file_words.pop(0) if len(self.file_words) > 1 else self.file_words[0]
        return file | (word if isinstance(word, dict) else {"status": word})

    def _create_file(self, body: dict[str, Any]) -> Response:
        return JSONResponse(self._store(body["bytes"], body))

    def _store(self, content: bytes, body: dict[str, Any]) -> dict[str, Any]:
        file_id = f"file-{len(self.files) + 1}"
        self.contents[file_id] = content
        self.hidden[file_id] = self.list_lag
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": body["filename"],
            "purpose": body["purpose"],
            "status": "processed",
        }
        return self.files[file_id]

    def _create_job(self, body: dict[str, Any]) -> Response:
        if body.get("training_file") not in self.files:
            return _not_found(str(body.get("training_file")))
        if refused := self.refuse_create(body):
            status, message = refused
            return JSONResponse({"error": {"message": message, "type": "bad", "code": None}}, status)
        job_id = f"ftjob-{len(self.jobs) + 1}"
        method = body.get("method") or {}
        asked = (method.get("supervised") or {}).get("hyperparameters") or {}
        hyperparameters = {
            "n_epochs": "auto",
            "batch_size": "auto",
            "learning_rate_multiplier": "auto",
        } | asked
        self.hidden[job_id] = self.list_lag
        self.jobs[job_id] = {
            "id": job_id,
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
            "finished_at": None,
            "model": body["model"],
            "fine_tuned_model": None,
            "organization_id": "org-tests",
            "status": "validating_files",
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "result_files": [],
            "trained_tokens": None,
            "error": None,
            "seed": body.get("seed") or 0,
            "suffix": body.get("suffix"),
            "metadata": body.get("metadata") or {},
            "hyperparameters": hyperparameters,
            "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
            "estimated_finish": None,
            "integrations": [],
        }
        self.add_event(job_id, f"Created fine-tuning job: {job_id}")
        return JSONResponse(self.say_job(self.jobs[job_id]))

    def _list(self, objects: dict[str, dict[str, Any]], query: dict[str, str]) -> Response:
        shown = []
        for name, thing in reversed(objects.items()):
            if self.hidden[name] > 0:
                self.hidden[name] -= 1
            else:
                shown.append(thing)
        wanted = {
            name[len("metadata[") : -1]: value
            for name, value in query.items()
            if name.startswith("metadata[") and self.honours_metadata_filter
        }
        shown = [thing for thing in shown if wanted.items() <= thing.get("metadata", {}).items()]
        if query.get("purpose"):
            shown = [thing for thing in shown if thing.get("purpose") == query["purpose"]]
        return _page(shown, query)


def _page(items: list[dict[str, Any]], query: dict[str, str]) -> Response:
    ids = [item.get("id") if isinstance(item, dict) else None for item in items]
    start = ids.index(query["after"]) + 1 if "after" in query and query["after"] in ids else 0
    end = start + int(query.get("limit", 20))
    return Json({"object": "list", "data": items[start:end], "has_more": end < len(items)})


def _not_found(what: str, status: int = 404) -> Response:
    body = {
        "error": {"message": f"No such object: {what}", "type": "invalid_request_error", "code": "not_found"}
    }
    return JSONResponse(body, status_code=status)
