"""A small disk of a test's own, filled to the last byte when the test wants it so; only root may mount one."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, *, size: str) -> Iterator[Path]:
    """`place`, as a disk of that size ("64m"). Skips the test, loudly, where none can be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(
            "could not run: what a full disk does to running servers (mounting a small one needs root)"
        )
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """The disk has no byte left; what the servers on it give back is taken as well, until the end of the block."""
    ballast, over = folder / "ballast", threading.Event()
    _fill(ballast)

    def keep_full() -> None:
        while not over.wait(0.05):
            _fill(ballast)

    filler = threading.Thread(target=keep_full)
    filler.start()
    try:
        yield
    finally:
        over.set()
        filler.join()
        ballast.unlink()


def _fill(ballast: Path) -> None:
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
