"""A file that is replaced is whole before and after, whatever goes wrong in between."""

import os
import stat
from pathlib import Path

import pytest

from stories.operations.atomic_files import write_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_works(tmp_path: Path) -> None:
    place = tmp_path / "run.env"
    place.write_text("old")
    write_file(place, b"new")
    assert place.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [place]


def test_the_permissions_are_the_umask_s_unless_named(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "shared.csv", b"")
        write_file(tmp_path / "private.csv", b"", mode=0o600)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "shared.csv") == 0o640
    assert mode_of(tmp_path / "private.csv") == 0o600


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    place = tmp_path / "run.env"
    place.write_text("old")
    monkeypatch.setattr(f"stories.operations.atomic_files.os.{step}", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(place, b"new")
    assert place.read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]
