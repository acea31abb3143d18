"""Stories in and out of CSV files, exactly: `dynasty,super_power,story_type,story`.

A file is read row by row, never held whole, by Python's strict reader; every bound is checked before anything
grows with it. The AI label that GB 45438-2025 asks for goes into a second file beside the exported one.

In a file for a spreadsheet, a cell that the spreadsheet would run, or that begins with a quote, gets one more quote in
front, and each row says so in the column `'quoted`: reading such a row removes one quote again, so that every cell
comes back as it was. The mark begins with a quote itself: a program that takes this one away takes those of the cells
as well. A file or row without the mark is read as it is.
"""

import codecs
import csv
import hashlib
import io
import os
import re
import tempfile
import unicodedata
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
NAMELESS = re.compile(r"\s*(Unnamed: \d+)?")  # as pandas calls a column without a name
QUOTED = "quoted"
MARK = f"'{QUOTED}"
"""Name and content of the column that says that a quote was put in front of cells of its row."""
MAX_ROWS = 500_000
MAX_BYTES = 480 * 1024 * 1024  # as many rows of 300 Chinese characters
MAX_COLUMNS = 100
MAX_ROW = 1_000_000  # characters, as they stand in the file
BLOCK = 1024 * 1024  # bytes
ZIP = b"PK\x03\x04"  # also how a workbook of Excel begins
# What a spreadsheet would run: OWASP, "CSV injection".
FORMULA_SIGNS = ("=", "+", "-", "@")
FORMULA_SPACES = ("\t", "\r", "\n")


def check_stories(file: BinaryIO) -> int:
    """Reads the file to its end; how many stories it has. Raises `BadFile`, naming row (the header is 1) and column."""
    return sum(1 for _row in read_stories(file))


def read_stories(file: BinaryIO) -> Generator[tuple[Combo, str], None, None]:
    """The checked rows of a CSV file, from its beginning, one at a time. Raises `BadFile` at the first bad one."""
    _check_bytes(file)
    file.seek(0)
    source = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield from _read_rows(source)
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

    `for_spreadsheet` adds what Excel needs to see UTF-8, a quote before cells that it would run, and our mark.
    """
    cells = stories.with_final_text().order_by("created_at", "pk").values_list(*AXES, "final")  # type: ignore[attr-defined]
    frame = pd.DataFrame(list(cells), columns=list(COLUMNS), dtype=str)
    if for_spreadsheet:
        frame = frame.map(_disarm)
        frame[MARK] = MARK
    text = frame.to_csv(index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")
    return text.encode("utf-8-sig" if for_spreadsheet else "utf-8"), len(frame)


# --- bytes ----------------------------------------------------------------------------------------------


def check_size(size: int) -> None:
    """Raises `BadFile` for a file of too many bytes."""
    if size > MAX_BYTES:
        raise BadFile(_("文件超过 %(max)s MB，请分成几个文件导入。") % {"max": MAX_BYTES // 1024 // 1024})


def _check_bytes(file: BinaryIO) -> None:
    """Raises `BadFile` unless the file is small enough and a text in UTF-8."""
    check_size(file.seek(0, os.SEEK_END))
    file.seek(0)
    head = file.read(4000)
    if head.startswith(ZIP):
        raise BadFile(
            _("文件是 Excel 工作簿或压缩包，不是 CSV：请在表格软件里另存为「CSV UTF-8」，或先解压。")
        )
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or head.count(b"\0") > len(head) / 5:
        raise BadFile(_("文件是 UTF-16 编码，请另存为 UTF-8 再导入。"))
    line = _find_undecodable(file, "utf-8")
    if line and not _find_undecodable(file, "gb18030"):
        raise BadFile(_("文件像是 GB18030（GBK）编码，请另存为 UTF-8 再导入。"))
    if line:
        raise BadFile(_("文件不是 UTF-8 编码（文件第 %(line)s 行）。") % {"line": line})


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


@dataclass(frozen=True)
class _Header:
    """The names of the columns, and where ours stand."""

    names: tuple[str, ...]

    @cached_property
    def places(self) -> list[int]:
        return [self.names.index(name) for name in COLUMNS]

    @cached_property
    def mark(self) -> int | None:
        """Where the mark stands; None for a file without it."""
        return next((place for place, name in enumerate(self.names) if name in (MARK, QUOTED)), None)

    @cached_property
    def width(self) -> int:
        """How many cells a row must have: up to the last of our columns."""
        return 1 + max(self.places)

    @cached_property
    def nameless(self) -> list[int]:
        """Columns without a name. Those before all others are the index that pandas writes, whatever it holds."""
        places = [place for place, name in enumerate(self.names) if _is_nameless(name)]
        return [place for position, place in enumerate(places) if place != position]

    def is_empty(self, cells: list[str]) -> bool:
        """Whether nothing but our mark stands in a row."""
        return not any(cell.strip() for place, cell in enumerate(cells) if place != self.mark)


def _read_rows(source: io.TextIOWrapper) -> Iterator[tuple[Combo, str]]:
    """The stories of the rows that are not empty; rows are counted as a spreadsheet does, with the empty ones."""
    rows = _strict_rows(source)
    header = _Header(tuple(next((cells for _row, cells in rows if any(map(str.strip, cells))), [])))
    _check_header(header.names)
    filled = ((row, cells) for row, cells in rows if not header.is_empty(cells))
    for stories, (row, cells) in enumerate(filled, start=1):
        if stories > MAX_ROWS:
            raise BadFile(_("文件超过 %(max)s 篇故事，请分成几个文件导入。") % {"max": f"{MAX_ROWS:,}"})
        yield _read_row(row, _our_cells(row, cells, header))


def _strict_rows(source: io.TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each row, empty ones too. Raises `BadFile` for stray quotes, giant cells and giant rows."""
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
        yield lines.row, cells
        lines.next_row()


def _check_header(header: tuple[str, ...]) -> None:
    """Raises `BadFile` unless the columns are ours, each once; columns without a name are looked at row by row."""
    if not header:
        raise BadFile(_("文件是空的，第 1 行应是表头：%(columns)s。") % {"columns": ",".join(COLUMNS)})
    if len(header) > MAX_COLUMNS:
        words = {"count": f"{len(header):,}", "max": MAX_COLUMNS}
        raise BadFile(_("第 1 行（表头）有 %(count)s 列，最多 %(max)s 列。") % words)
    named = [name for name in header if not _is_nameless(name)]
    for name in named:
        if named.count(name) > 1:
            raise BadFile(_("第 1 行（表头）里「%(name)s」列出现了两次。") % {"name": name})
    if missing := [name for name in COLUMNS if name not in header]:
        words = {"missing": "、".join(missing), "columns": ",".join(COLUMNS)}
        raise BadFile(_("第 1 行（表头）里缺少「%(missing)s」列；应有的列：%(columns)s。") % words)
    for name in named:
        if name not in (*COLUMNS, MARK, QUOTED):
            raise BadFile(_("第 1 行（表头）里有不认识的列「%(name)s」。") % {"name": name})


def _our_cells(row: int, cells: list[str], header: _Header) -> list[str]:
    """The cells of our columns, as they were before a spreadsheet. Raises `BadFile` for content where none may be.

    Spreadsheets write some rows with empty cells behind the last column, and some without those of a nameless one.
    """
    if len(cells) < header.width or any(cell.strip() for cell in cells[len(header.names) :]):
        last = header.names[header.width - 1]
        words = {"row": row, "count": len(cells), "expected": header.width, "first": last}
        raise BadFile(
            _("第 %(row)s 行有 %(count)s 格，应有 %(expected)s 格（到「%(first)s」列为止）。") % words
        )
    for place in header.nameless:
        if place < len(cells) and cells[place].strip():
            found = {"cell": f"{_letters(place)}{row}", "row": row, "text": cells[place].strip()[:40]}
            raise BadFile(_("第 %(row)s 行的 %(cell)s 格有内容「%(text)s」，这一列却没有列名。") % found)
    ours = [cells[place] for place in header.places]
    return [cell.removeprefix("'") for cell in ours] if _is_marked(row, cells, header) else ours


def _is_marked(row: int, cells: list[str], header: _Header) -> bool:
    """Whether one quote was put in front of cells of this row, and is still there.

    Rows that a person added have no mark, and say what they say.
    """
    place = header.mark
    mark = cells[place].strip() if place is not None and place < len(cells) else ""
    if mark not in ("", MARK, QUOTED):
        words = {"row": row, "name": MARK, "text": mark[:40]}
        raise BadFile(
            _("第 %(row)s 行「%(name)s」列：这里只能是「%(name)s」或空着，不能是「%(text)s」。") % words
        )
    return mark == MARK


def _is_nameless(name: str) -> bool:
    return NAMELESS.fullmatch(name) is not None


def _letters(place: int) -> str:
    """What a spreadsheet calls the column: A, B … Z, AA …"""
    return (_letters(place // 26 - 1) if place >= 26 else "") + chr(ord("A") + place % 26)


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
    """A cell as text to a spreadsheet. One with a quote of its own gets a second, so that the first is always ours."""
    return f"'{cell}" if cell.startswith("'") or _would_run(cell) else cell


def _would_run(cell: str) -> bool:
    """Whether a spreadsheet may take the cell for a formula: behind spaces and invisible signs, in any width."""
    if cell.startswith(FORMULA_SPACES):
        return True
    first = next((char for char in cell if unicodedata.category(char)[0] not in "CZ"), "")
    return unicodedata.normalize("NFKC", first).startswith(FORMULA_SIGNS)
