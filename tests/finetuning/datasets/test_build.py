"""Building a dataset: what goes in, what is held back, and that the same stories give the same bytes."""

import hashlib
import json
from pathlib import Path

import pytest
from django.conf import settings

from finetuning.datasets import build_dataset, find_dataset, full_path, open_file, preview_dataset
from finetuning.datasets.lines import choose_stop
from finetuning.datasets.selection import is_held_back
from finetuning.errors import BadDataset
from finetuning.models import Dataset, DatasetRow
from finetuning.tokens import estimate_tokens
from stories.models import Story
from stories.values.combos import make_combo
from tests.factories import make_run, make_story
from tests.finetuning.factories import make_approved, make_approved_story

pytestmark = pytest.mark.django_db


def lines(relative: str) -> list[dict]:
    return [json.loads(line) for line in full_path(relative).read_text(encoding="utf-8").splitlines()]


def files() -> set[Path]:
    return set((Path(settings.MEDIA_ROOT) / "datasets").glob("*"))


def test_it_works() -> None:
    stories = make_approved(30)
    dataset = build_dataset("奥特曼")
    assert (dataset.name, dataset.version, dataset.format, dataset.stop) == ("奥特曼", 1, "chat", "")
    assert dataset.training_rows + dataset.validation_rows == 30
    content = full_path(dataset.training_file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == dataset.sha256
    asked = {line["messages"][0]["content"] for line in lines(dataset.training_file)}
    held_back = {line["messages"][0]["content"] for line in lines(dataset.validation_file)}
    assert asked | held_back == {str(story.combo) for story in stories}
    assert asked & held_back == set()
    assert lines(dataset.training_file)[0]["messages"][1]["role"] == "assistant"


def test_chat_lines_have_exactly_this_shape() -> None:
    for number in range(10):
        make_approved_story(text=f"第{number}篇\n\n“她笑了。”😀")
    dataset = build_dataset("a")
    first = full_path(dataset.training_file).read_bytes().split(b"\n")[0].decode()
    start = '{"messages": [{"role": "user", "content": "唐,隐形,轻松"}, {"role": "assistant", "content": "第'
    assert first.startswith(start)
    assert first.endswith('篇\\n\\n“她笑了。”😀"}]}')


def test_completion_lines_are_the_notebooks() -> None:
    for number in range(10):
        make_approved_story(text=f"\n\n第{number}篇，城市安静下来。")
    dataset = build_dataset("a", format="completion")
    assert dataset.stop == "."
    texts = {f" \n\n第{number}篇，城市安静下来。." for number in range(10)}
    assert {line["completion"] for line in lines(dataset.training_file)} == texts
    assert {line["prompt"] for line in lines(dataset.training_file)} == {"唐,隐形,轻松 ->"}


def test_the_notebooks_own_lines_come_out_as_they_were() -> None:
    sample = (Path(__file__).parents[1] / "samples" / "prepared_2023.jsonl").read_bytes().splitlines()
    for line in map(json.loads, sample):
        combo = make_combo(*line["prompt"].removesuffix(" ->").split(","))
        make_approved_story(combo=combo, text=line["completion"][1:-1])
    for number in range(8):
        make_approved_story(text=f"第{number}篇。")
    dataset = build_dataset("a", format="completion")
    written = full_path(dataset.training_file).read_bytes().splitlines()
    assert len(sample) == 2
    assert set(sample) <= set(written)


@pytest.mark.parametrize(
    ("texts", "stop"),
    [
        (["一。", "二！"], "."),
        (["版本 3.5 发布。"], " END"),
        (["3.5", "THE END"], "\n\n###\n\n"),
        (["3.5", " END", "\n\n###\n\n", "***", "+"], " END1"),
        (["3.5 END END1 END2\n\n###\n\n***+++"], " END3"),
    ],
)
def test_stop_is_the_first_string_that_occurs_in_no_story(texts: list[str], stop: str) -> None:
    assert choose_stop(texts) == stop


def test_stop_may_not_begin_inside_a_story() -> None:
    assert choose_stop(["3.5 END", "\n\n###\n\n", "一颗星*"]) == "+++"


def test_only_approved_stories_with_their_edited_text() -> None:
    make_approved(10)
    make_story(text="未审的")
    make_story(text="拒绝的", verdict=Story.Verdict.REJECTED)
    make_approved_story(text="原文", edited_text="改过的")
    dataset = build_dataset("a")
    texts = set(dataset.rows.values_list("text", flat=True))
    assert len(texts) == 11
    assert "改过的" in texts
    assert not texts & {"未审的", "拒绝的", "原文"}


def test_a_later_edit_does_not_change_it() -> None:
    stories = make_approved(10)
    dataset = build_dataset("a")
    before = full_path(dataset.training_file).read_bytes()
    Story.objects.filter(pk=stories[0].pk).update(edited_text="后来改的")
    assert full_path(dataset.training_file).read_bytes() == before
    assert not dataset.rows.filter(text="后来改的").exists()


def test_same_stories_give_the_same_bytes_whatever_their_order_and_keys() -> None:
    make_approved(30)
    first = build_dataset("a")
    texts = [(story.combo, story.text) for story in Story.objects.order_by("?")]
    DatasetRow.objects.update(story=None)
    Story.objects.all().delete()
    for combo, text in texts:
        make_approved_story(combo=combo, text=text)
    second = build_dataset("b")
    assert (first.sha256, first.validation_sha256) == (second.sha256, second.validation_sha256)
    assert full_path(first.training_file).read_bytes() == full_path(second.training_file).read_bytes()


def test_repeats_of_a_combo_are_never_split() -> None:
    for story in make_approved(30):
        make_approved_story(combo=story.combo, text=story.text + "又一篇。")
    dataset = build_dataset("a")
    sides = set(dataset.rows.values_list("dynasty", "super_power", "story_type", "split"))
    assert len(sides) == 30
    assert 0 < dataset.validation_rows < 15


def test_combos_are_held_back_at_about_one_in_ten() -> None:
    held_back = sum(is_held_back(make_combo(f"朝{number}", "飞行", "努力")) for number in range(2000))
    assert 150 < held_back < 250


def test_too_few_for_both_sides_all_are_for_training() -> None:
    held_back = next(c for n in range(99) if is_held_back(c := make_combo(f"朝{n}", "飞行", "努力")))
    for number in range(3):
        make_approved_story(combo=held_back, text=f"留出的第{number}篇")
    others = [c for n in range(99) if not is_held_back(c := make_combo(f"朝{n}", "飞行", "努力"))][:9]
    for combo in others:
        make_approved_story(combo=combo, text=f"{combo}的故事")
    dataset = build_dataset("a")
    assert (dataset.training_rows, dataset.validation_rows, dataset.validation_file) == (12, 0, "")


def test_a_text_goes_in_once() -> None:
    make_approved(10)
    for _twice in range(2):
        make_approved_story(text="一模一样。")
    assert build_dataset("a").rows.count() == 11


@pytest.mark.parametrize("rows", [0, 9])
def test_fewer_than_ten_rows_are_refused_and_nothing_is_left(rows: int) -> None:
    make_approved(rows)
    before = files()
    with pytest.raises(BadDataset, match=rf"^只有 {rows} 篇已采纳的故事，至少要 10 篇。请先审核更多故事。$"):
        build_dataset("a")
    assert Dataset.objects.count() == 0
    assert files() == before


def test_duplicates_do_not_count_towards_ten() -> None:
    make_approved(9)
    for _twice in range(2):
        make_approved_story(text="一模一样。")
    assert build_dataset("a").rows.count() == 10
    Story.objects.filter(pk=make_approved(9)[0].pk).update(text="一模一样。")
    Dataset.objects.all().delete()
    Story.objects.exclude(text="一模一样。").delete()
    with pytest.raises(BadDataset, match="只有 1 篇可用的已采纳故事（另有 2 篇重复）"):
        build_dataset("a")


def test_stories_of_runs() -> None:
    make_approved(10)
    run = make_run()
    for number in range(10):
        make_approved_story(run=run, text=f"批次里的第{number}篇")
    dataset = build_dataset("a", runs=[run])
    assert list(dataset.runs.all()) == [run]
    assert {row.text for row in dataset.rows.all()} == {f"批次里的第{number}篇" for number in range(10)}


def test_since_leaves_out_the_whole_chain() -> None:
    make_approved(10)
    first = build_dataset("a")
    make_approved_story(text=first.rows.first().text)
    for number in range(10):
        make_approved_story(text=f"第二批{number}")
    second = build_dataset("a", since=first)
    assert {row.text for row in second.rows.all()} == {f"第二批{number}" for number in range(10)}
    with pytest.raises(BadDataset, match=r"^自 a@2 以来只有 0 篇新采纳的故事，至少要 10 篇。$"):
        build_dataset("a", since=second)
    for number in range(10):
        make_approved_story(text=f"第三批{number}")
    third = build_dataset("a", since=second)
    assert {row.text for row in third.rows.all()} == {f"第三批{number}" for number in range(10)}


def test_versions_and_how_they_are_found() -> None:
    make_approved(10)
    build_dataset("a")
    make_approved_story(text="再来一篇")
    build_dataset("a")
    build_dataset("b")
    assert [str(find_dataset(name)) for name in ("a", "a@1", "a@2", "b")] == ["a@2", "a@1", "a@2", "b@1"]
    for missing in ("c", "a@3", "a@", "a@x", "a@²", "@1", "a@-1", ""):
        with pytest.raises(BadDataset, match=f"^没有名为 {missing} 的数据集。$"):
            find_dataset(missing)


@pytest.mark.parametrize("name", ["", "a@2", "../a", "a/b", "a b", ".a", "a\n", "字" * 61, "a\0"])
def test_bad_names_are_refused(name: str) -> None:
    make_approved(10)
    with pytest.raises(BadDataset, match="数据集名称只能有"):
        build_dataset(name)
    assert Dataset.objects.count() == 0


def test_unknown_format_is_refused() -> None:
    with pytest.raises(BadDataset, match="chat 或 completion"):
        build_dataset("a", format="xml")


def test_a_changed_file_is_not_opened() -> None:
    make_approved(10)
    dataset = build_dataset("changed")
    path = full_path(dataset.training_file)
    path.write_bytes(path.read_bytes() + b"{}\n")
    with pytest.raises(BadDataset, match="被改动过"):
        open_file(dataset.training_file, expected_sha256=dataset.sha256)
    path.unlink()
    with pytest.raises(BadDataset, match="不见了"):
        open_file(dataset.training_file, expected_sha256=dataset.sha256)


def test_preview_says_what_a_build_would_hold() -> None:
    make_approved(30)
    make_approved_story(text="一模一样。")
    make_approved_story(text="一模一样。")
    preview = preview_dataset()
    dataset = build_dataset("a")
    assert preview.duplicates == 1
    assert preview.problem == ""
    assert (preview.training_rows, preview.validation_rows, preview.tokens) == (
        dataset.training_rows,
        dataset.validation_rows,
        dataset.tokens,
    )
    assert preview_dataset(since=dataset).problem == "自 a@1 以来只有 0 篇新采纳的故事，至少要 10 篇。"


def test_tokens_of_chinese_and_other_text() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("唐" * 100) == 93
    assert estimate_tokens("a" * 100) == 30
    assert estimate_tokens("唐a", messages=2) == 2 + 8


def test_a_build_that_fails_midway_leaves_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    make_approved(10)

    def broken(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(DatasetRow.objects, "bulk_create", broken)
    with pytest.raises(OSError, match="disk full"):
        build_dataset("a")
    assert Dataset.objects.count() == 0
