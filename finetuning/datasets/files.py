"""The files of datasets in MEDIA_ROOT/datasets, named by their bytes.

A name holds the sha256, so writing is repeatable: the same bytes always give the same file, and every file
there is whole.
"""

import hashlib
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from finetuning.errors import BadDataset
from sentences import sentence as _
from stories.operations.atomic_files import write_file

FOLDER = "datasets"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def store(content: bytes, *, name: str, split: str) -> str:
    """Writes the bytes; their path relative to MEDIA_ROOT."""
    relative = f"{FOLDER}/{name}-{split}-{sha256(content)[:16]}.jsonl"
    place = Path(settings.MEDIA_ROOT) / relative
    for folder in (Path(settings.MEDIA_ROOT), place.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(place, content, mode=0o600)
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
