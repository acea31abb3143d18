"""The progress file of a training: the training process appends to it, the job's process reads it and reports.

One JSON object a line, told apart by `kind`:

    {"kind": "begin", "step": 0, "total": 72, "notes": […]}      `step` is that of the saved state, 0 without one
    {"kind": "step", "number": 1, "total": 72, "epoch": 1, "train_loss": …}     the fields of `Step`
    {"kind": "checkpoint", "step": 3, "path": "step-3"}
    {"kind": "fault", "message": …, "code": …}
    {"kind": "done", "tokens": …, "path": "step-72", "frequencies": …}

Each start of a job has a fence of its own, and so a file of its own. The files of earlier starts stay until the job
ends: a training that goes on reports their steps again, up to the step of the saved state.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..base import Report, Step, Trained, TrainingFault, TrainOrder

Line = dict[str, Any]


def progress_path(folder: Path, fence: int) -> Path:
    """The progress file of the start number `fence` of the job with this folder."""
    return folder / f"progress-{fence}.jsonl"


class ProgressLog:
    """Appends to the progress file; of several training processes only the first one writes."""

    def __init__(self, folder: Path, fence: int) -> None:
        self._path = progress_path(folder, fence)

    def write(self, kind: str, **facts: Any) -> None:
        """Appends one line with a single write, so that a reader never sees two halves of different lines."""
        if int(os.environ.get("RANK", "0")) == 0:
            line = json.dumps({"kind": kind} | facts, ensure_ascii=False) + "\n"
            with self._path.open("ab") as file:
                file.write(line.encode())


class ProgressReader:
    """Reads the lines as they are written, and reports them to the job.

    `trained` is set when the training is done, `fault` when it cannot be done.
    """

    def __init__(self, order: TrainOrder, report: Report) -> None:
        self._order = order
        self._report = report
        self._path = progress_path(order.target, order.fence)
        self._path.unlink(missing_ok=True)
        self._offset = 0
        self.trained: Trained | None = None
        self.fault: TrainingFault | None = None

    def read_new(self) -> None:
        """Reports every line that was completed since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            lines.seek(self._offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._handle(json.loads(line))

    def _handle(self, line: Line) -> None:
        match line["kind"]:
            case "begin":
                self._begin(line)
            case "step":
                self._report(_step(line))
            case "checkpoint":
                self._order.checkpoint(line["step"], self._model_path(line))
            case "fault":
                self.fault = TrainingFault(line["message"], code=line["code"])
            case "done":
                self.trained = Trained(
                    tokens=line["tokens"], path=self._model_path(line), unigram_loss=line["frequencies"]
                )

    def _model_path(self, line: Line) -> str:
        """The path of a saved adapter within the folder of models."""
        return f"{self._order.target.name}/{line['path']}"

    def _begin(self, line: Line) -> None:
        for sentence in line["notes"]:
            self._order.say(sentence)
        if line["step"]:
            self._order.say(f"Training goes on from step {line['step']} of {line['total']}.")
            earlier = {one["number"]: one for one in self._earlier_steps() if one["number"] <= line["step"]}
            for number in sorted(earlier):
                self._report(_step(earlier[number]))

    def _earlier_steps(self) -> Iterator[Line]:
        """The step lines of earlier starts of this job, oldest start first."""
        for fence in range(1, self._order.fence):
            path = progress_path(self._order.target, fence)
            for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
                if line.endswith(b"\n") and (row := json.loads(line))["kind"] == "step":
                    yield row


def _step(line: Line) -> Step:
    return Step(in_sample=None, **{name: value for name, value in line.items() if name != "kind"})
