"""The log of `make run`: on a full disk, behind a terminal that stands still, and with lines that would be more."""

import io
import os
import sys
import time
from pathlib import Path

import pytest

from devserver.console import Console, relay
from devserver.logfile import LogFile
from devserver.processes import Child
from devserver.terminal import MAX_WAITING, Terminal
from tests.environment import BASE_DIR
from tests.servers import wait_until
from ultraman_site.log_lines import MAX_CHARACTERS, one_line

FULL = Path("/dev/full")


class NoReaper:
    """Stands where the reaper's pipe would be: the children of these tests end by themselves."""

    def add(self, group: int) -> None: ...

    def remove(self, group: int) -> None: ...


def fill(path: Path) -> None:
    """Whatever is written to `path` finds the disk full, until it is unlinked."""
    if not FULL.exists():
        pytest.skip("could not run: this machine has no /dev/full")
    path.symlink_to(FULL)


def run_child(console: Console, code: str) -> Child:
    return Child(
        "talker",
        (sys.executable, "-c", code),
        environment={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(BASE_DIR)},
        console=console,
        reaper=NoReaper(),  # type: ignore[arg-type]
    )


def test_a_full_disk_stops_no_process_and_the_log_goes_on_after_it(tmp_path: Path) -> None:
    """The pipe of a process holds 64 KiB: with nobody to read it, this one would never end."""
    log = LogFile(tmp_path / "run.log")
    with Console(tmp_path, log=log) as console:
        fill(tmp_path / "run.log")
        child = run_child(console, "for number in range(3000): print(number, 'x' * 60)")
        wait_until(lambda: child.ended() is not None, seconds=30, what="the process has said all it had")
        child.drain()
        assert child.ended() == 0
        assert log.lost == 3000
        (tmp_path / "run.log").unlink()
        console.line("talker", "there is room again")
    first, second = (tmp_path / "run.log").read_text("utf-8").splitlines()
    assert first == "--- 3000 lines before this one could not be written ---"
    assert second.endswith("talker   | there is room again")
    assert log.lost == 0


def test_a_line_that_was_half_written_ends_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogFile(tmp_path / "run.log")
    log.write(b"whole\n")
    room = [4]

    def write(handle: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = os.pwrite(handle, data[: room[0]], 0)
        room[0] -= taken
        return taken

    with monkeypatch.context() as disk:
        disk.setattr("devserver.logfile.os.write", write)
        log.write(b"half of this\n")
    log.write(b"after\n")
    log.close()
    text = (tmp_path / "run.log").read_text("utf-8")
    assert text == "whole\nhalf\n--- 1 lines before this one could not be written ---\nafter\n"


def test_the_log_is_rotated_while_it_is_written(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "run.log", max_bytes=1000)
    for number in range(1000):
        log.write(b"%099d\n" % number)
    log.close()
    kept = sorted(tmp_path.iterdir())
    assert [path.name for path in kept] == ["run.log", *(f"run.log.{number}" for number in range(1, 6))]
    assert {path.stat().st_size for path in kept} == {1000}
    assert kept[0].read_bytes().endswith(b"999\n")
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_older_logs_are_kept_by_number(tmp_path: Path) -> None:
    for number in range(8):
        with Console(tmp_path) as console:
            console.plain(str(number))
    kept = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert kept == {
        "run.log": "7\n",
        "run.log.1": "6\n",
        "run.log.2": "5\n",
        "run.log.3": "4\n",
        "run.log.4": "3\n",
        "run.log.5": "2\n",
    }


def test_a_terminal_that_stands_still_stops_nobody() -> None:
    reading, writing = os.pipe()
    terminal = Terminal(writing, encoding="utf-8")
    began = time.monotonic()
    for _line in range(MAX_WAITING + 5000):
        terminal.show("x" * 99 + "\n")
    assert time.monotonic() - began < 20
    seen = os.read(reading, 65_536)
    while seen.count(b"\n") < MAX_WAITING // 2:
        seen += os.read(reading, 65_536)
    terminal.show("after\n")
    while not seen.endswith(b"after\n"):
        seen += os.read(reading, 65_536)
    assert b"lines before this one could not be shown ---\nafter\n" in seen
    terminal.close()
    os.close(reading)
    os.close(writing)


def test_a_terminal_that_is_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    terminal = Terminal(writing, encoding="utf-8")
    for _line in range(10):
        terminal.show("nobody reads this\n")
    terminal.close()
    assert os.write(writing, b"x") == 1  # it leads nowhere now
    os.close(writing)


def test_a_terminal_that_knows_no_chinese_is_written_to_all_the_same() -> None:
    reading, writing = os.pipe()
    terminal = Terminal(writing, encoding="ascii")
    terminal.show("唐 story\n")
    terminal.close()
    assert os.read(reading, 100) == b"\\u5510 story\n"
    os.close(reading)
    os.close(writing)


def test_what_a_process_says_is_bounded_and_stays_one_line(tmp_path: Path) -> None:
    with Console(tmp_path) as console:
        child = run_child(console, "print('a' * 1_000_000); print('red \\x1b[31m \\u2028 02:00:00 web | no')")
        wait_until(lambda: child.ended() is not None, seconds=30, what="the process has ended")
        child.drain()
    long, painted = (tmp_path / "run.log").read_text("utf-8").splitlines()
    assert long.endswith(f"a … [{1_000_000 - MAX_CHARACTERS:,} more characters cut]")
    assert len(long) < MAX_CHARACTERS + 100
    assert painted.endswith("| red \\x1b[31m \\u2028 02:00:00 web | no")


def test_a_line_without_an_end_takes_no_memory() -> None:
    said: list[tuple[int, int]] = []
    relay(io.BytesIO(b"b" * 10_000_000), lambda text, cut: said.append((len(text), cut)))
    ((length, cut),) = said
    assert length == 4 * MAX_CHARACTERS
    assert length + cut == 10_000_000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\ntwo\rthree", "one\\ntwo\\rthree"),
        ("tab\tstays 唐", "tab\tstays 唐"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("a\u202eb\u2066c\ud800", "a\\u202eb\\u2066c\\ud800"),
    ],
)
def test_what_would_be_more_than_a_line_is_escaped(text: str, line: str) -> None:
    assert one_line(text) == line
