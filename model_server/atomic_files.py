"""Writes a file or a folder whole or not at all: under another name first, which then becomes the right one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_replacement(path: Path, *, writer: str = "") -> Iterator[Path]:
    """A path beside `path` to write a file or a folder to; it replaces `path` at the end of the block.

    What a killed process left half written is removed first, and what an error leaves half written is removed last.
    Where several processes may write at once, each names itself by `writer`; the last one wins.
    """
    partial = path.with_name(".".join([path.name, *([writer] if writer else []), "new"]))
    _remove(partial)
    try:
        yield partial
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
