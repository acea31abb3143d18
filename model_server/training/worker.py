"""The child process of one job: checks the files, trains, and leaves the model, the results and the events.

Started by runner.py with one JSON argument {data, job, fence, org, bases, options}. It ends at once when it has lost
its lease or when the job was cancelled; on SIGTERM the engine lora saves its state first. A fault in the data or on the
device fails the job with a sentence; any other error ends with exit code 1, upon which the runner fails the job.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..child_processes import Lease, LeaseLost, run_child
from ..database import new_id
from ..engines.base import Example, Step, Trained, TrainFunction, TrainingFault, TrainingStopped, TrainOrder
from ..engines.lora.bases import ENGINE as LORA
from ..engines.lora.bases import base_of
from ..engines.train_functions import train_function_for
from ..store import Store, remove_model
from . import curve
from .data import MIN_LINES, BadFile, count_tokens, read_examples
from .results import StepLog

_CHECK_SECONDS = 0.5
_CHECKPOINTS_KEPT = 3


@dataclass(frozen=True)
class TrainingTask:
    """The argument of the child."""

    data: Path
    job: str
    fence: int
    org: str
    bases: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


class TrainingWorker:
    """One job, from its files to its end."""

    def __init__(self, task: TrainingTask) -> None:
        self._task = task
        self._store = Store(task.data / "store.sqlite3")
        self._lease = Lease(check_seconds=_CHECK_SECONDS)
        self._began = time.time()
        self._first_step: int | None = None
        self._steps = StepLog(self._store, task.job)

    def run(self) -> None:
        """Does the job; a fault in its files ends it as failed."""
        job = self._store.job(self._task.job)
        if job is None:
            return
        try:
            engine, train = train_function_for(job["model"], self._task.bases)
            order = self._prepare(job, engine)
            self._train(job, order, engine, train)
        except BadFile as error:
            self._fail(str(error), "invalid_training_file")
        except TrainingFault as fault:
            self._fail(str(fault), fault.code)
        except (LeaseLost, TrainingStopped):
            return

    def _fail(self, message: str, code: str) -> None:
        param = "training_file" if code == "invalid_training_file" else None
        reason = json.dumps({"code": code, "message": message, "param": param})
        self._store.end_job(self._task.job, "failed", message, fence=self._task.fence, error=reason)

    def _prepare(self, job: dict[str, Any], engine: str) -> TrainOrder:
        """Reads and checks everything."""
        self._change(status="validating_files")
        training = self._read(job["training_file"], "training file", job["method"], minimum=MIN_LINES)
        validation = self._read(job["validation_file"], "validation file", job["method"], minimum=1)
        asked = json.loads(job["hyperparameters"])
        if engine == LORA:
            further = job["model"].startswith("ft:")
            chosen = resolve_lora(asked, lines=len(training), method=job["method"], further=further)
        else:
            chosen = resolve(asked, lines=len(training))
        self._change(hyperparameters=json.dumps(chosen))
        target = self._task.job if engine == LORA else f"{self._task.job}.json.gz"
        base = self._task.bases.get(base_of(job["model"]))
        return TrainOrder(
            training=training,
            validation=validation,
            parent=self._parent_model(job["model"]),
            target=self._task.data / "models" / target,
            seed=job["seed"],
            base=Path(base) if base else None,
            method=job["method"],
            fence=self._task.fence,
            options=self._task.options,
            watch=self._change,
            checkpoint=lambda step, path: self._keep_checkpoint(job, step, path),
            say=self._say,
            **chosen,
        )

    def _read(self, file: str | None, what: str, method: str, *, minimum: int) -> list[Example]:
        if file is None:
            return []
        try:
            return read_examples(self._task.data / "files" / file, minimum=minimum, method=method)
        except BadFile as error:
            raise BadFile(f"The {what} {file} cannot be used. {error}") from None

    def _parent_model(self, model: str) -> Path | None:
        if not model.startswith("ft:"):
            return None
        row = self._store.model(model)
        if row is None:
            raise BadFile(f"The model {model} that was to be trained further has been deleted.")
        return self._task.data / "models" / str(row["path"])

    def _train(self, job: dict[str, Any], order: TrainOrder, engine: str, train: TrainFunction) -> None:
        self._change(status="running")
        lines = f"{len(order.training)} training and {len(order.validation)} validation examples"
        self._say(f"Files validated: {lines}. Training has started.")
        trained = train(order, self._step)
        for note in trained.notes:
            self._say(note)
        self._warn(order, trained)
        self._finish(job, order, engine=engine, trained=trained)

    def _step(self, step: Step) -> None:
        if self._lease.is_due():
            self._first_step = self._first_step or step.number
            rate = (time.time() - self._began) / (step.number - self._first_step + 1)
            self._change(estimated_finish=int(time.time() + rate * (step.total - step.number)) + 1)
        self._steps.add(step)

    def _change(self, **values: Any) -> None:
        """Writes to the job; without values it only reads. Raises LeaseLost."""
        job, fence = self._task.job, self._task.fence
        if values:
            self._lease.check(lambda: self._store.change_job(job, fence=fence, **values))
        else:
            self._lease.check(lambda: self._store.is_active(job, fence=fence))

    def _say(self, message: str, *, level: str = "info") -> None:
        self._store.add_event(self._task.job, message, level=level)

    def _warn(self, order: TrainOrder, trained: Trained) -> None:
        """Adds an event if the losses show that nothing was learnt; the model is kept all the same."""
        multiplier = order.learning_rate_multiplier
        sentence = curve.warning(self._steps.steps, multiplier=multiplier, unigram_loss=trained.unigram_loss)
        if sentence:
            self._say(sentence, level="warn")

    def _keep_checkpoint(self, job: dict[str, Any], step: int, path: str) -> None:
        """Records a checkpoint, which can be used as a model; the last three of a job are kept."""
        self._change(tries=0)
        name = f"{model_name(job, org=self._task.org)}:ckpt-step-{step}"
        owner = f"organization-{self._task.org}"
        self._store.add_model(job, id=name, engine=LORA, path=path, owned_by=owner)
        self._store.add_checkpoint(job["id"], step=step, model=name, metrics=self._steps.metrics())
        self._drop_old_checkpoints()
        self._say(f"Checkpoint created at step {step}: {name}")

    def _drop_old_checkpoints(self) -> None:
        for row in self._store.drop_checkpoints(self._task.job, keep=_CHECKPOINTS_KEPT):
            remove_model(self._task.data / "models", row)

    def _finish(self, job: dict[str, Any], order: TrainOrder, *, engine: str, trained: Trained) -> None:
        result = new_id("file")
        size = self._steps.write(self._task.data / "files" / result)
        name = model_name(job, org=self._task.org)
        epoch = count_tokens(order.training)
        self._change(trained_tokens=epoch * order.n_epochs if trained.tokens is None else trained.tokens)
        owner = f"organization-{self._task.org}"
        path = trained.path or order.target.name
        purpose, client = "fine-tune-results", job["client"]
        self._store.add_file(
            id=result, filename="step_metrics.csv", purpose=purpose, size=size, client=client
        )
        self._store.add_model(job, id=name, engine=engine, path=path, owned_by=owner)
        last = self._steps.last
        self._store.add_checkpoint(job["id"], step=last.number, model=name, metrics=self._steps.metrics())
        if engine == LORA:
            self._drop_old_checkpoints()
        self._say(f"New fine-tuned model created: {name}")
        ended = self._store.end_job(
            job["id"],
            "succeeded",
            "The job has successfully completed.",
            fence=self._task.fence,
            fine_tuned_model=name,
            result_file=result,
        )
        if not ended:
            self._store.delete_model(name)
            self._store.delete_file(result)
            raise LeaseLost


def resolve(asked: dict[str, Any], *, lines: int) -> dict[str, Any]:
    """Numbers for "auto": epochs 4 up to 1,000 lines, 3 up to 5,000, else 2; batch 0.2 % of lines; multiplier 0.2."""
    auto = {
        "n_epochs": 4 if lines <= 1000 else 3 if lines <= 5000 else 2,
        "batch_size": min(256, max(1, round(lines * 0.002))),
        "learning_rate_multiplier": 0.2,
    }
    return {name: auto[name] if asked.get(name, "auto") == "auto" else asked[name] for name in auto}


def resolve_lora(asked: dict[str, Any], *, lines: int, method: str, further: bool) -> dict[str, Any]:
    """Numbers for "auto", as in the README: fewer epochs for many lines, smaller steps for a tuned model."""
    dpo = method == "dpo"
    auto: dict[str, Any] = {
        "n_epochs": 2 if dpo else 3 if lines <= 1000 else 2 if lines <= 10_000 else 1,
        "batch_size": min(16, max(1, round(lines * 0.01))),
        "learning_rate_multiplier": 0.02 if dpo else 0.1 if further else 0.2,
    }
    if dpo:
        auto["beta"] = 0.1
    return {name: auto[name] if asked.get(name, "auto") == "auto" else asked[name] for name in auto}


def model_name(job: Mapping[str, Any], *, org: str) -> str:
    """`ft:<base>:<org>:<suffix>:<8 signs>`; a child of a tuned model keeps the base, and the suffix if given none.

    The signs come from the job's id, so that a job that starts again makes the same name.
    """
    model, suffix = job["model"], job["suffix"]
    parts = model.split(":")
    base = parts[1] if parts[0] == "ft" else model
    inherited = parts[3] if parts[0] == "ft" and len(parts) > 4 else ""
    return f"ft:{base}:{org}:{suffix or inherited}:{job['id'][-8:]}"


def main(arguments: Sequence[str]) -> None:
    """Does the job that the argument describes."""
    run_child(arguments, _work)


def _work(given: dict[str, Any]) -> None:
    if given["bases"]:
        signal.signal(signal.SIGTERM, _stop)  # only lora can save a state
    TrainingWorker(TrainingTask(**given | {"data": Path(given["data"])})).run()


def _stop(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise TrainingStopped


if __name__ == "__main__":
    main(sys.argv[1:])
