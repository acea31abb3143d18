"""The model server on a full disk: what was ordered waits, nothing half-written stays, and all goes on by itself."""

import errno
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from openai import InternalServerError, OpenAI

from model_server.disk import has_space, is_full, says_full
from tests.disks import full, small_disk
from tests.servers import wait_until

from .conftest import Server, chat_lines, combos, method, until, upload, write_stories


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (sqlite3.OperationalError("database is locked"), False),
    ],
)
def test_a_full_disk_is_recognised(error: Exception, *, full: bool) -> None:
    if isinstance(error, sqlite3.Error):
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    assert is_full(error) is full
    assert says_full(str(error)) is full


def test_sqlites_word_for_it_is_recognised(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store")) as database:
        database.execute("PRAGMA max_page_count = 2")
        database.execute("CREATE TABLE one (text)")
        with pytest.raises(sqlite3.OperationalError) as caught:
            database.execute("INSERT INTO one VALUES (?)", ("x" * 100_000,))
    assert is_full(caught.value)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size="24m") as place:
        yield place


def files_of(server: Server) -> set[str]:
    return {path.name for path in (server.data / "files").iterdir()}


def empty_write_ahead_log(server: Server) -> None:
    with closing(sqlite3.connect(server.data / "store.sqlite3", timeout=20)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def until_steps(client: OpenAI, job: str) -> None:
    wait_until(
        lambda: client.fine_tuning.jobs.list_events(job, limit=100).data[0].type == "metrics", seconds=60
    )


def test_all_goes_on_after_a_full_disk(start: Callable[..., Server], disk: Path) -> None:
    server = start("--tokens-per-second", "0", "--mistake-rate", "0", data=disk / "data")
    client = server.client
    wanted = combos(1)[:20]
    lines = chat_lines(wanted, write_stories(client, wanted))
    file = upload(client, lines)
    job = client.fine_tuning.jobs.create(
        model="base-zh", training_file=file, seed=1, method=method(n_epochs=50, batch_size=1)
    )
    until_steps(client, job.id)
    before = files_of(server)
    empty_write_ahead_log(server)
    with full(disk):
        assert not has_space(disk)
        with pytest.raises(InternalServerError) as caught:
            upload(client, lines)
        assert (caught.value.status_code, caught.value.code) == (507, "disk_full")
        assert "Try again when there is room" in caught.value.message
        assert files_of(server) == before
        wait_until(
            lambda: not server.children(), seconds=60, what="the child has met the full disk and ended"
        )
        assert client.fine_tuning.jobs.retrieve(job.id).status == "running"
    assert until(client, job.id, "succeeded", "failed", seconds=120).status == "succeeded"
    assert upload(client, lines)
    open_to_others = [path for path in server.data.rglob("*") if stat.S_IMODE(path.lstat().st_mode) & 0o077]
    assert open_to_others == []
