"""Ingredients found in prompts of any wording, and the text that is to be continued."""

import pytest

from model_server.engines.prompts import (
    Ingredients,
    conversation,
    era,
    find_ingredients,
    split_completion_prompt,
)
from tests.model_server.conftest import LONG_PROMPT

ASKED = Ingredients("宋", "发射激光", "艰难")


@pytest.mark.parametrize(
    "text",
    [
        "宋,发射激光,艰难",
        "宋，发射激光，艰难",
        "宋、发射激光、艰难",
        " 宋 , 发射激光 , 艰难 ->",
        "宋朝,发射激光,艰难",
        "请按配方写故事。\n宋,发射激光,艰难",
        "请按“宋,发射激光,艰难”写一篇故事",
        "朝代：宋\n超能力：发射激光\n战斗：艰难",
        "时代: 宋朝\n能力: “发射激光”\n类型: 艰难",
        "dynasty=宋, super_power=发射激光, story_type=艰难",
        LONG_PROMPT.format("宋", "发射激光", "艰难"),
        "主角是来自宋朝的画师，他得到「发射激光」的超能力，战斗要写得「艰难」。",
        "写一个“宋”代英雄用“发射激光”打“艰难”一仗的故事",
        "写宋朝英雄发射激光打怪兽的艰难故事",
    ],
)
def test_every_wording_gives_the_same(text: str) -> None:
    assert find_ingredients(text) == ASKED


@pytest.mark.parametrize(
    ("combo", "expected"),
    [
        (("南北朝", "不死之身", "努力"), Ingredients("南北朝", "不死之身", "努力")),
        (("五代", "流星火雨", "辛苦"), Ingredients("五代", "流星火雨", "辛苦")),
        (("三国", "召唤机关兽", "啼笑皆非"), Ingredients("三国", "召唤机关兽", "啼笑皆非")),
        (("大唐", "读心术", "轻松"), Ingredients("唐", "读心术", "轻松")),
    ],
)
def test_the_long_prompt_gives_what_was_put_in(combo: tuple[str, str, str], expected: Ingredients) -> None:
    assert find_ingredients(LONG_PROMPT.format(*combo)) == expected
    assert find_ingredients(",".join(combo)) == expected


@pytest.mark.parametrize(
    "text", ["讲个故事吧", "", "请写一篇故事，要有开头，要有结尾", "主角很勇猛，怪兽很强大，结局很圆满。"]
)
def test_prose_with_commas_is_no_combo(text: str) -> None:
    assert find_ingredients(text) == Ingredients()


def test_missing_parts_stay_missing() -> None:
    assert find_ingredients("写一个唐朝的故事") == Ingredients("唐", None, None)
    assert find_ingredients("写一个唐朝的故事").missing() == ["power", "story_type"]


@pytest.mark.parametrize(
    ("dynasty", "spoken"),
    [("唐", "唐朝"), ("南北朝", "南北朝"), ("五代", "五代"), ("三国", "三国"), ("北宋", "北宋")],
)
def test_eras_read_well(dynasty: str, spoken: str) -> None:
    assert era(dynasty) == spoken


def test_a_last_assistant_message_is_continued() -> None:
    messages = [("system", "作者"), ("user", "宋,发射激光,艰难"), ("assistant", "宋朝的")]
    assert conversation(messages) == ("宋,发射激光,艰难", "宋朝的")


@pytest.mark.parametrize("request_text", ["接着写", "请继续写下去。", "continue"])
def test_a_request_to_go_on_continues(request_text: str) -> None:
    messages = [("user", "宋,发射激光,艰难"), ("assistant", "宋朝的"), ("user", request_text)]
    assert conversation(messages) == ("宋,发射激光,艰难", "宋朝的")
    assert conversation([*messages, ("assistant", "画师"), ("user", request_text)])[1] == "宋朝的画师"


def test_a_new_question_begins_anew() -> None:
    messages = [("user", "唐,隐形,轻松"), ("assistant", "唐朝的"), ("user", "宋,发射激光,艰难")]
    assert conversation(messages) == ("宋,发射激光,艰难", "")


def test_the_system_message_may_hold_the_ingredients() -> None:
    prompt, _ = conversation([("system", "朝代：宋，能力：发射激光，类型：艰难"), ("user", "开始吧")])
    assert find_ingredients(prompt) == ASKED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("宋,发射激光,艰难 ->", ("宋,发射激光,艰难", "")),
        ("宋,发射激光,艰难 -> 宋朝的画师", ("宋,发射激光,艰难", "宋朝的画师")),
        ("宋,发射激光,艰难", ("宋,发射激光,艰难", "")),
    ],
)
def test_a_completion_prompt_is_split_at_its_separator(text: str, expected: tuple[str, str]) -> None:
    assert split_completion_prompt(text) == expected


def test_controls_and_slots_never_get_into_an_ingredient() -> None:
    found = find_ingredients("宋,发射\x00激\u202e光\ue001,艰难")
    assert found == ASKED
