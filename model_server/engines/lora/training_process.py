"""What `accelerate launch` runs, one process per device: reads order.json, trains, writes its progress down.

    python -m accelerate.commands.launch -m model_server.engines.lora.training_process order.json

Its standard input is a pipe from the job's process: the word `stop` asks for the state to be saved, its end means that
nobody waits for this training any more.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..base import TrainingFault
from .trainer import Learning, Stopped


class Wish:
    """Watches the pipe: `stop` becomes true on request; its end ends the process."""

    def __init__(self) -> None:
        self.stop = False
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        for line in sys.stdin:
            self.stop = self.stop or line.strip() == "stop"
        os._exit(4)


class Diary:
    """Appends one JSON line per fact to the job's progress file; only the first process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, kind: str, **facts: Any) -> None:
        """Writes a line, whole, at once."""
        if int(os.environ.get("RANK", "0")) == 0:
            with self._path.open("ab") as place:
                place.write((json.dumps({"kind": kind} | facts, ensure_ascii=False) + "\n").encode())


def main(arguments: Sequence[str]) -> int:
    """Trains by the order; the exit code is 0 when it is done, 2 when it was stopped, 3 after a fault that was told."""
    order = json.loads(Path(arguments[0]).read_text("utf-8"))
    diary = Diary(Path(order["folder"]) / f"progress-{order['fence']}.jsonl")
    try:
        Learning(order, diary.note, Wish()).run()
    except Stopped:
        return 2
    except TrainingFault as fault:
        diary.note("fault", message=str(fault), code=fault.code)
        return 3
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        no_memory = memory_fault(error)
        if no_memory is None:
            raise
        diary.note("fault", message=str(no_memory), code=no_memory.code)
        return 3
    return 0


def memory_fault(error: BaseException) -> TrainingFault | None:
    """The sentence for an error that means: no memory; None for any other."""
    words = str(error).lower()
    ran_out = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        sign in words for sign in ("out of memory", "can't allocate memory", "cannot allocate memory")
    )
    if not ran_out:
        return None
    return TrainingFault(
        "The device ran out of memory. Choose a smaller base model, shorten the longest lines, or start the server with"
        " a smaller --micro-batch-tokens or --lora-rank.",
        code="out_of_memory",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
