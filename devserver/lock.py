"""One supervisor per DATA_DIR: a lock that the operating system frees when its holders are gone."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from devserver.plan import CannotStart

CLEANING_SECONDS = 15.0


@contextmanager
def only_one(data_dir: Path) -> Iterator[IO[str]]:
    """Holds `data_dir` for this supervisor. Raises `CannotStart` if another one has it."""
    with (data_dir / "run.lock").open("r+", encoding="utf-8") as file:
        _take(file, data_dir)
        write_holder(file)
        yield file


def write_holder(file: IO[str], *, url: str = "") -> None:
    """Writes who holds the lock, for the sentence that refuses the next one."""
    file.seek(0)
    file.truncate()
    json.dump({"pid": os.getpid(), "url": url}, file)
    file.flush()


def _take(file: IO[str], data_dir: Path) -> None:
    deadline = time.monotonic() + CLEANING_SECONDS
    while not _try_lock(file):
        holder = _holder(file)
        # A killed supervisor's reaper keeps the lock for the seconds it needs to end what was left.
        if _is_alive(holder.get("pid")) or time.monotonic() > deadline:
            raise CannotStart(
                f"{data_dir} 已有一份在运行 · is in use by a running copy "
                f"({holder.get('url') or 'just starting'}); end that one first, or choose another DATA_DIR"
            )
        time.sleep(0.1)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: IO[str]) -> dict[str, object]:
    """What the holder wrote; {} in the moment before it has."""
    file.seek(0)
    try:
        holder = json.load(file)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
