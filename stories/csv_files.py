"""Stories in and out of CSV files, exactly: `dynasty,super_power,story_type,story` (floor 3).

A file is read whole, checked whole, and then written in one transaction: nothing of a bad file is kept.
Python's strict reader finds what pandas lets pass (ragged rows, stray quotes); pandas reads the cells.
The AI label that GB 45438-2025 asks for goes into a second file beside the exported one.
"""

import csv
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from stories.combos import AXES, Combo, clean_ingredient
from stories.errors import BadFile, BadIngredient
from stories.labels import file_label, label_path
from stories.models import EndReason, Story
from stories.reviewing import approve_all
from stories.texts import MAX_LENGTH, BadText, check_text

COLUMNS = (*AXES, "story")
INDEX_NAMES = ("", "Unnamed: 0")
MAX_BYTES = 50 * 1024 * 1024
BATCH = 500
# What a spreadsheet would run: OWASP, "CSV injection".
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def import_stories(file: BinaryIO, *, approve_by: User | None = None) -> int:
    """Keeps the file's stories as written ones, approved by `approve_by` if given; how many.

    Raises `BadFile`, naming row (the header is row 1) and column, and then keeps nothing.
    """
    rows = read_stories(file)
    now = timezone.now()
    stories = [_make_story(combo, text, now) for combo, text in rows]
    with transaction.atomic():
        Story.objects.bulk_create(stories, batch_size=BATCH)
        if approve_by is not None:
            for start in range(0, len(stories), BATCH):
                keys = [story.pk for story in stories[start : start + BATCH]]
                approve_all(Story.objects.filter(pk__in=keys), by=approve_by)
    return len(stories)


def read_stories(file: BinaryIO) -> list[tuple[Combo, str]]:
    """The checked rows of a CSV file, in its order. Raises `BadFile`."""
    source = _decode(_read(file))
    _check_shape(source)
    frame = pd.read_csv(
        io.StringIO(source),
        dtype=str,
        keep_default_na=False,
        header=0,
        index_col=False,
    )
    columns = [frame[name] for name in COLUMNS]
    known: dict[tuple[str, str], str] = {}
    return [_read_row(row, cells, known) for row, cells in enumerate(zip(*columns, strict=True), start=2)]


def export_stories(stories: QuerySet[Story], path: Path) -> int:
    """Writes the final texts to `path` and the AI label beside it; how many. Both files appear whole."""
    content, rows = dump_stories(stories)
    _replace(path, content)
    _replace(label_path(path), file_label(hashlib.sha256(content).hexdigest(), name=path.name, rows=rows))
    return rows


def dump_stories(stories: QuerySet[Story], *, for_spreadsheet: bool = False) -> tuple[bytes, int]:
    """The CSV of `stories`, oldest first, and its number of rows; the same bytes each time.

    `for_spreadsheet` adds what Excel needs to see UTF-8, and a quote before cells that it would run.
    """
    cells = stories.with_final_text().order_by("created_at", "pk").values_list(*AXES, "final")  # type: ignore[attr-defined]
    frame = pd.DataFrame(list(cells), columns=list(COLUMNS), dtype=str)
    if for_spreadsheet:
        frame = frame.map(_disarm)
    text = frame.to_csv(index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")
    return text.encode("utf-8-sig" if for_spreadsheet else "utf-8"), len(frame)


def _make_story(combo: Combo, text: str, now: Any) -> Story:
    return Story(
        dynasty=combo.dynasty,
        super_power=combo.super_power,
        story_type=combo.story_type,
        origin=Story.Origin.IMPORT,
        state=Story.State.WRITTEN,
        end_reason=EndReason.STOP,
        text=text,
        length=len(text),
        ended_at=now,
    )


def _read(file: BinaryIO) -> bytes:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise BadFile(_("文件超过 %(max)s MB，请分成几个文件导入。") % {"max": MAX_BYTES // 1024 // 1024})
    return content


def _decode(content: bytes) -> str:
    """The file's text. Raises `BadFile` that says which encoding it seems to have."""
    if (
        content.startswith((b"\xff\xfe", b"\xfe\xff"))
        or content[:4000].count(b"\0") > len(content[:4000]) / 5
    ):
        raise BadFile(_("文件是 UTF-16 编码，请另存为 UTF-8 再导入。"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    try:
        content.decode("gb18030")
    except UnicodeDecodeError:
        raise BadFile(_("文件不是 UTF-8 编码（文件第 %(line)s 行）。") % {"line": line}) from None
    raise BadFile(_("文件像是 GB18030（GBK）编码，请另存为 UTF-8 再导入。"))


def _check_shape(source: str) -> None:
    """Raises `BadFile` unless the columns are ours and every row has its cells, well quoted."""
    rows = _strict_rows(source)
    header = next(rows, [])
    if not header:
        raise BadFile(_("文件是空的，第 1 行应是表头：%(columns)s。") % {"columns": ",".join(COLUMNS)})
    _check_header(header)
    for row, cells in enumerate(rows, start=2):
        if len(cells) != len(header):
            words = {"row": row, "count": len(cells), "expected": len(header), "first": header[-1]}
            raise BadFile(
                _("第 %(row)s 行有 %(count)s 格，应有 %(expected)s 格（到「%(first)s」列为止）。") % words
            )


def _strict_rows(source: str) -> Iterator[list[str]]:
    """The rows that are not blank. Raises `BadFile` for stray quotes and giant cells."""
    reader = csv.reader(io.StringIO(source, newline=""), strict=True)
    row = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            words = {"row": row + 1, "max": f"{MAX_LENGTH:,}"}
            if "field limit" in str(error):
                raise BadFile(_("第 %(row)s 行有一格太长（故事最多 %(max)s 个字）。") % words) from None
            raise BadFile(_("第 %(row)s 行的引号或换行不成对，无法读懂。") % words) from None
        if cells:
            row += 1
            yield cells


def _check_header(header: list[str]) -> None:
    for name in header:
        if header.count(name) > 1:
            raise BadFile(_("第 1 行（表头）里「%(name)s」列出现了两次。") % {"name": name})
    if missing := [name for name in COLUMNS if name not in header]:
        words = {"missing": "、".join(missing), "columns": ",".join(COLUMNS)}
        raise BadFile(_("第 1 行（表头）里缺少「%(missing)s」列；应有的列：%(columns)s。") % words)
    for position, name in enumerate(header):
        is_index = name in INDEX_NAMES and all(other in INDEX_NAMES for other in header[:position])
        if name not in COLUMNS and not is_index:
            raise BadFile(_("第 1 行（表头）里有不认识的列「%(name)s」。") % {"name": name})


def _read_row(row: int, cells: tuple[str, ...], known: dict[tuple[str, str], str]) -> tuple[Combo, str]:
    """The checked combo and story of one row; `known` holds the ingredients that were checked before."""
    column = ""
    try:
        parts = []
        for column, raw in zip(AXES, cells, strict=False):
            if (column, raw) not in known:
                known[column, raw] = clean_ingredient(raw, axis=column)
            parts.append(known[column, raw])
        column = COLUMNS[-1]
        check_text(cells[-1])
    except (BadIngredient, BadText) as error:
        words = {"row": row, "column": column, "error": error}
        raise BadFile(_("第 %(row)s 行「%(column)s」列：%(error)s") % words) from error
    return Combo(*parts), cells[-1]


def _disarm(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def _replace(path: Path, content: bytes) -> None:
    """The file appears whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise
