"""The job's side of a LoRA training: starts `accelerate launch`, and reports what the training processes write.

    worker.py ──► train() ──► accelerate launch ──► training_process.py (one process per device)
                    ▲   order.json, and a pipe whose end means: end at once    │
                    └─────────────── progress-<fence>.jsonl ◄─────────────────┘

This process does not import torch. progress.py describes the progress file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...atomic_files import atomic_replacement
from ...disk import DiskFull, has_space, says_full
from ..base import Report, Trained, TrainingFault, TrainingStopped, TrainOrder
from .progress import ProgressReader

_ROOT = Path(__file__).resolve().parents[3]
_CHECK_SECONDS = 0.2
_SECONDS_TO_SAVE = 25.0
_SECONDS_TO_END = 3.0
_MAX_LOG_CHARACTERS = 4000

_UNFINISHED_FILES = (
    *("order.json", "*.safetensors", "*.new", "progress-*.jsonl", "parent*"),
    *("training-*.log", "trainee-*.log"),  # the latter was the log's name in earlier versions
)


def train(order: TrainOrder, report: Report) -> Trained:
    """Trains an adapter into the folder `order.target`, from the saved state of a killed training if there is one."""
    folder = order.target
    folder.mkdir(parents=True, exist_ok=True)
    _write_order(order, folder)
    progress = ProgressReader(order, report)
    log = folder / f"training-{order.fence}.log"
    with log.open("wb") as output, _launch(order, folder, output) as launched:
        try:
            while launched.poll() is None:
                progress.read_new()
                order.watch()
                time.sleep(_CHECK_SECONDS)
        except TrainingStopped:
            _ask_to_save(launched)
            raise
        finally:
            _end(launched)
    progress.read_new()
    if progress.trained is None:
        raise progress.fault or _disk_full(folder, log) or _unexpected_end(launched.returncode, log)
    return progress.trained


def _write_order(order: TrainOrder, folder: Path) -> None:
    """Writes what the training processes need; copies a parent adapter, as it may be deleted during the training."""
    parent = folder / "parent"
    if order.parent and not parent.exists():
        with atomic_replacement(parent) as copy:
            shutil.copytree(order.parent, copy)
    names = ("n_epochs", "batch_size", "learning_rate_multiplier", "seed", "method", "beta", "fence")
    given = {name: getattr(order, name) for name in names}
    given |= {"base": str(order.base), "parent": str(parent) if order.parent else None}
    given |= {"options": dict(order.options), "folder": str(folder)}
    given["training"] = [asdict(example) for example in order.training]
    given["validation"] = [asdict(example) for example in order.validation]
    with atomic_replacement(folder / "order.json") as file:
        file.write_text(json.dumps(given, ensure_ascii=False), "utf-8")


def launcher(options: Mapping[str, Any]) -> list[str]:
    """The command that starts the training process once for each device."""
    config = options.get("accelerate_config")
    return [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *(["--config_file", config] if config else []),
    ]


def threads(options: Mapping[str, Any]) -> dict[str, str]:
    """One thread per core for the single process: accelerate would give it one thread (`OMP_NUM_THREADS` overrides).

    With an accelerate configuration there may be several processes, so accelerate's own default stays.
    """
    return {} if options.get("accelerate_config") else {"OMP_NUM_THREADS": str(_cores())}


def _cores() -> int:
    """The physical cores that this process may run on."""
    import psutil  # a dependency of accelerate, so it is missing where the engine is not installed

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or 1, allowed))


def _launch(order: TrainOrder, folder: Path, output: Any) -> subprocess.Popen[bytes]:
    command = [
        *launcher(order.options),
        "-m",
        "model_server.engines.lora.training_process",
        str(folder / "order.json"),
    ]
    offline = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    environment = threads(order.options) | os.environ | offline
    return subprocess.Popen(  # noqa: S603 - our own words and paths
        command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
    )


def _ask_to_save(launched: subprocess.Popen[bytes]) -> None:
    assert launched.stdin is not None
    try:
        launched.stdin.write(b"stop\n")
        launched.stdin.flush()
        launched.wait(_SECONDS_TO_SAVE)
    except (BrokenPipeError, subprocess.TimeoutExpired):
        return  # it has ended or is too slow: the training will go on from the state that it saved last


def _end(launched: subprocess.Popen[bytes]) -> None:
    """Closes the pipe, upon which every training process ends; kills the launcher if it does not end in time."""
    assert launched.stdin is not None
    launched.stdin.close()
    try:
        launched.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        launched.kill()
        launched.wait()


def _disk_full(folder: Path, log: Path) -> DiskFull | None:
    """The error to raise if the disk was full; the log may not say so, as it is on the same disk."""
    said = says_full(log.read_text("utf-8", errors="replace"))
    return DiskFull() if said or not has_space(folder) else None


def _unexpected_end(code: int, log: Path) -> TrainingFault:
    """The fault of a training that ended without a fault line: killed by the system, or ended by an error of ours."""
    said = log.read_text("utf-8", errors="replace")[-_MAX_LOG_CHARACTERS:]
    if code == -9 or "SIGKILL" in said or "exitcode: -9" in said or "exitcode  : -9" in said:
        return TrainingFault(
            "The training process was killed (signal 9), which the system does when memory runs out. Choose a smaller"
            " base model, shorten the longest lines, or start the server with a smaller --micro-batch-tokens.",
            code="out_of_memory",
        )
    lines = [line for line in said.splitlines() if line.strip()]
    last = next(
        (line for line in reversed(lines) if "Error" in line and "CalledProcessError" not in line), ""
    )
    return TrainingFault(f"The training process ended unexpectedly (exit code {code}). {last}"[:500].strip())


def remove_unfinished_files(folder: Path) -> None:
    """Removes from an ended job's folder what only an unfinished training needs; the checkpoints stay."""
    for pattern in _UNFINISHED_FILES:
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
