"""stories/library/csv_files.py and its two commands: exact, or refused whole."""

import csv
import hashlib
import io
import json
import time
import tracemalloc
import zipfile

import pandas as pd
import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stories.errors import BadFile
from stories.library import csv_files
from stories.library.csv_files import dump_stories, read_stories
from stories.library.imports import import_stories
from stories.models import Review, Story
from stories.values.combos import Combo
from tests.factories import make_story

pytestmark = pytest.mark.django_db

HEADER = "dynasty,super_power,story_type,story\n"
ODD_TEXTS = [
    "一\n二\r\n三\r四",
    "他说：“好”，\"quoted\", 'single',，。！？；：",
    "🦸‍♀️ 👩‍👩‍👧‍👦 𠮷",
    "NA",
    "null",
    "NaN",
    "  前后有空格\u3000 ",
    "\n开头换行，结尾换行\n",
    '=HYPERLINK("http://example.com","点我")',
    "-1",
    "1.50",
    '"',
    '""',
    "\ufeff开头",
    "a\tb\x0b\x0c\x1c\x85\u2028\u2029c",
    "#注释",
    "逗号,在,里面",
]


def read(text):
    return list(read_stories(io.BytesIO(text.encode())))


def refusal(content):
    content = content.encode() if isinstance(content, str) else content
    with pytest.raises(BadFile) as caught:
        import_stories(io.BytesIO(content))
    assert Story.objects.count() == 0
    return str(caught.value)


def stories():
    fields = ("dynasty", "super_power", "story_type", "text")
    return list(Story.objects.order_by("created_at", "pk").values_list(*fields))


def test_odd_texts_come_back_exactly(tmp_path):
    made = [make_story(text=text) for text in ODD_TEXTS]
    call_command("export_stories", tmp_path / "a.csv")
    Story.objects.all().delete()
    call_command("import_stories", tmp_path / "a.csv")
    assert stories() == [("唐", "隐形", "轻松", story.text) for story in made]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60).filter(
            str.strip
        )
        | st.text("\r\n\",，a'= \u3000", max_size=12).filter(str.strip),
        max_size=6,
    )
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_exactly(texts):
    Story.objects.all().delete()
    Story.objects.bulk_create(
        Story(
            dynasty="唐",
            super_power="隐形",
            story_type="轻松",
            origin="import",
            state="written",
            text=text,
            length=len(text),
        )
        for text in texts
    )
    content, rows = dump_stories(Story.objects.all())
    assert rows == len(texts)
    assert [text for _, text in read_stories(io.BytesIO(content))] == texts


def test_an_imported_story_is_written_and_private(alice):
    rows = import_stories(io.BytesIO(f"{HEADER}秦,龙卷风,勇敢,很久以前\n".encode()))
    story = Story.objects.get()
    assert rows == 1
    assert (story.combo, story.text, story.length) == (Combo("秦", "龙卷风", "勇敢"), "很久以前", 4)
    assert (story.origin, story.state, story.verdict, story.visibility) == (
        "import",
        "written",
        "unreviewed",
        "private",
    )


def test_an_approved_import_is_reviewed_by_its_editor(alice, tmp_path):
    (tmp_path / "a.csv").write_text(f"{HEADER}秦,龙卷风,勇敢,很久以前\n", encoding="utf-8")
    call_command("import_stories", tmp_path / "a.csv", "--approve", "--by", "alice")
    assert Story.objects.library().count() == 1
    assert Review.objects.get().editor == alice


@pytest.mark.parametrize(
    "text",
    [
        ",dynasty,super_power,story_type,story\n0,唐,隐形,轻松,正文\n",
        "Unnamed: 0,dynasty,super_power,story_type,story\n0,唐,隐形,轻松,正文\n",
        ",Unnamed: 0,dynasty,super_power,story_type,story\n0,0,唐,隐形,轻松,正文\n",
        "story,story_type,super_power,dynasty\n正文,轻松,隐形,唐\n",
        "\ufeff" + HEADER + "唐,隐形,轻松,正文\n",
        HEADER.replace("\n", "\r\n") + "唐,隐形,轻松,正文\r\n\r\n",
        "\n" + HEADER + "\n 唐 ,\u3000隐形,轻松,正文",
        '"dynasty","super_power","story_type","story"\n"唐","隐形","轻松","正文"',
        "\ufeff" + HEADER.replace("\n", ",\r\n") + "唐,隐形,轻松,正文,\r\n",
        HEADER.replace("\n", ",,\n") + "唐,隐形,轻松,正文,, \n,,,,,\n\n,\n",
        HEADER.replace("\n", ",Unnamed: 4\n") + "唐,隐形,轻松,正文,\n",
        "dynasty,,super_power,story_type,story,\n唐,,隐形,轻松,正文\n",
        ",,,\n,dynasty,super_power,story_type,story\n,,,,\n,唐,隐形,轻松,正文,,,\n",
    ],
)
def test_harmless_variants_are_read(text):
    assert read(text) == [(Combo("唐", "隐形", "轻松"), "正文")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "文件是空的，第 1 行应是表头：dynasty,super_power,story_type,story。"),
        (
            "dynasty,super_power,story\n唐,隐形,正文\n",
            "第 1 行（表头）里缺少「story_type」列；应有的列：dynasty,super_power,story_type,story。",
        ),
        ("dynasty," + HEADER + "唐,唐,隐形,轻松,正文\n", "第 1 行（表头）里「dynasty」列出现了两次。"),
        ("note," + HEADER + "x,唐,隐形,轻松,正文\n", "第 1 行（表头）里有不认识的列「note」。"),
        (
            HEADER.strip() + ",\n唐,隐形,轻松,正文,\n,,,,\n\n唐,隐形,轻松,正文,备注\n",
            "第 5 行的 E5 格有内容「备注」，这一列却没有列名。",
        ),
        (
            "dynasty,,super_power,story_type,story\n唐,0,隐形,轻松,正文\n",
            "第 2 行的 B2 格有内容「0」，这一列却没有列名。",
        ),
        (HEADER + "\n\n,,,\n唐,隐形,轻松,\n", "第 5 行「story」列：故事正文是空的。"),
        (HEADER + ",,,\n唐,,轻松,正文\n", "第 3 行「super_power」列：请填写超能力。"),
        (
            "dynasty,super_power,story_type,story,'quoted\n唐,隐形,轻松,正文,'quoted\n唐,隐形,轻松,正文,yes\n",
            "第 3 行「'quoted」列：这里只能是「'quoted」或空着，不能是「yes」。",
        ),
        (HEADER + "唐,隐形,轻松\n", "第 2 行有 3 格，应有 4 格（到「story」列为止）。"),
        (
            HEADER + "唐,隐形,轻松,正文\n唐,隐形,轻松,正,文\n",
            "第 3 行有 5 格，应有 4 格（到「story」列为止）。",
        ),
        (HEADER + '唐,隐形,轻松,"正文\n', "第 2 行的引号或换行不成对，无法读懂。"),
        (HEADER + '唐,隐形,轻松,"正"文\n', "第 2 行的引号或换行不成对，无法读懂。"),
        (HEADER + ",隐形,轻松,正文\n", "第 2 行「dynasty」列：请填写朝代。"),
        (
            HEADER + "唐,隐形,轻松,正文\n唐," + "隐" * 33 + ",轻松,正文\n",
            "第 3 行「super_power」列：超能力最多 32 个字，这里有 33 个。",
        ),
        (HEADER + '唐,"隐,形",轻松,正文\n', "第 2 行「super_power」列：超能力里不能有逗号。"),
        (HEADER + '唐,隐形,"轻\n松",正文\n', "第 2 行「story_type」列：战斗里不能有换行或控制字符。"),
        (HEADER + "唐\u202e,隐形,轻松,正文\n", "第 2 行「dynasty」列：朝代里不能有换行或控制字符。"),
        (HEADER + "唐\0,隐形,轻松,正文\n", "第 2 行「dynasty」列：朝代里不能有换行或控制字符。"),
        (HEADER + "唐,隐形,轻松,\n", "第 2 行「story」列：故事正文是空的。"),
        (HEADER + "唐,隐形,轻松,正\0文\n", "第 2 行「story」列：故事正文里有 NUL 字符，无法保存。"),
        (
            HEADER + "唐,隐形,轻松," + "字" * 20_001,
            "第 2 行「story」列：故事正文最多 20,000 个字，这里有 20,001 个。",
        ),
        (HEADER + "唐,隐形,轻松," + "字" * 200_000, "第 2 行有一格太长（故事最多 20,000 个字）。"),
    ],
)
def test_bad_files_are_refused_whole_naming_row_and_column(text, sentence):
    assert refusal(text) == sentence


def test_the_first_good_rows_of_a_bad_file_are_not_kept():
    good = "唐,隐形,轻松,正文\n" * 600
    assert refusal(HEADER + good + "唐,隐形,轻松,\n") == "第 602 行「story」列：故事正文是空的。"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ((HEADER + "唐,隐形,轻松,正文").encode("utf-16"), "文件是 UTF-16 编码，请另存为 UTF-8 再导入。"),
        ((HEADER + "唐,隐形,轻松,正文").encode("utf-16-le"), "文件是 UTF-16 编码，请另存为 UTF-8 再导入。"),
        (
            (HEADER + "唐,隐形,轻松,正文").encode("gb18030"),
            "文件像是 GB18030（GBK）编码，请另存为 UTF-8 再导入。",
        ),
        (HEADER.encode() + b"\xff\xff\xff\n", "文件不是 UTF-8 编码（文件第 2 行）。"),
    ],
)
def test_other_encodings_are_named(content, sentence):
    assert refusal(content) == sentence


def test_a_giant_file_is_refused_without_being_read(tmp_path):
    with (tmp_path / "giant.csv").open("wb") as file:
        file.truncate(481 * 1024 * 1024)
    started = time.monotonic()
    with pytest.raises(CommandError, match="文件超过 480 MB，请分成几个文件导入。"):
        call_command("import_stories", tmp_path / "giant.csv")
    assert time.monotonic() - started < 2


def test_what_can_be_read_only_once_is_bounded_as_it_comes(monkeypatch):
    class Pipe(io.RawIOBase):
        def read(self, size=-1):
            return b"x" * size

    monkeypatch.setattr(csv_files, "MAX_BYTES", 3 * 1024 * 1024)
    with pytest.raises(BadFile, match="文件超过 3 MB"):
        import_stories(Pipe())


def test_a_header_of_a_hundred_thousand_columns_is_refused_at_once():
    header = ",".join(f"c{number}" for number in range(100_000))
    started = time.monotonic()
    assert refusal(f"{header}\n") == "第 1 行（表头）有 100,000 列，最多 100 列。"
    assert time.monotonic() - started < 1  # 65 s, when each name was counted first


@pytest.mark.parametrize(
    "row",
    ["x" * 1_000_001, '"\n",' * 300_000, "x," * 600_000],
    ids=["one line", "a cell per line", "one line of cells"],
)
def test_a_row_without_end_is_refused_before_it_fills_the_memory(row):
    assert refusal(f"{HEADER}唐,隐形,轻松,正文\n{row}\n") == "第 3 行太长（最多 1,000,000 个字）。"


def test_no_more_rows_than_the_bound(monkeypatch):
    assert csv_files.MAX_ROWS == 500_000
    monkeypatch.setattr(csv_files, "MAX_ROWS", 3)
    assert len(read(HEADER + "唐,隐形,轻松,正文\n" * 3)) == 3
    assert refusal(HEADER + "唐,隐形,轻松,正文\n" * 4) == "文件超过 3 篇故事，请分成几个文件导入。"


def test_a_large_file_is_read_row_by_row(tmp_path):
    with (tmp_path / "a.csv").open("w", encoding="utf-8") as file:
        file.write(HEADER)
        file.writelines(f"唐,隐形,轻松,{'字' * 3000}\n" for _ in range(5000))
    with (tmp_path / "a.csv").open("rb") as file:
        tracemalloc.start()
        assert sum(1 for _row in read_stories(file)) == 5000
        _now, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 10_000_000  # the file has 45 MB


def test_an_export_has_the_notebooks_shape_and_the_editors_text(tmp_path):
    make_story(text="旧文", edited_text="新\n文", verdict="approved")
    make_story(text="没有采纳")
    make_story(state="interrupted", text="断")
    call_command("export_stories", tmp_path / "a.csv", "--verdict", "approved")
    content = (tmp_path / "a.csv").read_bytes()
    assert content.decode() == ('"dynasty","super_power","story_type","story"\n"唐","隐形","轻松","新\n文"\n')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.csv.aigc.json"]


def test_the_label_beside_an_export_names_its_file(tmp_path):
    make_story()
    call_command("export_stories", tmp_path / "a.csv")
    label = json.loads((tmp_path / "a.csv.aigc.json").read_text())
    digest = hashlib.sha256((tmp_path / "a.csv").read_bytes()).hexdigest()
    assert label == {
        "AIGC": {
            "Label": "1",
            "ContentProducer": "ultraman-stories",
            "ProduceID": f"sha256:{digest}",
            "ReservedCode1": "",
            "ContentPropagator": "ultraman-stories",
            "PropagateID": "a.csv",
            "ReservedCode2": "",
        },
        "file": "a.csv",
        "sha256": digest,
        "rows": 1,
    }


def for_spreadsheet():
    return dump_stories(Story.objects.all(), for_spreadsheet=True)[0]


@pytest.mark.parametrize(
    "text",
    [
        *("=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t1", "\r1", "\n1", "\n=1", "\r\n=1", " =1", "\u3000=1"),
        *(
            "\xa0 @1",
            "\u200b=1",
            "\ufeff=1",
            "\x0b=1",
            "＝1",
            "＋1",
            "－1",
            "＠1",
            " ＝1",
            "﹦1",
            "'=1",
            "''\n＝1",
            "'字",
            "'",
            "''",
        ),
    ],
)
def test_a_spreadsheet_runs_no_cell(text):
    make_story(text=text)
    content = for_spreadsheet()
    assert content.decode("utf-8-sig") == (
        f'"dynasty","super_power","story_type","story","\'quoted"\n"唐","隐形","轻松","\'{text}","\'quoted"\n'
    )
    assert content.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("text", ["字", "a=b", "1-2", "（=1）", "——破折号", "…", "字'", "1"])
def test_a_harmless_cell_goes_to_a_spreadsheet_as_it_is(text):
    make_story(text=text)
    assert for_spreadsheet().decode("utf-8-sig").splitlines()[1] == f'"唐","隐形","轻松","{text}","\'quoted"'


def resaved(content, *, encoding="utf-8", lineterminator="\r\n", empty=0, eats_quotes=False):
    """The file as a spreadsheet program writes it: perhaps without a byte order mark, perhaps with empty columns and
    rows, perhaps without the first quote of a cell, which means "this is text" to them.
    """
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    if eats_quotes:
        rows = [[cell.removeprefix("'") for cell in row] for row in rows]
    rows = [row + [""] * empty for row in rows] + [[""] * (len(rows[0]) + empty)] * empty
    written = io.StringIO(newline="")
    # Python's writer does not see that a lone \r needs quotes where lines end with \n.
    quoting = csv.QUOTE_ALL if lineterminator == "\n" else csv.QUOTE_MINIMAL
    csv.writer(written, lineterminator=lineterminator, quoting=quoting).writerows(rows)
    return written.getvalue().encode(encoding)


PROGRAMS = {
    "untouched": lambda content: content,
    "Excel": lambda content: resaved(content, encoding="utf-8-sig", empty=1),
    "LibreOffice": lambda content: resaved(content, lineterminator="\n"),
    "a program that eats quotes": lambda content: resaved(content, eats_quotes=True, empty=2),
    "pandas": lambda content: (
        pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        .to_csv(lineterminator="\n", quoting=csv.QUOTE_ALL)
        .encode()
    ),
}
NASTY = st.text("'=+@-\t\r\n \"＝＋,字\u3000\u200b\ufeff", min_size=1, max_size=8).filter(str.strip)
NASTY_INGREDIENT = st.text("'=+@-\"＝＋字1", min_size=1, max_size=6)


@pytest.mark.parametrize("program", PROGRAMS)
@given(st.lists(st.tuples(NASTY_INGREDIENT, NASTY_INGREDIENT, NASTY), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_for_a_spreadsheet_comes_back_exactly(program, rows):
    Story.objects.all().delete()
    for dynasty, power, text in rows:
        make_story(text=text, dynasty=dynasty, super_power=power)
    expected = [(Combo(dynasty, power, "轻松"), text) for dynasty, power, text in rows]
    assert list(read_stories(io.BytesIO(PROGRAMS[program](for_spreadsheet())))) == expected
    plain, _rows = dump_stories(Story.objects.all())
    assert list(read_stories(io.BytesIO(plain))) == expected


def test_the_admins_file_comes_back_through_the_command(tmp_path):
    """Cells that begin with signs, and one that really began with a quote: nothing is gained, no ingredient is new."""
    cells = [
        ("+10力量", "-快跑！-打铁的"),
        ("@所有人", "=奇遇= 夏朝有"),
        ("念力", "'=引号开头的奇遇="),
        ("'", "''"),
    ]
    for power, text in cells:
        make_story(super_power=power, text=text)
    (tmp_path / "a.csv").write_bytes(resaved(for_spreadsheet()))
    Story.objects.all().delete()
    call_command("import_stories", tmp_path / "a.csv")
    assert stories() == [("唐", power, "轻松", text) for power, text in cells]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("text", ["'=引号", "'字", "''", "'-1"])
def test_a_quote_in_a_file_of_ones_own_stays(mark, text):
    assert read(mark + HEADER + f"唐,隐形,轻松,{text}\n") == [(Combo("唐", "隐形", "轻松"), text)]


def test_a_row_added_to_the_admins_file_says_what_it_says():
    make_story(text="'字")
    content = for_spreadsheet().decode() + "唐,隐形,轻松,'自己写的,\n唐,隐形,轻松,'又一篇\n"
    assert [text for _combo, text in read(content)] == ["'字", "'自己写的", "'又一篇"]


@pytest.mark.parametrize("name", ["stories.zip", "stories.xlsx"])
def test_a_workbook_or_an_archive_is_named(name):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("stories.csv", HEADER)
    assert refusal(packed.getvalue()) == (
        "文件是 Excel 工作簿或压缩包，不是 CSV：请在表格软件里另存为「CSV UTF-8」，或先解压。"
    )


def test_thousands_of_rows_are_imported_quickly():
    content = (HEADER + f"唐,隐形,轻松,{'字' * 300}\n" * 5000).encode()
    started = time.process_time()  # without the pauses, and whatever else this machine does
    assert import_stories(io.BytesIO(content)) == 5000
    assert time.process_time() - started < 10


def run_json(capsys, *args):
    """The command's exit sentence ("" if it went well) and the object of its last line."""
    error = ""
    try:
        call_command(*args, "--json")
    except CommandError as caught:
        error = str(caught)
    return error, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_commands_answer_in_json(capsys, tmp_path, alice):
    (tmp_path / "a.csv").write_text(HEADER + "唐,隐形,轻松,正文\n" * 2)
    assert run_json(capsys, "import_stories", tmp_path / "a.csv") == ("", {"rows": 2})
    reviewing = ("review_stories", "--verdict", "approved", "--by", "alice")
    assert run_json(capsys, *reviewing) == ("", {"reviewed": 2})
    assert run_json(capsys, "export_stories", tmp_path / "b.csv") == ("", {"rows": 2})


def test_bad_input_of_the_commands_is_one_sentence(capsys, tmp_path, reader, alice):
    (tmp_path / "a.csv").write_text(HEADER + "唐,隐形,轻松,正文\n")
    missing = tmp_path / "none.csv"
    cases = [
        (("import_stories", missing), f"找不到文件「{missing}」。", "rows"),
        (("import_stories", tmp_path), f"文件「{tmp_path}」用不了：Is a directory。", "rows"),
        (
            ("import_stories", tmp_path / "a.csv", "--approve"),
            "--approve 与 --by USER 要一起用：采纳总要有一位编辑。",
            "rows",
        ),
        (
            ("import_stories", tmp_path / "a.csv", "--approve", "--by", "nobody"),
            "没有用户「nobody」。",
            "rows",
        ),
        (("export_stories", tmp_path / "no" / "b.csv"), "", "rows"),
        (
            ("review_stories", "--verdict", "approved", "--by", "reader"),
            "用户「reader」不是编辑。",
            "reviewed",
        ),
        (
            ("review_stories", "--verdict", "approved", "--by", "alice", "--run", "9"),
            "没有批次 #9。",
            "reviewed",
        ),
    ]
    for args, sentence, key in cases:
        error, answer = run_json(capsys, *args)
        assert answer == {key: None, "error": error}
        assert error == sentence or (not sentence and error.startswith("找不到文件"))
    assert Story.objects.count() == 0


def test_a_failed_export_leaves_the_older_file(tmp_path, monkeypatch):
    make_story()
    (tmp_path / "a.csv").write_text("older")

    def full(*args):
        raise OSError(28, "No space left on device", "a.csv")

    monkeypatch.setattr("stories.operations.atomic_files.os.replace", full)
    with pytest.raises(CommandError, match="No space left"):
        call_command("export_stories", tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "older"
