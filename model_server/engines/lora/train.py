"""The training child's side of a LoRA job: starts `accelerate launch`, and tells what the trainee writes down.

    worker.py ──► train() ──► accelerate launch ──► trainee.py (one process per device)
                    ▲   order.json, and a pipe whose end means: stop   │
                    └────────── progress-<fence>.jsonl ◄───────────────┘

No torch in this process. The trainee appends a line per step, checkpoint and fault; what an earlier, killed trainee
wrote is read again up to the step that its last saved state has, so that the results file is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...disk import NoRoom, has_room, says_full
from ..base import Report, Step, Stopping, Trained, TrainingFault, TrainOrder

_ROOT = Path(__file__).resolve().parents[3]
_LOOK_SECONDS = 0.2
_SECONDS_TO_SAVE = 25.0
_SECONDS_TO_END = 3.0
_MOST_LOG = 4000

Line = dict[str, Any]


def train(order: TrainOrder, report: Report) -> Trained:
    """Trains an adapter into the folder `order.target`; what a killed training left there is gone on with."""
    folder = order.target
    folder.mkdir(parents=True, exist_ok=True)
    _write_order(order, folder)
    told = _Telling(order, report)
    log = folder / f"trainee-{order.fence}.log"
    with log.open("wb") as output, _launch(order, folder, output) as trainee:
        try:
            while trainee.poll() is None:
                told.catch_up()
                order.watch()
                time.sleep(_LOOK_SECONDS)
        except Stopping:
            _ask_to_save(trainee)
            raise
        finally:
            _end(trainee)
    told.catch_up()
    if told.trained is None:
        raise told.fault or _no_room(folder, log) or _unexpected(trainee.returncode, log)
    return told.trained


def _write_order(order: TrainOrder, folder: Path) -> None:
    """What the trainee needs, in the job's folder; a parent adapter is copied, for it may be deleted meanwhile."""
    parent = folder / "parent"
    if order.parent and not parent.exists():
        shutil.copytree(order.parent, folder / "parent.new", dirs_exist_ok=True)
        (folder / "parent.new").rename(parent)
    names = ("n_epochs", "batch_size", "learning_rate_multiplier", "seed", "method", "beta", "fence")
    given = {name: getattr(order, name) for name in names}
    given |= {"base": str(order.base), "parent": str(parent) if order.parent else None}
    given |= {"options": dict(order.options), "folder": str(folder)}
    given["training"] = [asdict(example) for example in order.training]
    given["validation"] = [asdict(example) for example in order.validation]
    (folder / "order.json").write_text(json.dumps(given, ensure_ascii=False), "utf-8")


def launcher(options: Mapping[str, Any]) -> list[str]:
    """What starts the trainee once for each device."""
    config = options.get("accelerate_config")
    return [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *(["--config_file", config] if config else []),
    ]


def threads(options: Mapping[str, Any]) -> dict[str, str]:
    """As many threads as the one process has cores: accelerate would give it one (`OMP_NUM_THREADS` overrides).

    With a configuration of accelerate's own, how many processes share the cores is its business.
    """
    return {} if options.get("accelerate_config") else {"OMP_NUM_THREADS": str(_cores())}


def _cores() -> int:
    """Real cores that this process may run on."""
    import psutil  # comes with accelerate: not there without the engine

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


def _ask_to_save(trainee: subprocess.Popen[bytes]) -> None:
    assert trainee.stdin is not None
    try:
        trainee.stdin.write(b"stop\n")
        trainee.stdin.flush()
        trainee.wait(_SECONDS_TO_SAVE)
    except (BrokenPipeError, subprocess.TimeoutExpired):
        return  # it is gone, or too slow: what it saved last is what there is


def _end(trainee: subprocess.Popen[bytes]) -> None:
    """Closes the pipe, which ends every process of the trainee; then makes sure."""
    assert trainee.stdin is not None
    trainee.stdin.close()
    try:
        trainee.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        trainee.kill()
        trainee.wait()


class _Telling:
    """Reads the trainee's lines as they come, and tells the job of them."""

    def __init__(self, order: TrainOrder, report: Report) -> None:
        self._order = order
        self._report = report
        self._path = order.target / f"progress-{order.fence}.jsonl"
        self._path.unlink(missing_ok=True)
        self._read = 0
        self.trained: Trained | None = None
        self.fault: TrainingFault | None = None

    def catch_up(self) -> None:
        """Tells of all lines that were written whole since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            lines.seek(self._read)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._tell(json.loads(line))

    def _tell(self, line: Line) -> None:
        match line["kind"]:
            case "begin":
                self._begin(line)
            case "step":
                self._report(_step(line))
            case "checkpoint":
                self._order.checkpoint(line["step"], f"{self._order.target.name}/{line['path']}")
            case "fault":
                self.fault = TrainingFault(line["message"], code=line["code"])
            case "done":
                path = f"{self._order.target.name}/{line['path']}"
                self.trained = Trained(tokens=line["tokens"], path=path, frequencies=line["frequencies"])

    def _begin(self, line: Line) -> None:
        for sentence in line["notes"]:
            self._order.say(sentence)
        if line["step"]:
            self._order.say(f"Training goes on from step {line['step']} of {line['total']}.")
            earlier = {one["number"]: one for one in self._earlier() if one["number"] <= line["step"]}
            for number in sorted(earlier):
                self._report(_step(earlier[number]))

    def _earlier(self) -> Iterator[Line]:
        """The steps that earlier trainees of this job wrote down, oldest trainee first."""
        for fence in range(1, self._order.fence):
            path = self._path.with_name(f"progress-{fence}.jsonl")
            for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
                if line.endswith(b"\n") and (row := json.loads(line))["kind"] == "step":
                    yield row


def _step(line: Line) -> Step:
    return Step(in_sample=None, **{name: value for name, value in line.items() if name != "kind"})


def _no_room(folder: Path, log: Path) -> NoRoom | None:
    """Whether the trainee died of a full disk, on which it may not even have said so."""
    said = says_full(log.read_text("utf-8", errors="replace"))
    return NoRoom() if said or not has_room(folder) else None


def _unexpected(code: int, log: Path) -> TrainingFault:
    """A trainee that died without a word: killed by the system, or by a fault of ours."""
    said = log.read_text("utf-8", errors="replace")[-_MOST_LOG:]
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


def tidy(folder: Path) -> None:
    """Removes from an ended job's folder what only a training that goes on would need; its checkpoints stay."""
    for pattern in ("order.json", "*.safetensors", "*.new", "progress-*.jsonl", "trainee-*.log", "parent*"):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
