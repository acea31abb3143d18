"""A file or a folder that is replaced is whole before and after, whatever goes wrong in between."""

from pathlib import Path

import pytest

from model_server.atomic_files import atomic_replacement


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.write_text("old")
    with atomic_replacement(place) as partial:
        partial.write_text("new")
        assert place.read_text() == "old"
    assert place.read_text() == "new"
    assert names(tmp_path) == ["state"]


def test_a_folder_is_replaced_with_all_that_is_in_it(tmp_path: Path) -> None:
    place = tmp_path / "step-3"
    for name in ("old", "new"):
        with atomic_replacement(place) as partial:
            partial.mkdir()
            (partial / name).touch()
    assert names(place) == ["new"]
    assert names(tmp_path) == ["step-3"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_replacement(place) as partial:
        partial.write_text("half")
        raise OSError("full")
    assert place.read_text() == "old"
    assert names(tmp_path) == ["state"]


def test_what_a_killed_process_left_is_removed_first(tmp_path: Path) -> None:
    (tmp_path / "parent.new").mkdir()
    (tmp_path / "parent.new" / "half").touch()
    with atomic_replacement(tmp_path / "parent") as partial:
        partial.mkdir()
    assert names(tmp_path) == ["parent"]
    assert names(tmp_path / "parent") == []


def test_two_writers_at_once_do_not_meet(tmp_path: Path) -> None:
    place = tmp_path / "reference"
    with atomic_replacement(place, writer="1") as one, atomic_replacement(place, writer="2") as other:
        one.write_text("same")
        other.write_text("same")
    assert place.read_text() == "same"
    assert names(tmp_path) == ["reference"]
