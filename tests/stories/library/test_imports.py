"""A CSV file of any size is brought in piece by piece, published at once, and never half shown or half kept."""

import io
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from finetuning.datasets.selection import select_rows
from stories import tasks
from stories.errors import BadFile, BadState
from stories.library import imports
from stories.library.csv_files import dump_stories
from stories.library.imports import import_stories, store_file
from stories.library.pages import read_page
from stories.models import ImportedFile, LanguageModel, Review, Story
from stories.operations import seeding
from stories.review import decisions
from tests.factories import make_approved_story, make_story
from tests.servers import wait_until

HEADER = "dynasty,super_power,story_type,story\n"


def rows_of(count: int, text: str = "正文") -> bytes:
    return (HEADER + "".join(f"唐,隐形,轻松,{text}{number}\n" for number in range(count))).encode()


def store(content: bytes, *, by: User, approve: bool = False) -> ImportedFile:
    return store_file([content], name="故事.csv", by=by, approve=approve)


def cut_after(monkeypatch: pytest.MonkeyPatch, chunks: int) -> None:
    """The process ends after so many transactions."""
    write, written = imports._write, []

    def cut(*arguments: Any) -> float:
        if len(written) == chunks:
            raise KeyboardInterrupt
        written.append(write(*arguments))
        return 0.0

    monkeypatch.setattr(imports, "_write", cut)


def stage_half(monkeypatch: pytest.MonkeyPatch, imported: ImportedFile) -> ImportedFile:
    """200 of its rows are staged, and then the process is gone."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, 2)
        tasks.advance_import(str(imported.pk))
    imported.refresh_from_db()
    assert (imported.state, imported.staged) == ("staging", 200)
    assert Story.staged.filter(imported_file=imported).count() == 200
    return imported


def lapse(imported: ImportedFile) -> None:
    ImportedFile.objects.filter(pk=imported.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def uploads(settings: Any) -> list[Path]:
    return sorted((Path(settings.MEDIA_ROOT) / "imports").glob("*"))


@pytest.fixture(autouse=True)
def _no_uploads(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "files"


# --- hidden until published -----------------------------------------------------------------------------


def everything_that_looks(editor: Client, alice: User) -> dict[str, Any]:
    """What each way of asking for stories sees."""
    page = read_page(Story.objects.library())
    return {
        "all": Story.objects.count(),
        "library": [story.text for story in page.stories],
        "waiting": Story.objects.reviewable().count(),
        "unchecked": list(Story.objects.unchecked().values_list("pk", flat=True)),
        "trainable": select_rows(runs=[], since=None).rows,
        "exported": dump_stories(Story.objects.all())[1],
        "bulk decision": decisions.reject_all(Story.objects.all(), by=alice),
        "reviews": Review.objects.filter(decision="approved").count(),
        "of the model": LanguageModel.objects.filter(story__isnull=False).count(),
        "admin": editor.get("/admin/stories/story/").context["cl"].result_count,
        "admin reviews": editor.get("/admin/stories/review/?decision__exact=approved")
        .context["cl"]
        .result_count,
        "page": Client().get("/").content.decode().count("正文"),
    }


@pytest.fixture
def editor(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.mark.both_databases
@pytest.mark.django_db
@pytest.mark.parametrize("approve", [False, True])
def test_staged_stories_are_nowhere_until_all_are_there(
    editor: Client, alice: User, monkeypatch: pytest.MonkeyPatch, approve: bool
) -> None:
    make_approved_story(text="早就有的", checked_at=timezone.now())
    before = everything_that_looks(editor, alice)
    imported = stage_half(monkeypatch, store(rows_of(250), by=alice, approve=approve))
    assert everything_that_looks(editor, alice) == before
    key = Story.staged.get(text="正文7").pk
    assert Client().get(f"/stories/{key}.txt").status_code == 404
    assert editor.get(f"/admin/stories/story/{key}/change/").status_code == 404
    tasks.check_story(str(key))
    assert Story.staged.get(pk=key).checked_at is None

    lapse(imported)
    tasks.advance_import(str(imported.pk))
    assert Story.objects.count() == 251
    assert Story.objects.library().count() == (251 if approve else 1)
    assert Review.objects.filter(decision="approved").count() == (250 if approve else 0)


@pytest.mark.django_db
def test_publishing_is_one_statement(alice: User, django_assert_num_queries: Any) -> None:
    imported = store(rows_of(0), by=alice)
    imported.state, imported.rows = ImportedFile.State.STAGING, 0
    imported.save()
    with django_assert_num_queries(1):
        imports._stage(imported, io.BytesIO(rows_of(0)))
    imported.refresh_from_db()
    assert (imported.state, imported.published_at is not None) == ("published", True)


@pytest.mark.django_db
def test_the_order_of_the_file_is_kept_over_many_transactions() -> None:
    assert import_stories(io.BytesIO(rows_of(350))) == 350
    texts = Story.objects.order_by("created_at", "pk").values_list("text", flat=True)
    assert list(texts) == [f"正文{number}" for number in range(350)]


# --- all or nothing -------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_file_that_changes_while_it_is_staged_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = io.BytesIO(rows_of(250)), rows_of(250) + "唐,隐形,轻松,\n".encode()
    check = imports.check_stories

    def check_then_write(file: Any) -> int:
        rows = check(file)
        good.seek(0)
        good.write(bad)
        return rows

    monkeypatch.setattr(imports, "check_stories", check_then_write)
    with pytest.raises(BadFile, match="第 252 行「story」列：故事正文是空的。"):
        import_stories(good)
    assert Story.staged.count() == 0
    assert ImportedFile.objects.get().state == "refused"


@pytest.mark.both_databases
@pytest.mark.django_db
def test_a_stored_file_is_taken_up_where_it_was(
    alice: User, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    imported = stage_half(monkeypatch, store(rows_of(350), by=alice))
    tasks.advance_import(str(imported.pk))  # somebody works on it, as far as anybody knows
    assert Story.staged.count() == 200
    assert imports.due_imports() == []
    lapse(imported)
    assert imports.due_imports() == [imported]
    tasks.advance_import(str(imported.pk))
    texts = Story.objects.order_by("created_at", "pk").values_list("text", flat=True)
    assert list(texts) == [f"正文{number}" for number in range(350)]
    assert uploads(settings) == []


@pytest.mark.both_databases
@pytest.mark.django_db
def test_what_a_command_left_behind_is_removed(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    make_story(text="早就有的")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, 2)
        import_stories(io.BytesIO(rows_of(350)), approve_by=alice)
    assert (Story.objects.count(), Story.staged.count(), Review.staged.count()) == (1, 201, 200)
    imported = ImportedFile.objects.get()
    lapse(imported)
    tasks.advance_import(str(imported.pk))
    imported.refresh_from_db()
    assert (imported.state, str(imported.error)) == (
        "refused",
        "导入的进程中断了，什么也没有收下；请再导入一次。",
    )
    assert (Story.staged.count(), Review.staged.count()) == (1, 0)
    assert imports.due_imports() == []


@pytest.mark.django_db
def test_who_lost_the_lease_writes_no_further_row(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = stage_half(monkeypatch, store(rows_of(350), by=alice))
    slow = ImportedFile.objects.get(pk=imported.pk)
    lapse(imported)
    assert imports._take(imported)
    with pytest.raises(BadState):
        imports._write(slow, [])
    with pytest.raises(BadState):
        imports._stage(slow, io.BytesIO(rows_of(350)))
    assert Story.staged.count() == 200


@pytest.mark.django_db
def test_a_file_that_ends_every_worker_is_given_up(alice: User, settings: Any) -> None:
    imported = store(rows_of(10), by=alice)
    ImportedFile.objects.filter(pk=imported.pk).update(state="staging", fence=5)
    tasks.advance_import(str(imported.pk))
    imported.refresh_from_db()
    assert imported.state == "refused"
    assert str(imported.error).startswith("导入了几次都没有完成")
    assert uploads(settings) == []


@pytest.mark.django_db
def test_an_upload_that_is_gone_is_a_sentence(alice: User, settings: Any) -> None:
    imported = store(rows_of(10), by=alice)
    uploads(settings)[0].unlink()
    tasks.advance_import(str(imported.pk))
    imported.refresh_from_db()
    assert str(imported.error) == "上传的文件不见了，什么也没有收下；请再导入一次。"


@pytest.mark.django_db
def test_a_new_start_goes_on_at_once(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = stage_half(monkeypatch, store(rows_of(350), by=alice))
    seeding.take_over()
    assert imports.due_imports() == [imported]


@pytest.mark.django_db
def test_old_uploads_without_an_import_are_removed(alice: User, settings: Any, time_machine: Any) -> None:
    imported = store(rows_of(10), by=alice)
    (Path(settings.MEDIA_ROOT) / "imports" / "stray.csv").write_bytes(b"x")
    assert imports.remove_strays() == 0
    time_machine.move_to(timezone.now() + timedelta(days=2))
    assert imports.remove_strays() == 1
    assert [f"imports/{path.name}" for path in uploads(settings)] == [imported.file]


# --- the page -------------------------------------------------------------------------------------------


def upload(editor: Client, content: bytes) -> Any:
    fields = {"file": SimpleUploadedFile("大.csv", content), "approve": "on"}
    return editor.post("/admin/stories/story/import/", fields, follow=True)


@pytest.mark.django_db
def test_a_large_file_is_a_workers_and_its_page_says_how_far_it_is(
    editor: Client, alice: User, settings: Any, redis_server: Any
) -> None:
    page = upload(editor, rows_of(600, "字" * 400))
    imported = ImportedFile.objects.get()
    assert page.redirect_chain == [(f"/admin/stories/importedfile/{imported.pk}/change/", 302)]
    assert "等着导入" in page.content.decode()
    assert Story.staged.count() == 0
    tasks.advance_import(str(imported.pk))
    done = editor.get(f"/admin/stories/importedfile/{imported.pk}/progress/").content.decode()
    assert "已导入" in done
    assert "600 / 600" in done
    assert "hx-get" not in done
    assert set(Story.objects.values_list("verdict", flat=True)) == {"approved"}
    assert Review.objects.filter(editor=alice).count() == 600
    assert "大.csv" in editor.get("/admin/stories/importedfile/").content.decode()


@pytest.mark.django_db
def test_a_large_bad_file_is_refused_on_its_page(editor: Client, settings: Any, redis_server: Any) -> None:
    upload(editor, rows_of(600, "字" * 400) + "唐,隐形,轻松,\n".encode())
    imported = ImportedFile.objects.get()
    tasks.advance_import(str(imported.pk))
    page = editor.get(f"/admin/stories/importedfile/{imported.pk}/change/").content.decode()
    assert "没有收下" in page
    assert "第 602 行「story」列：故事正文是空的。" in page
    assert (Story.staged.count(), uploads(settings)) == (0, [])


@pytest.mark.django_db
def test_only_staff_see_the_imports(reader: User, alice: User) -> None:
    imported = store(rows_of(1), by=alice)
    stranger = Client()
    stranger.force_login(reader)
    for path in ("", f"{imported.pk}/change/", f"{imported.pk}/progress/"):
        assert stranger.get(f"/admin/stories/importedfile/{path}").status_code == 302
    assert Client().get(f"/admin/stories/importedfile/{imported.pk}/progress/").status_code == 302


# --- others get their turn ------------------------------------------------------------------------------


class Writer(threading.Thread):
    """Writes a row every 20 ms on a connection of its own; `longest` is what it waited at most, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 0.0
        self.writes = 0
        self.over = threading.Event()
        self.story = make_story(text="别人的")

    def run(self) -> None:
        try:
            while not self.over.wait(0.02):
                began = time.monotonic()
                Story.objects.filter(pk=self.story.pk).update(likes=self.writes)
                self.longest = max(self.longest, time.monotonic() - began)
                self.writes += 1
        finally:
            connection.close()


@pytest.fixture
def writer(transactional_db: None) -> Iterator[Writer]:
    writer = Writer()
    writer.start()
    yield writer
    writer.over.set()
    writer.join()


def test_another_writer_waits_less_than_a_second(writer: Writer) -> None:
    import_stories(io.BytesIO(rows_of(8000, "字" * 300)))
    assert writer.writes > 50
    assert writer.longest < 1


def test_in_one_transaction_another_writer_waits_for_all_of_it(writer: Writer) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has a lock per row")
    with transaction.atomic():
        began = time.monotonic()
        import_stories(io.BytesIO(rows_of(3000, "字" * 300)))
        took = time.monotonic() - began
    wait_until(lambda: writer.longest > 0.8 * took, what="a write that waited")


# --- the plans ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_staged_rows_are_skipped_in_the_index() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the plans of SQLite")
    queue = Story.objects.reviewable().order_by(*decisions.QUEUE)
    plans = {
        "library": Story.objects.library()[:21],
        "liked": Story.objects.library().order_by("-likes", "-created_at", "-pk")[:21],
        "queue": queue[:1],
        "unchecked": Story.objects.unchecked()[:200],
        "newest": Story.objects.order_by("-created_at", "-pk")[:20],
        "cells": Story.objects.order_by().filter(dynasty="唐").values("verdict"),
    }
    indexes = {
        "library": "story_library",
        "liked": "story_best_liked",
        "queue": "story_queue",
        "unchecked": "story_unchecked",
        "newest": "story_newest",
        "cells": "story_cell",
    }
    for name, stories in plans.items():
        plan = stories.explain()
        assert f"INDEX {indexes[name]}" in plan, plan
        assert "TEMP B-TREE" not in plan, plan
    held = {index.name: index.fields for index in Story._meta.indexes}
    assert all("imported_file" in held[name] for name in indexes.values())
