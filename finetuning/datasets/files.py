"""The files of datasets in MEDIA_ROOT/datasets: written beside, then renamed; named by their bytes.

A name that holds the sha256 makes writing repeatable: whoever writes the same bytes writes the same file, and
a file that lies there is whole.
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.utils.translation import gettext as _

from finetuning.errors import BadDataset

FOLDER = "datasets"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def store(content: bytes, *, name: str, split: str) -> str:
    """Writes the bytes; their path relative to MEDIA_ROOT."""
    relative = f"{FOLDER}/{name}-{split}-{sha256(content)[:16]}.jsonl"
    place = Path(settings.MEDIA_ROOT) / relative
    for folder in (Path(settings.MEDIA_ROOT), place.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return relative


def full_path(relative: str) -> Path:
    return Path(settings.MEDIA_ROOT) / relative


def open_file(relative: str, *, expected_sha256: str) -> BinaryIO:
    """The file, open for reading. Raises `BadDataset` if it is gone, or not as it was frozen."""
    path = full_path(relative)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise BadDataset(_("数据集的文件 %(path)s 不见了。") % {"path": path}) from None
    if hashlib.file_digest(file, "sha256").hexdigest() != expected_sha256:
        file.close()
        raise BadDataset(_("数据集的文件 %(path)s 被改动过，不能用来训练。") % {"path": path})
    file.seek(0)
    return file
