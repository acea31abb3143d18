"""Stories in and out of CSV files, exactly: `dynasty,super_power,story_type,story`.

A file is read row by row, never held whole, by Python's strict reader; every bound is checked before anything
grows with it. The AI label that GB 45438-2025 asks for goes into a second file beside the exported one.

A file for a spreadsheet begins with a byte order mark, and a cell that the spreadsheet would run gets one more
quote in front. Reading a file with that mark removes the quote again, so every cell comes back as it was.
"""

import codecs
import csv
import hashlib
import io
import os
import tempfile
import unicodedata
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from django.db.models import QuerySet

from sentences import sentence as _
from stories.errors import BadFile, BadIngredient
from stories.library.labels import file_label, label_path
from stories.models import Story
from stories.operations.atomic_files import write_file
from stories.values.combos import AXES, Combo, clean_ingredient
from stories.values.texts import MAX_LENGTH, BadText, check_text

COLUMNS = (*AXES, "story")
INDEX_NAMES = ("", "Unnamed: 0")
MAX_ROWS = 500_000
MAX_BYTES = 480 * 1024 * 1024  # as many rows of 300 Chinese characters
MAX_COLUMNS = 100
MAX_ROW = 1_000_000  # characters, as they stand in the file
BLOCK = 1024 * 1024  # bytes
# What a spreadsheet would run: OWASP, "CSV injection".
FORMULA_SIGNS = ("=", "+", "-", "@")
FORMULA_SPACES = ("\t", "\r", "\n")


def check_stories(file: BinaryIO) -> int:
    """Reads the file to its end; how many stories it has. Raises `BadFile`, naming row (the header is 1) and column."""
    return sum(1 for _row in read_stories(file))


def read_stories(file: BinaryIO) -> Generator[tuple[Combo, str], None, None]:
    """The checked rows of a CSV file, from its beginning, one at a time. Raises `BadFile` at the first bad one."""
    marked = _check_bytes(file)
    file.seek(0)
    source = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield from _read_rows(source, rearm=marked)
    finally:
        source.detach()


@contextmanager
def seekable(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file, or a copy on the disk of one that can be read only once. Raises `BadFile` for one too large."""
    if file.seekable():
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        while block := file.read(BLOCK):
            copy.write(block)
            check_size(copy.tell())
        yield copy


def export_stories(stories: QuerySet[Story], path: Path) -> int:
    """Writes the final texts to `path` and the AI label beside it; how many. Both files appear whole."""
    content, rows = dump_stories(stories)
    write_file(path, content)
    write_file(label_path(path), file_label(hashlib.sha256(content).hexdigest(), name=path.name, rows=rows))
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


# --- bytes ----------------------------------------------------------------------------------------------


def check_size(size: int) -> None:
    """Raises `BadFile` for a file of too many bytes."""
    if size > MAX_BYTES:
        raise BadFile(_("文件超过 %(max)s MB，请分成几个文件导入。") % {"max": MAX_BYTES // 1024 // 1024})


def _check_bytes(file: BinaryIO) -> bool:
    """Raises `BadFile` unless the file is small enough and UTF-8; whether it begins with a byte order mark."""
    check_size(file.seek(0, os.SEEK_END))
    file.seek(0)
    head = file.read(4000)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or head.count(b"\0") > len(head) / 5:
        raise BadFile(_("文件是 UTF-16 编码，请另存为 UTF-8 再导入。"))
    line = _find_undecodable(file, "utf-8")
    if line and not _find_undecodable(file, "gb18030"):
        raise BadFile(_("文件像是 GB18030（GBK）编码，请另存为 UTF-8 再导入。"))
    if line:
        raise BadFile(_("文件不是 UTF-8 编码（文件第 %(line)s 行）。") % {"line": line})
    return head.startswith(codecs.BOM_UTF8)


def _find_undecodable(file: BinaryIO, encoding: str) -> int:
    """The first line of the file that is not of this encoding; 0 if all are."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    file.seek(0)
    while True:
        block = file.read(BLOCK)
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            # `error.object` also has the rest of the block before: part of a character, without a line's end.
            return lines + error.object.count(b"\n", 0, error.start)
        if not block:
            return 0
        lines += block.count(b"\n")


# --- rows -----------------------------------------------------------------------------------------------


class _Lines:
    """The lines of a text, for the CSV reader: those of one row have at most `MAX_ROW` characters together."""

    def __init__(self, source: io.TextIOWrapper) -> None:
        self.source = source
        self.row = 1
        self.left = MAX_ROW

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.source.readline(self.left + 1)
        if not line:
            raise StopIteration
        self.left -= len(line)
        if self.left < 0:
            words = {"row": self.row, "max": f"{MAX_ROW:,}"}
            raise BadFile(_("第 %(row)s 行太长（最多 %(max)s 个字）。") % words)
        return line

    def next_row(self) -> None:
        self.row += 1
        self.left = MAX_ROW


def _read_rows(source: io.TextIOWrapper, *, rearm: bool) -> Iterator[tuple[Combo, str]]:
    rows = _strict_rows(source)
    header = next(rows, [])
    _check_header(header)
    places = [header.index(name) for name in COLUMNS]
    for row, cells in enumerate(rows, start=2):
        if row > MAX_ROWS + 1:
            raise BadFile(_("文件超过 %(max)s 篇故事，请分成几个文件导入。") % {"max": f"{MAX_ROWS:,}"})
        if len(cells) != len(header):
            words = {"row": row, "count": len(cells), "expected": len(header), "first": header[-1]}
            raise BadFile(
                _("第 %(row)s 行有 %(count)s 格，应有 %(expected)s 格（到「%(first)s」列为止）。") % words
            )
        ours = [cells[place] for place in places]
        yield _read_row(row, [_rearm(cell) for cell in ours] if rearm else ours)


def _strict_rows(source: io.TextIOWrapper) -> Iterator[list[str]]:
    """The rows that are not blank. Raises `BadFile` for stray quotes, giant cells and giant rows."""
    lines = _Lines(source)
    reader = csv.reader(lines, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            words = {"row": lines.row, "max": f"{MAX_LENGTH:,}"}
            if "field limit" in str(error):
                raise BadFile(_("第 %(row)s 行有一格太长（故事最多 %(max)s 个字）。") % words) from None
            raise BadFile(_("第 %(row)s 行的引号或换行不成对，无法读懂。") % words) from None
        if cells:
            yield cells
            lines.next_row()
        else:
            lines.left = MAX_ROW


def _check_header(header: list[str]) -> None:
    """Raises `BadFile` unless the columns are ours, each once, with a pandas index before them at most."""
    if not header:
        raise BadFile(_("文件是空的，第 1 行应是表头：%(columns)s。") % {"columns": ",".join(COLUMNS)})
    if len(header) > MAX_COLUMNS:
        words = {"count": f"{len(header):,}", "max": MAX_COLUMNS}
        raise BadFile(_("第 1 行（表头）有 %(count)s 列，最多 %(max)s 列。") % words)
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


def _read_row(row: int, cells: list[str]) -> tuple[Combo, str]:
    """The checked combo and story of one row."""
    column = ""
    try:
        parts = []
        for column, raw in zip(AXES, cells, strict=False):
            parts.append(_clean(raw, axis=column))
        column = COLUMNS[-1]
        check_text(cells[-1])
    except (BadIngredient, BadText) as error:
        words = {"row": row, "column": column, "error": error}
        raise BadFile(_("第 %(row)s 行「%(column)s」列：%(error)s") % words) from error
    return Combo(*parts), cells[-1]


_clean = lru_cache(maxsize=10_000)(clean_ingredient)  # a file has few ingredients, and each many times


# --- what a spreadsheet would run -----------------------------------------------------------------------


def _disarm(cell: str) -> str:
    return f"'{cell}" if _would_run(cell) else cell


def _rearm(cell: str) -> str:
    """What `_disarm` made of a cell, as it was."""
    return cell[1:] if cell.startswith("'") and _would_run(cell[1:]) else cell


def _would_run(cell: str) -> bool:
    """Whether a spreadsheet may take the cell for a formula: behind spaces and invisible signs, in any width.

    Quotes in front do not count, so that a cell with one of its own gets a second.
    """
    bare = cell.lstrip("'")
    if bare.startswith(FORMULA_SPACES):
        return True
    first = next((char for char in bare if unicodedata.category(char)[0] not in "CZ"), "")
    return unicodedata.normalize("NFKC", first).startswith(FORMULA_SIGNS)
