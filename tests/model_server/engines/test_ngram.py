"""The parts of the n-gram engine: names, slots, counts."""

import math
import random

import pytest

from model_server.engines.grammar.compose import compose
from model_server.engines.ngram.counts import Counts
from model_server.engines.ngram.encoding import DYNASTY, NAME, POWER, PRONOUN, TYPE, decode, encode, put_slots
from model_server.engines.ngram.names import find_name
from model_server.engines.prompts import Ingredients


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("宋朝的信使何远跌进一口古井。何远飞到半空，与奥特曼缠住怪兽。何远落在屋顶。", "何远"),
        ("他叫欧阳明川，是个画师。欧阳明川爱笑。", "欧阳明川"),
        ("张三丰练剑。张三丰下山。后来张三丰遇见奥特曼。", "张三丰"),
        ("唐朝的守夜人秦越追着怪光。秦越隐形了。", "秦越"),
        ("怪兽来了，人们四散奔逃，白光照亮江边。", None),
        ("", None),
    ],
)
def test_the_name_is_found_or_not(text: str, name: str | None) -> None:
    assert find_name(text) == name


def test_names_are_found_in_the_base_models_stories() -> None:
    asked = Ingredients("秦", "隐形", "努力")
    for seed in range(200):
        story = compose(asked, random.Random(seed))
        name = find_name(story.replace("秦朝", ""))
        assert name
        assert story.count(name) >= 2
        assert len(name) == 3


def test_a_story_survives_encoding() -> None:
    asked = Ingredients("南北朝", "瞬间移动", "艰难")
    for seed in range(100):
        story = compose(asked, random.Random(seed))
        one = encode(story, asked)
        assert all(slot in one.text for slot in (DYNASTY, POWER, TYPE, NAME, PRONOUN))
        assert one.fill.name not in one.text
        assert decode(one.text[1:], one.fill) == story


def test_a_dynasty_inside_other_words_is_no_slot() -> None:
    text, fill = put_slots("汉朝的好汉秦越到了武汉，老汉请他喝茶，秦越谢过。", Ingredients("汉", None, None))
    assert text == f"{DYNASTY}的好汉{NAME}到了武汉，老汉请{PRONOUN}喝茶，{NAME}谢过。"
    assert fill.name == "秦越"


def test_two_pronouns_are_left_alone() -> None:
    text, fill = put_slots("他遇见她。", Ingredients())
    assert (text, fill.pronoun) == ("他遇见她。", None)
    assert put_slots("他和其他人，她们也在。", Ingredients())[1].pronoun == "他"


def test_private_signs_in_a_training_text_do_no_harm() -> None:
    assert (
        decode(encode("英雄\ue001来\ue005了。", Ingredients()).text[1:], put_slots("", Ingredients())[1])
        == "英雄来了。"
    )


def test_a_text_of_nothing_but_private_signs_is_empty() -> None:
    one = encode("\ue001", Ingredients())
    assert decode(one.text[1:], one.fill) == ""


def test_probabilities_sum_to_one_and_follow_the_counts() -> None:
    counts = Counts()
    for _ in range(3):
        counts.add("#abac", 1.0)
    chances = counts.distribution("#")
    assert max(chances, key=lambda token: chances[token]) == "a"
    full = {token: math.exp(-counts.score("#" + token)[0]) for token in "abc"}
    unknown = math.exp(-counts.score("#z")[0])
    assert sum(full.values()) + (8000 - 3) * unknown == pytest.approx(1.0)
    assert full["a"] > full["b"] > unknown
    assert counts.score("#abac")[1:] == (4, 4)


def test_nothing_is_known_before_it_is_counted() -> None:
    counts = Counts()
    loss, right, tokens = counts.score("#abc")
    assert (loss, right, tokens) == (pytest.approx(3 * math.log(8000)), 0, 3)
