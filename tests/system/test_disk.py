"""The disk under a copy: nobody else reads it, and after it was full everything goes on by itself."""

import os
import sqlite3
import stat
import urllib.error
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command

from bench.visitor import Visitor
from devserver.disk import has_room, tighten
from finetuning.datasets import files as datasets
from stories.library.csv_files import export_stories
from stories.management.commands.prepare_site import keep_private
from stories.models import Story
from tests.devserver.test_supervisor import children, kill, pid_of
from tests.disks import full, small_disk
from tests.servers import wait_until
from tests.sites import Site

ORDER = ("唐", "隐形", "轻松")


def modes(folder: Path) -> dict[str, str]:
    """What others may do, by path; empty strings are left out."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & 0o077 and not path.is_symlink():
            found[str(path.relative_to(folder))] = oct(mode)
    return found


def test_what_lay_open_is_closed_at_the_start_and_other_things_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "files" / "datasets").mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    ours = [tmp_path / "site.sqlite3-wal", tmp_path / "files/datasets/a.jsonl", tmp_path / "logs/run.log"]
    theirs = tmp_path / "thesis.txt"
    elsewhere = tmp_path / "elsewhere"
    for path in (*ours, theirs, elsewhere):
        path.touch()
        path.chmod(0o644)
    (tmp_path / "files" / "link").symlink_to(elsewhere)
    tighten(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in ours} == {0o600}
    assert (tmp_path / "files/datasets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (theirs, elsewhere)} == {0o644}


def test_room_is_found_by_trying(tmp_path: Path) -> None:
    assert has_room(tmp_path)


def test_what_the_site_stores_is_for_nobody_else_whatever_the_umask(tmp_path: Path, settings: Any) -> None:
    settings.MEDIA_ROOT, settings.STATIC_ROOT = tmp_path / "files", tmp_path / "static"
    old = os.umask(0)
    try:
        datasets.store(b"{}\n", name="one", split="training")
        keep_private({"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "site.sqlite3")})
        default_storage.save("kept/by_django.txt", ContentFile(b"x"))
        call_command("collectstatic", interactive=False, verbosity=0)
    finally:
        os.umask(old)
    assert [name for name in modes(tmp_path) if not name.startswith((".", "static"))] == []
    collected = [path for path in (tmp_path / "static").rglob("*") if path.is_file()]
    assert collected
    assert {path.stat().st_mode & 0o777 for path in collected} == {0o644}


@pytest.mark.django_db
def test_an_exported_file_keeps_the_umask_of_who_exports(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        export_stories(Story.objects.all(), tmp_path / "out.csv")
    finally:
        os.umask(old)
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o644


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size="64m") as place:
        yield place


@pytest.fixture
def copy(disk: Path) -> Iterator[Site]:
    site = Site(disk / "data")
    try:
        site.start()
        yield site
    finally:
        site.stop()


def empty_write_ahead_logs(site: Site) -> None:
    """What room they hold already would let writing go on for a while."""
    for name in ("site.sqlite3", "model_server/store.sqlite3"):
        with closing(sqlite3.connect(site.data_dir / name, timeout=20)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def state_of(site: Site, pk: str) -> str:
    with closing(sqlite3.connect(site.data_dir / "site.sqlite3", timeout=20)) as database:
        row = database.execute(
            "SELECT state FROM stories_story WHERE id=?", (pk.replace("-", ""),)
        ).fetchone()
    return str(row[0])


def write_one(site: Site) -> str:
    """The end of a story that a reader asks for and watches."""
    visitor = Visitor(site)
    pk = visitor.ask(ORDER)
    return visitor.watch(pk).ended


def code_of(visitor: Visitor, path: str) -> int:
    """The status of a page."""
    try:
        visitor.get(path)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def is_ready(site: Site) -> bool:
    try:
        return "ok" in Visitor(site).get("/health/ready")
    except OSError:
        return False


def test_after_a_full_disk_everything_goes_on_by_itself(copy: Site, disk: Path) -> None:
    child = copy.child
    assert child
    assert modes(copy.data_dir) == {}
    assert write_one(copy) == "written"
    visitor = Visitor(copy)
    streaming = visitor.ask(ORDER)
    empty_write_ahead_logs(copy)
    with full(disk):
        assert not has_room(disk)
        for path in ("/", "/stories/new/", f"/stories/{streaming}/"):
            assert code_of(visitor, path) in (200, 503), path
        wait_until(lambda: not is_ready(copy), seconds=60, what="health misses the heartbeats")
        killed = pid_of(copy, "ultraman_site beat")
        kill(killed)
        wait_until(lambda: killed not in children(copy), what="the supervisor has seen its death")
    assert child.process.poll() is None
    waits = "beat ended (killed by SIGKILL): the disk is full; it waits for room"
    wait_until(
        lambda: waits in child.output, what="what it said meanwhile, for its output lies on that disk too"
    )
    wait_until(lambda: is_ready(copy), seconds=90, what="the copy answers again")
    wait_until(
        lambda: state_of(copy, streaming) in ("written", "interrupted", "failed"),
        seconds=90,
        what="the story that was being written has an end",
    )
    assert write_one(copy) == "written"
    assert modes(copy.data_dir) == {}
    assert os.path.getsize(copy.data_dir / "logs/run.log")
