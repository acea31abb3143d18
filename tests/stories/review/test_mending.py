"""Stories of older versions that hold a model's thinking: flagged, mended by a named editor, or left for a person."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from stories.models import Flag, Review, Story
from stories.review import decisions
from stories.review.quality import check
from stories.review.quality.rules import CheckedText, find_flaws
from stories.tasks import check_new_stories
from tests.factories import make_approved_story, make_attempt, make_combo, make_run, make_story

pytestmark = pytest.mark.django_db
THOUGHT = "用户要一个故事。先定时代。"
STORY = "从前有座山。\n\n奥特曼来了。"
HELD = f"<think>\n{THOUGHT}\n</think>\n\n{STORY}"


def mend(capsys: Any, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What the command said, and its object."""
    call_command("mend_thinking", *arguments, "--json")
    *lines, last = capsys.readouterr().out.strip().split("\n")
    return "\n".join(lines), json.loads(last)


def counts(found: dict[str, Any]) -> tuple[int, int, int, int, bool]:
    return found["found"], found["edited"], found["rejected"], found["left"], found["done"]


# --- the flag -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        (HELD, [f"<think>\n{THOUGHT}\n</think>"]),
        (f"{THOUGHT}</think>\n{STORY}", [f"{THOUGHT}</think>"]),
        (f"[THINK]{THOUGHT}", [f"[THINK]{THOUGHT}"]),
        (f"从前，<thought>{THOUGHT}</thought>有座山。", [f"<thought>{THOUGHT}</thought>"]),
        ("从前有座 <think> 山。", ["<think>"]),
        ("从前有座山，think 一下 <thinker>。", []),
    ],
)
def test_thinking_is_flagged_with_its_passages(text: str, marked: list[str]) -> None:
    found: Any = find_flaws(CheckedText(text=text, combo=make_combo())).get(Flag.Kind.THINKING)
    passages = found["passages"] if found else []
    assert [text[one["start"] : one["end"]] for one in passages] == marked


def test_what_stands_inside_the_thinking_is_not_flagged_as_well() -> None:
    text = f"<think>\n# 提纲\n- 唐朝\n</think>\n\n{STORY}"
    assert Flag.Kind.LEFTOVER not in find_flaws(CheckedText(text=text, combo=make_combo()))


@pytest.mark.both_databases
def test_an_imported_text_is_flagged_like_any_other(tmp_path: Any, alice: User) -> None:
    file = tmp_path / "stories.csv"
    file.write_text(
        f'"dynasty","super_power","story_type","story"\n"唐","隐形","轻松","{HELD}"\n', encoding="utf-8"
    )
    call_command("import_stories", str(file), "--approve", "--by", "alice")
    check_new_stories()
    assert Flag.objects.filter(kind=Flag.Kind.THINKING).get().story.text == HELD


# --- the command --------------------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_without_yes_it_only_says_what_it_would_do(capsys: Any, alice: User) -> None:
    story = make_story(text=HELD)
    make_story(text=STORY)
    said, found = mend(capsys)
    assert counts(found) == (1, 1, 0, 0, False)
    assert f"{story.pk} 唐,隐形,轻松：去掉 {len(HELD) - len(STORY)} 字，剩 {len(STORY)} 字。" in said
    story.refresh_from_db()
    assert (story.final_text, Review.objects.count()) == (HELD, 0)


@pytest.mark.both_databases
def test_what_is_certain_becomes_an_edit_by_the_named_editor(capsys: Any, alice: User) -> None:
    story = make_approved_story(text=HELD)
    _said, found = mend(capsys, "--by", "alice", "--yes")
    assert counts(found) == (1, 1, 0, 0, True)
    story.refresh_from_db()
    assert (story.text, story.final_text, story.verdict) == (HELD, STORY, "approved")
    review = story.reviews.get()
    assert (review.editor, review.decision, review.text_before, review.text_after) == (
        *(alice, "edited", HELD, STORY),
    )
    check.check(story)
    assert not story.flags.filter(kind=Flag.Kind.THINKING).exists()
    assert counts(mend(capsys, "--by", "alice", "--yes")[1]) == (0, 0, 0, 0, True)
    decisions.undo(story, by=alice)
    assert Story.objects.get(pk=story.pk).final_text == HELD


def test_an_editors_text_is_what_is_looked_at(capsys: Any, alice: User) -> None:
    make_story(text=HELD, edited_text=STORY)
    spoilt = make_story(text=STORY, edited_text=f"[THINK]想[/THINK]{STORY}改过。")
    assert counts(mend(capsys, "--by", "alice", "--yes")[1]) == (1, 1, 0, 0, True)
    spoilt.refresh_from_db()
    assert spoilt.final_text == f"{STORY}改过。"


def test_thinking_alone_is_rejected(capsys: Any, alice: User) -> None:
    story = make_approved_story(text=f"<think>{THOUGHT}")
    assert counts(mend(capsys, "--by", "alice", "--yes")[1]) == (1, 0, 1, 0, True)
    story.refresh_from_db()
    assert (story.verdict, story.visibility) == ("rejected", "private")
    assert story.reviews.get().reason == "只有模型的思考，没有故事"


@pytest.mark.parametrize(
    ("text", "kw", "why"),
    [
        ("从前有座 <think> 山。", {}, "有单个的标签"),
        (HELD, {"state": "interrupted"}, "没有写完"),
    ],
)
def test_what_is_not_certain_waits_for_a_person(
    capsys: Any, alice: User, text: str, kw: dict[str, str], why: str
) -> None:
    story = make_story(text=text, **kw)
    said, found = mend(capsys, "--by", "alice", "--yes")
    assert counts(found) == (1, 0, 0, 1, True)
    assert why in said
    assert Story.objects.get(pk=story.pk).final_text == text


def test_a_text_written_in_two_calls_is_not_cut_at_a_lone_end(capsys: Any, alice: User) -> None:
    text = f"从前有座山，{THOUGHT}</think>山里有座庙。"
    once, twice = make_story(text=text, reader_key="k" * 32), make_story(text=text, reader_key="k" * 32)
    make_attempt(once, fence=1)
    make_attempt(twice, fence=1, state="interrupted")
    make_attempt(twice, fence=2)
    assert counts(mend(capsys, "--by", "alice", "--yes")[1]) == (2, 1, 0, 1, True)
    twice.refresh_from_db()
    assert twice.final_text == text


def test_one_run_alone(capsys: Any, alice: User) -> None:
    run = make_run()
    make_story(run=run, slot=1, text=HELD)
    make_story(text=HELD)
    assert counts(mend(capsys, "--run", str(run.pk))[1]) == (1, 1, 0, 0, False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--yes"], "动手去改要说明以哪位编辑的名义：--by USER。"),
        (["--yes", "--by", "bob"], "没有用户「bob」。"),
        (["--run", "99"], "没有批次 #99。"),
    ],
)
def test_bad_input_is_one_sentence(alice: User, arguments: list[str], sentence: str) -> None:
    make_story(text=HELD)
    with pytest.raises(CommandError, match=sentence):
        call_command("mend_thinking", *arguments)
    assert Review.objects.count() == 0
