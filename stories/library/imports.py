"""Brings the stories of a CSV file in: staged in small transactions, published at once.

A file is checked whole before a row of it is written. Then its stories are written, hidden from every query
(`PublishedManager`), in transactions of a few rows with a pause after each: SQLite has one writer, and whoever
waits for it polls. One update publishes all of them. The process that stages holds the file's lease, and every
transaction renews it. When the lease has run out, the sweeper has a stored upload continued where it stopped, and
removes the staged rows of any other file.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from sentences import Words, sentence_of
from sentences import sentence as _
from stories.errors import BadFile, BadState
from stories.library.csv_files import check_stories, read_stories, seekable
from stories.models import EndReason, ImportedFile, Review, Story
from stories.review.decisions import approve_new
from stories.values.combos import Combo

# One transaction, a few dozen milliseconds: whichever of the two is reached first.
ROWS = 100
CHARACTERS = 100_000
LEASE = timedelta(minutes=2)
MAX_TRIES = 5
FOLDER = "imports"
STRAY_AFTER = timedelta(days=1)
State = ImportedFile.State
Row = tuple[Combo, str]


def import_stories(file: BinaryIO, *, name: str = "", approve_by: User | None = None) -> int:
    """Keeps the file's stories as written ones, approved by `approve_by` if given; how many.

    Raises `BadFile`, naming row (the header is row 1) and column, and then keeps nothing.
    """
    with seekable(file) as source:
        imported = ImportedFile.objects.create(
            name=name[:200],
            rows=check_stories(source),
            by=approve_by,
            approved=approve_by is not None,
            state=State.STAGING,
            lease_until=timezone.now() + LEASE,
        )
        try:
            _stage(imported, source)
        except BadFile as error:  # somebody wrote into the file after it was checked
            _refuse(imported, sentence_of(error))
            raise
    return imported.staged


def store_file(blocks: Iterable[bytes], *, name: str, by: User, approve: bool) -> ImportedFile:
    """Keeps an upload for a worker, who reads and stages it."""
    folder = Path(settings.MEDIA_ROOT) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    handle, path = tempfile.mkstemp(dir=folder, suffix=".csv")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
        stored = f"{FOLDER}/{Path(path).name}"
        return ImportedFile.objects.create(name=name[:200], by=by, approved=approve, file=stored)
    except BaseException:
        os.unlink(path)
        raise


def due_imports() -> Sequence[ImportedFile]:
    """Those that a worker should go on with."""
    return list(ImportedFile.objects.due(timezone.now()))


def advance_import(imported: ImportedFile) -> None:
    """Takes an import to its end, unless another process holds its lease."""
    if not _take(imported):
        return
    if imported.state == State.REMOVING:
        _remove(imported)
    elif not imported.file:
        _refuse(imported, _("导入的进程中断了，什么也没有收下；请再导入一次。"))
    elif imported.fence > MAX_TRIES:
        _refuse(imported, _("导入了几次都没有完成，什么也没有收下；请分成几个文件再试。"))
    else:
        _stage_stored(imported)


def remove_strays() -> int:
    """Deletes stored files that no import waits for: their process ended between the file and its row."""
    wanted = set(ImportedFile.objects.unpublished().values_list("file", flat=True))
    latest = (timezone.now() - STRAY_AFTER).timestamp()
    strays = [
        path
        for path in (Path(settings.MEDIA_ROOT) / FOLDER).glob("*.csv")
        if f"{FOLDER}/{path.name}" not in wanted and path.stat().st_mtime < latest
    ]
    for path in strays:
        path.unlink(missing_ok=True)
    return len(strays)


# --- the lease ------------------------------------------------------------------------------------------


def _take(imported: ImportedFile) -> bool:
    """Takes the lease of an import that nobody works on; False if somebody does."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=timezone.now())
    seen = ImportedFile.objects.filter(free, pk=imported.pk, state=imported.state, fence=imported.fence)
    state = State.STAGING if imported.state == State.WAITING else imported.state
    taken = seen.update(state=state, fence=F("fence") + 1, lease_until=timezone.now() + LEASE)
    if taken:
        imported.refresh_from_db()
    return bool(taken)


def _change(imported: ImportedFile, *still: Q, **values: object) -> None:
    """Changes the row if it is still ours. Raises `BadState` if our lease ran out and somebody else went on."""
    mine = ImportedFile.objects.filter(*still, pk=imported.pk, state=imported.state, fence=imported.fence)
    if mine.update(**values) != 1:
        raise BadState(_("这次导入中断得太久，已经由别的进程接手。"))


def _renew(imported: ImportedFile, **values: object) -> None:
    _change(imported, lease_until=timezone.now() + LEASE, **values)


# --- staging --------------------------------------------------------------------------------------------


def _stage_stored(imported: ImportedFile) -> None:
    try:
        with (Path(settings.MEDIA_ROOT) / imported.file).open("rb") as source:
            imported.rows = check_stories(source)
            _renew(imported, rows=imported.rows)
            _stage(imported, source)
    except BadFile as error:
        _refuse(imported, sentence_of(error))
    except FileNotFoundError:
        _refuse(imported, _("上传的文件不见了，什么也没有收下；请再导入一次。"))


def _stage(imported: ImportedFile, source: BinaryIO) -> None:
    """Stages the rows that are not there yet, then publishes all."""
    with closing(read_stories(source)) as rows:
        for chunk in _chunks(islice(rows, imported.staged, None)):
            time.sleep(_write(imported, chunk))
    now = timezone.now()
    _change(imported, Q(staged=F("rows")), state=State.PUBLISHED, published_at=now, lease_until=None)
    _forget_file(imported)


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += len(row[1])
        if len(chunk) >= ROWS or characters >= CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _write(imported: ImportedFile, chunk: list[Row]) -> float:
    """Writes some rows in one transaction; the seconds for which it held up other writers."""
    stories = [_make_story(imported, *row) for row in chunk]
    reviews = _approve(imported, stories)
    with transaction.atomic():
        began = time.monotonic()
        _renew(imported, staged=F("staged") + len(stories))
        Story.staged.bulk_create(stories)
        Review.staged.bulk_create(reviews)
    imported.staged += len(stories)
    return time.monotonic() - began


def _make_story(imported: ImportedFile, combo: Combo, text: str) -> Story:
    return Story(
        dynasty=combo.dynasty,
        super_power=combo.super_power,
        story_type=combo.story_type,
        origin=Story.Origin.IMPORT,
        imported_file=imported,
        state=Story.State.WRITTEN,
        end_reason=EndReason.STOP,
        text=text,
        length=len(text),
        ended_at=imported.created_at,
    )


def _approve(imported: ImportedFile, stories: list[Story]) -> list[Review]:
    if not (imported.approved and imported.by):
        return []
    reviews = approve_new(stories, by=imported.by)
    for review in reviews:
        review.imported_file = imported
    return reviews


# --- removing -------------------------------------------------------------------------------------------


def _refuse(imported: ImportedFile, sentence: Words) -> None:
    """Refuses the file and removes what was staged; `sentence` says why."""
    _renew(imported, state=State.REMOVING, error=sentence)
    imported.state = State.REMOVING
    _remove(imported)


def _remove(imported: ImportedFile) -> None:
    """Deletes what was staged, as it was written: a few rows at a time."""
    mine: QuerySet[Story] = Story.staged.filter(imported_file=imported).order_by()
    while keys := list(mine.values_list("pk", flat=True)[:ROWS]):
        with transaction.atomic():
            began = time.monotonic()
            _renew(imported)
            Review.staged.filter(story__in=keys).delete()
            Story.staged.filter(pk__in=keys).delete()
        time.sleep(time.monotonic() - began)
    _change(imported, state=State.REFUSED, staged=0, lease_until=None)
    _forget_file(imported)


def _forget_file(imported: ImportedFile) -> None:
    if imported.file:
        (Path(settings.MEDIA_ROOT) / imported.file).unlink(missing_ok=True)
