"""The provider's batches; their states move when a test says so.

batch = provider.batches.only()
provider.batches.finish(batch["id"])                       every request answered
provider.batches.finish(batch["id"], "expired", answered=2)
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response

from tests.provider.jobs import Jobs

BATCHES = "/v1/batches"
TEXT = "宋朝的铸剑师和奥特曼一起打败了怪兽。"


@dataclass
class Batches:
    """`jobs` holds the files."""

    jobs: Jobs
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)

    def only(self) -> dict[str, Any]:
        """The one batch there is; fails if there are none or several."""
        (batch,) = self.batches.values()
        return batch

    def requests(self, batch_id: str) -> list[dict[str, Any]]:
        content = self.jobs.contents[self.batches[batch_id]["input_file_id"]]
        return [json.loads(line) for line in content.decode().splitlines()]

    def finish(
        self, batch_id: str, status: str = "completed", *, answered: int | None = None, refused: int = 0
    ) -> None:
        """The batch ends: the first `answered` requests with a text, the next `refused` with a 400."""
        requests = self.requests(batch_id)
        answered = len(requests) - refused if answered is None else answered
        output = [line(one, 200, body_of()) for one in requests[:answered]]
        error = {"error": {"message": "no such thing", "type": "invalid_request_error"}}
        errors = [line(one, 400, error) for one in requests[answered : answered + refused]]
        self.end(batch_id, status, output=output * 2, errors=errors)  # each line twice: it must not matter

    def end(self, batch_id: str, status: str, *, output: list[str], errors: list[str]) -> None:
        files = {
            name: self.jobs._store("\n".join(lines).encode(), {"filename": name, "purpose": "batch_output"})[
                "id"
            ]
            for name, lines in (("output_file_id", output), ("error_file_id", errors))
            if lines
        }
        self.batches[batch_id].update(status=status, **files)

    def answer(self, method: str, path: str, body: Any) -> Response:
        parts = path.removeprefix("/v1/").split("/")
        if path == BATCHES and method == "POST":
            return JSONResponse(self._create(body))
        if path == BATCHES:
            listed = list(reversed(self.batches.values()))
            return JSONResponse({"object": "list", "data": listed, "has_more": False})
        if parts[1] not in self.batches:
            return JSONResponse({"error": {"message": "no such batch", "code": None}}, status_code=404)
        if parts[-1] == "cancel":
            self.batches[parts[1]]["status"] = "cancelling"
        return JSONResponse(self.batches[parts[1]])

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        batch_id = f"batch_{len(self.batches) + 1}"
        self.batches[batch_id] = {
            "id": batch_id,
            "object": "batch",
            "status": "in_progress",
            "created_at": int(time.time()),
            **body,
        }
        return self.batches[batch_id]


def body_of(text: Any = TEXT, *, finish: Any = "stop", usage: Any = None) -> dict[str, Any]:
    """A whole answer; any value may be odd."""
    message = {"role": "assistant", "content": text}
    counted = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return {"choices": [choice], "usage": counted if usage is None else usage}


def line(request: dict[str, Any], status: Any, body: Any) -> str:
    """A line of a result file."""
    response = {"status_code": status, "request_id": "req", "body": body}
    return json.dumps(
        {"id": "batch_req", "custom_id": request["custom_id"], "response": response, "error": None}
    )
