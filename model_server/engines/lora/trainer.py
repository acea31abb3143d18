"""The training itself: batches, steps, validation, checkpoints, and going on from a saved state.

Everything random is drawn from the job's seed and the epoch or step alone, so a training that was stopped and gone on
with makes the same steps as one that was not.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model

from ..base import Example, TrainingFault
from .chat import BadChat, Language
from .loading import device_here, load_base
from .objectives import Figures, Lesson, Preferences, Texts
from .state import load_state, save_state

BASE_LEARNING_RATE = 1e-3  # at a multiplier of 1; the usual 0.2 makes 2e-4
_WARM_UP = 0.05
_SAVE_SECONDS = 60.0
_LONGEST_NORM = 1.0
_EVALUATIONS_PER_EPOCH = 2


class Stopped(Exception):
    """The training was asked to stop; its state is saved."""


class _Wish(Protocol):
    stop: bool


class Learning:
    """One job's training in one process of perhaps several."""

    def __init__(self, order: dict[str, Any], note: Callable[..., None], wish: _Wish) -> None:
        self._order = order
        self._note = note
        self._wish = wish
        self._folder = Path(order["folder"])
        self._accelerator = Accelerator()
        self._rank, self._world = self._accelerator.process_index, self._accelerator.num_processes
        self._language = Language(Path(order["base"]))
        self._model = self._new_model()
        self._lesson = self._new_lesson()
        self._validation = self._lesson.read(self._examples("validation"))
        self._training = self._lesson.read(self._examples("training"))
        self._per_epoch = math.ceil(len(self._training) / order["batch_size"])
        self._total = self._per_epoch * order["n_epochs"]
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """Trains to the end. Raises Stopped, or TrainingFault."""
        start = self._prepare()
        tokens = sum(self._lesson.size(one) for one in self._training) * self._order["n_epochs"]
        self._note("begin", step=start, total=self._total, notes=self._notes() if not start else [])
        for number in range(start + 1, self._total + 1):
            self._step(number)
        frequencies = self._lesson.frequencies(self._training)
        self._note("done", tokens=tokens, path=f"step-{self._total}", frequencies=frequencies)

    # making ready

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
        """`auto` by the device that will train, not by the one that the weights are first read to."""
        name: str = self._order["options"]["dtype"]
        return name if name != "auto" else "float32" if device_here().type == "cpu" else "bfloat16"

    def _new_lesson(self) -> Lesson:
        most = self._order["options"]["micro_batch_tokens"]
        if self._order["method"] == "dpo":
            return Preferences(
                self._encode, most, beta=self._order["beta"], file=self._folder / "reference.safetensors"
            )
        return Texts(self._encode, most)

    def _encode(self, example: Example, *, rejected: bool = False) -> Any:
        try:
            encoded = self._language.encode_rejected(example) if rejected else self._language.encode(example)
        except BadChat as error:
            raise TrainingFault(f"Line {example.line}: {error}", code="invalid_training_file") from None
        if len(encoded) > self._language.context:
            raise TrainingFault(
                f"Line {example.line} has {len(encoded):,} tokens, but this base model takes"
                f" {self._language.context:,}: shorten it.",
                code="invalid_training_file",
            )
        return encoded

    def _prepare(self) -> int:
        """The model on its device, the optimizer, and the step that a saved state has; 0 if there is none."""
        parameters = [one for one in self._model.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=BASE_LEARNING_RATE, weight_decay=0.0)
        self._model, self._optimizer = self._accelerator.prepare(self._model, optimizer)
        self._parameters = parameters
        self._lesson.prepare(self._plain(), self._accelerator.device, [*self._training, *self._validation])
        self._model.train()
        return load_state(self._folder / "state.safetensors", self._named(), self._optimizer)

    def _plain(self) -> Any:
        return self._accelerator.unwrap_model(self._model)

    def _named(self) -> dict[str, torch.Tensor]:
        return {name: one for name, one in self._plain().named_parameters() if one.requires_grad}

    def _notes(self) -> list[str]:
        count = sum(one.numel() for one in self._parameters)
        where = f"{self._world} × {self._accelerator.device.type}"
        where += f" (threads: {torch.get_num_threads()})" if where.endswith("cpu") else ""
        begun = "goes on from the parent's adapter" if self._order["parent"] else "begins with a new adapter"
        return [f"Training {begun}: {count:,} trainable parameters, {self._total:,} steps, on {where}."]

    # steps

    def _step(self, number: int) -> None:
        epoch = (number - 1) // self._per_epoch + 1
        torch.manual_seed(self._order["seed"] * 1_000_003 + number * self._world + self._rank)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(number)
        figures = self._learn(self._batch(number, epoch))
        stop = self._agree(figures)
        if not math.isfinite(figures.loss):
            raise TrainingFault(
                f"The loss is no number any more at step {number}: choose a smaller learning_rate_multiplier.",
                code="training_diverged",
            )
        at = time.time()
        valid = self._validate() if self._is_validation_due(number) else None
        self._note(
            "step",
            number=number,
            total=self._total,
            epoch=epoch,
            train_loss=figures.loss,
            train_accuracy=figures.accuracy,
            valid_loss=valid and valid.loss,
            valid_accuracy=valid and valid.accuracy,
            at=at,
        )
        self._keep(number, stop=stop)

    def _rate(self, number: int) -> float:
        """Warm up over the first twentieth of the steps, then fall to nothing in a straight line."""
        warm_up = max(1, round(self._total * _WARM_UP))
        share = min(number / warm_up, (self._total - number + 1) / max(1, self._total - warm_up + 1))
        return float(BASE_LEARNING_RATE * self._order["learning_rate_multiplier"] * share)

    def _batch(self, number: int, epoch: int) -> list[Any]:
        """The lines of a step, out of an order that is drawn anew for every epoch."""
        generator = torch.Generator().manual_seed(self._order["seed"] + epoch)
        drawn = torch.randperm(len(self._training), generator=generator).tolist()
        start = (number - 1) % self._per_epoch * self._order["batch_size"]
        return [self._training[at] for at in drawn[start : start + self._order["batch_size"]]]

    def _learn(self, batch: list[Any]) -> Figures:
        """One step of the optimizer on this process's share of a batch; the loss is the mean over the whole batch."""
        weight = self._lesson.weight(batch)
        figures = Figures()
        micro = list(self._lesson.split(batch[self._rank :: self._world] or batch[:1]))
        idle = self._rank >= len(batch)
        for at, part in enumerate(micro):
            last = at == len(micro) - 1
            with self._accelerator.no_sync(self._model) if not last else nullcontext():
                loss, found = self._lesson.loss(self._model, part, self._accelerator.device)
                self._accelerator.backward(loss * (0.0 if idle else self._world / weight))
            if not idle:
                figures.add(found)
        self._accelerator.clip_grad_norm_(self._parameters, _LONGEST_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return figures

    def _agree(self, figures: Figures) -> bool:
        """Sums the figures over all processes, and asks whether the first of them is to stop."""
        if self._world == 1:
            return self._wish.stop
        stop = float(self._wish.stop and self._rank == 0)
        sums = torch.tensor([*figures.sums(), stop], device=self._accelerator.device, dtype=torch.float64)
        total = self._accelerator.reduce(sums, reduction="sum").tolist()
        figures.replace(*total[:3])
        return bool(total[3])

    def _is_validation_due(self, number: int) -> bool:
        every = max(1, self._per_epoch // _EVALUATIONS_PER_EPOCH)
        return bool(self._validation) and (number % every == 0 or number == self._total)

    def _validate(self) -> Figures:
        """The whole validation file, each process its share."""
        figures = Figures()
        self._model.train(mode=False)
        with torch.no_grad():
            for part in self._lesson.split(self._validation[self._rank :: self._world]):
                figures.add(self._lesson.loss(self._plain(), part, self._accelerator.device)[1])
        self._model.train()
        self._agree(figures)
        return figures

    # what stays

    def _keep(self, number: int, *, stop: bool) -> None:
        """A checkpoint after each epoch, and the state to go on from: then, every minute, and when asked to stop."""
        epoch_ends = number % self._per_epoch == 0
        if self._rank == 0:
            if epoch_ends:
                self._save_adapter(number)
            if number < self._total and (
                epoch_ends or stop or time.monotonic() - self._saved_at > _SAVE_SECONDS
            ):
                save_state(self._folder / "state.safetensors", self._named(), self._optimizer, step=number)
                self._saved_at = time.monotonic()
            if epoch_ends and number < self._total:
                self._note("checkpoint", step=number, path=f"step-{number}")
        if stop and number < self._total:
            self._accelerator.wait_for_everyone()
            raise Stopped

    def _save_adapter(self, number: int) -> None:
        """Whole or not at all: written beside, then renamed."""
        place, new = self._folder / f"step-{number}", self._folder / f"step-{number}.new"
        shutil.rmtree(new, ignore_errors=True)
        self._plain().save_pretrained(new, safe_serialization=True, save_embedding_layers=False)
        (new / "README.md").unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(new, place)
