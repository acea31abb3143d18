"""The training process, which `accelerate launch` starts once for each device: reads order.json and trains.

    python -m accelerate.commands.launch -m model_server.engines.lora.training_process order.json

Its standard input is a pipe from the job's process. The line `stop` asks it to save its state and end. The end of the
pipe means that the job's process has ended; then this process ends at once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from ..base import TrainingFault, TrainingStopped
from .progress import ProgressLog
from .trainer import Trainer

EXIT_STOPPED, EXIT_FAULT, EXIT_ORPHANED = 2, 3, 4


def main(arguments: Sequence[str]) -> int:
    """Trains by the order. The exit code is 0 after a whole training, 2 after a stop, 3 after a fault in the file."""
    order = json.loads(Path(arguments[0]).read_text("utf-8"))
    log = ProgressLog(Path(order["folder"]), order["fence"])
    try:
        Trainer(order, log.write, stop=_stop_signal()).run()
    except TrainingStopped:
        return EXIT_STOPPED
    except TrainingFault as fault:
        log.write("fault", message=str(fault), code=fault.code)
        return EXIT_FAULT
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        fault_of_memory = memory_fault(error)
        if fault_of_memory is None:
            raise
        log.write("fault", message=str(fault_of_memory), code=fault_of_memory.code)
        return EXIT_FAULT
    return 0


def _stop_signal() -> threading.Event:
    """An event that is set when the job's process asks for a stop; a thread of its own reads the pipe."""
    stop = threading.Event()

    def watch() -> None:
        for line in sys.stdin:
            if line.strip() == "stop":
                stop.set()
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=watch, daemon=True).start()
    return stop


def memory_fault(error: BaseException) -> TrainingFault | None:
    """The fault for an error that says that memory ran out; None for any other error."""
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
