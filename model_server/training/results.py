"""The steps of a job: some of them become metrics events, all of them go into the results file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ..engines.base import Step
from ..store import Store

COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
MAX_METRICS_EVENTS = 200


class StepLog:
    """Collects the steps for the CSV; every k-th step and every validation becomes an event."""

    def __init__(self, store: Store, job: str) -> None:
        self._store = store
        self._job = job
        self._steps: list[Step] = []

    @property
    def last(self) -> Step:
        """The newest step."""
        return self._steps[-1]

    def add(self, step: Step) -> None:
        """Keeps a step, and adds an event if it is one of those to be reported."""
        self._steps.append(step)
        every = -(-step.total // MAX_METRICS_EVENTS)
        if step.number % every == 0 or step.number in (1, step.total) or step.valid_loss is not None:
            self._store.add_event(self._job, _sentence(step), data=_data(step), step=step.number)

    @property
    def steps(self) -> Sequence[Step]:
        """All steps so far."""
        return self._steps

    def write(self, path: Path) -> int:
        """Writes the results CSV (blank where nothing was measured); returns its size in bytes."""
        with path.open("w", encoding="utf-8", newline="") as place:
            table = csv.writer(place, lineterminator="\n")
            table.writerow(COLUMNS)
            for step in self._steps:
                measured = (step.train_loss, step.train_accuracy, step.valid_loss, step.valid_accuracy)
                table.writerow(
                    [step.number, *("" if value is None else f"{value:.5f}" for value in measured)]
                )
        return path.stat().st_size

    def metrics(self) -> dict[str, float | int]:
        """The last step's figures, with the last validation's, for the checkpoint."""
        validated = [step for step in self._steps if step.valid_loss is not None]
        figures = _data(self.last) | (_valid(validated[-1]) if validated else {})
        kept = ("step", "train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy")
        return {name: value for name in kept if isinstance(value := figures.get(name), int | float)}


def _sentence(step: Step) -> str:
    sample = (
        "" if step.in_sample is None else ", in-sample" if step.in_sample else ", predicted before counted"
    )
    text = (
        f"Step {step.number}/{step.total} (epoch {step.epoch}{sample}): training loss={step.train_loss:.2f}"
    )
    return text if step.valid_loss is None else f"{text}, validation loss={step.valid_loss:.2f}"


def _data(step: Step) -> dict[str, float | int | str | None]:
    return {
        "step": step.number,
        "total_steps": step.total,
        "epoch": step.epoch,
        **_sample(step),
        "train_loss": round(step.train_loss, 5),
        "train_mean_token_accuracy": round(step.train_accuracy, 5),
        **_valid(step),
    }


def _sample(step: Step) -> dict[str, float | int | str | None]:
    if step.in_sample is None:
        return {}
    return {"train_sample": "in-sample" if step.in_sample else "predicted-before-counted"}


def _valid(step: Step) -> dict[str, float | int | str | None]:
    if step.valid_loss is None or step.valid_accuracy is None:
        return {"valid_loss": None, "valid_mean_token_accuracy": None}
    return {
        "valid_loss": round(step.valid_loss, 5),
        "valid_mean_token_accuracy": round(step.valid_accuracy, 5),
    }
