"""The training loop of one training process: batches, steps, validation, checkpoints, and the saved state.

All random numbers depend on the job's seed and the number of the epoch or step alone, so a training that was stopped
and resumed makes the same steps as one that was not.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model

from ...atomic_files import atomic_replacement
from ..base import Example, TrainingFault, TrainingStopped
from .chat import BadChat, ChatTokenizer
from .loading import device_here, load_base
from .objectives import DpoObjective, Metrics, Objective, SupervisedObjective
from .state import load_state, save_state

BASE_LEARNING_RATE = 1e-3  # at a multiplier of 1; the usual 0.2 makes 2e-4
_WARM_UP = 0.05  # of all steps
_SAVE_SECONDS = 60.0
_MAX_GRADIENT_NORM = 1.0
_EVALUATIONS_PER_EPOCH = 2


class Trainer:
    """Trains one job. There is one trainer in each training process, and one process for each device.

    `log` takes the lines of the progress file (kind, facts); training stops at the step after `stop` is set.
    """

    def __init__(self, order: dict[str, Any], log: Callable[..., None], *, stop: threading.Event) -> None:
        self._order = order
        self._log = log
        self._stop = stop
        self._folder = Path(order["folder"])
        self._accelerator = Accelerator()
        self._rank, self._world = self._accelerator.process_index, self._accelerator.num_processes
        self._tokenizer = ChatTokenizer(Path(order["base"]))
        self._model = self._new_model()
        self._objective = self._new_objective()
        self._validation = self._objective.read(self._examples("validation"))
        self._training = self._objective.read(self._examples("training"))
        self._per_epoch = math.ceil(len(self._training) / order["batch_size"])
        self._total = self._per_epoch * order["n_epochs"]
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """Trains to the end. Raises TrainingStopped once the state is saved after a stop, or TrainingFault."""
        start = self._prepare()
        tokens = sum(self._objective.size(one) for one in self._training) * self._order["n_epochs"]
        notes = [] if start else [self._summary()]
        self._log("begin", step=start, total=self._total, notes=notes)
        for number in range(start + 1, self._total + 1):
            self._step(number)
        unigram_loss = self._objective.unigram_loss(self._training)
        self._log("done", tokens=tokens, path=f"step-{self._total}", frequencies=unigram_loss)

    # preparation

    def _examples(self, name: str) -> list[Example]:
        rows = self._order[name]
        return [Example(**row | {"messages": tuple(map(tuple, row["messages"]))}) for row in rows]

    def _new_model(self) -> Any:
        torch.manual_seed(self._order["seed"])
        base = load_base(Path(self._order["base"]), device=torch.device("cpu"), dtype=self._dtype_name())
        if self._order["parent"]:
            return PeftModel.from_pretrained(
                base, self._order["parent"], is_trainable=True, local_files_only=True
            )
        rank = self._order["options"]["rank"]
        config = LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        return get_peft_model(base, config)

    def _dtype_name(self) -> str:
        """The weights' type; `auto` depends on the device that will train, as weights are read to the CPU first."""
        name: str = self._order["options"]["dtype"]
        return name if name != "auto" else "float32" if device_here().type == "cpu" else "bfloat16"

    def _new_objective(self) -> Objective:
        max_tokens = self._order["options"]["micro_batch_tokens"]
        if self._order["method"] == "dpo":
            file = self._folder / "reference.safetensors"
            return DpoObjective(self._encode, max_tokens, beta=self._order["beta"], file=file)
        return SupervisedObjective(self._encode, max_tokens)

    def _encode(self, example: Example, *, rejected: bool = False) -> Any:
        try:
            encoded = (
                self._tokenizer.encode_rejected(example) if rejected else self._tokenizer.encode(example)
            )
        except BadChat as error:
            raise TrainingFault(f"Line {example.line}: {error}", code="invalid_training_file") from None
        if len(encoded) > self._tokenizer.context:
            raise TrainingFault(
                f"Line {example.line} has {len(encoded):,} tokens, but this base model takes"
                f" {self._tokenizer.context:,}: shorten it.",
                code="invalid_training_file",
            )
        return encoded

    def _prepare(self) -> int:
        """Moves the model to its device and makes the optimizer; returns the step of the saved state, 0 without one."""
        parameters = [one for one in self._model.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=BASE_LEARNING_RATE, weight_decay=0.0)
        self._model, self._optimizer = self._accelerator.prepare(self._model, optimizer)
        self._parameters = parameters
        self._objective.prepare(
            self._unwrapped(), self._accelerator.device, [*self._training, *self._validation]
        )
        self._model.train()
        return load_state(self._folder / "state.safetensors", self._adapter_weights(), self._optimizer)

    def _unwrapped(self) -> Any:
        return self._accelerator.unwrap_model(self._model)

    def _adapter_weights(self) -> dict[str, torch.Tensor]:
        return {name: one for name, one in self._unwrapped().named_parameters() if one.requires_grad}

    def _summary(self) -> str:
        count = sum(one.numel() for one in self._parameters)
        where = f"{self._world} × {self._accelerator.device.type}"
        where += f" (threads: {torch.get_num_threads()})" if where.endswith("cpu") else ""
        begun = "goes on from the parent's adapter" if self._order["parent"] else "begins with a new adapter"
        return f"Training {begun}: {count:,} trainable parameters, {self._total:,} steps, on {where}."

    # steps

    def _step(self, number: int) -> None:
        epoch = (number - 1) // self._per_epoch + 1
        torch.manual_seed(self._order["seed"] * 1_000_003 + number * self._world + self._rank)
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate(number)
        metrics = self._optimize(self._batch(number, epoch))
        stop = self._reduce(metrics)
        if not math.isfinite(metrics.loss):
            raise TrainingFault(
                f"The loss is no number any more at step {number}: choose a smaller learning_rate_multiplier.",
                code="training_diverged",
            )
        at = time.time()
        valid = self._validate() if self._is_validation_due(number) else None
        self._log(
            "step",
            number=number,
            total=self._total,
            epoch=epoch,
            train_loss=metrics.loss,
            train_accuracy=metrics.accuracy,
            valid_loss=valid and valid.loss,
            valid_accuracy=valid and valid.accuracy,
            at=at,
        )
        self._save(number, stop=stop)

    def _learning_rate(self, number: int) -> float:
        """Rises linearly over the first twentieth of the steps, then falls linearly to 0."""
        warm_up = max(1, round(self._total * _WARM_UP))
        share = min(number / warm_up, (self._total - number + 1) / max(1, self._total - warm_up + 1))
        return float(BASE_LEARNING_RATE * self._order["learning_rate_multiplier"] * share)

    def _batch(self, number: int, epoch: int) -> list[Any]:
        """The lines of a step; every epoch shuffles the lines anew."""
        generator = torch.Generator().manual_seed(self._order["seed"] + epoch)
        drawn = torch.randperm(len(self._training), generator=generator).tolist()
        start = (number - 1) % self._per_epoch * self._order["batch_size"]
        return [self._training[at] for at in drawn[start : start + self._order["batch_size"]]]

    def _optimize(self, batch: list[Any]) -> Metrics:
        """One step of the optimizer on this process's share of a batch; the loss is the mean over the whole batch."""
        weight = self._objective.weight(batch)
        metrics = Metrics()
        micro_batches = list(self._objective.split(batch[self._rank :: self._world] or batch[:1]))
        idle = self._rank >= len(batch)
        for at, part in enumerate(micro_batches):
            last = at == len(micro_batches) - 1
            with self._accelerator.no_sync(self._model) if not last else nullcontext():
                loss, found = self._objective.loss(self._model, part, self._accelerator.device)
                self._accelerator.backward(loss * (0.0 if idle else self._world / weight))
            if not idle:
                metrics.add(found)
        self._accelerator.clip_grad_norm_(self._parameters, _MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return metrics

    def _reduce(self, metrics: Metrics) -> bool:
        """Sums the metrics over all processes; returns whether the first process was asked to stop."""
        if self._world == 1:
            return self._stop.is_set()
        stop = float(self._stop.is_set() and self._rank == 0)
        sums = torch.tensor([*metrics.sums(), stop], device=self._accelerator.device, dtype=torch.float64)
        total = self._accelerator.reduce(sums, reduction="sum").tolist()
        metrics.replace(*total[:3])
        return bool(total[3])

    def _is_validation_due(self, number: int) -> bool:
        every = max(1, self._per_epoch // _EVALUATIONS_PER_EPOCH)
        return bool(self._validation) and (number % every == 0 or number == self._total)

    def _validate(self) -> Metrics:
        """Measures the whole validation file, of which each process takes its share."""
        metrics = Metrics()
        self._model.train(mode=False)
        with torch.no_grad():
            for part in self._objective.split(self._validation[self._rank :: self._world]):
                metrics.add(self._objective.loss(self._unwrapped(), part, self._accelerator.device)[1])
        self._model.train()
        self._reduce(metrics)
        return metrics

    # checkpoints

    def _save(self, number: int, *, stop: bool) -> None:
        """Saves a checkpoint after each epoch, and the state after each epoch, every minute, and before a stop."""
        epoch_ends = number % self._per_epoch == 0
        if self._rank == 0:
            if epoch_ends:
                self._save_adapter(number)
            if number < self._total and (
                epoch_ends or stop or time.monotonic() - self._saved_at > _SAVE_SECONDS
            ):
                save_state(
                    self._folder / "state.safetensors", self._adapter_weights(), self._optimizer, step=number
                )
                self._saved_at = time.monotonic()
            if epoch_ends and number < self._total:
                self._log("checkpoint", step=number, path=f"step-{number}")
        if stop and number < self._total:
            self._accelerator.wait_for_everyone()
            raise TrainingStopped

    def _save_adapter(self, number: int) -> None:
        with atomic_replacement(self._folder / f"step-{number}") as folder:
            self._unwrapped().save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)
