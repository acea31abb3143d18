"""The base model's stories: variety, length, ingredients, grammar of names and pronouns, and deliberate mistakes."""

import random
import re

import pytest
from rapidfuzz import fuzz, process

from model_server.engines.grammar.compose import compose
from model_server.engines.grammar.mistakes import KINDS, spoil
from model_server.engines.grammar.powers import KNOWN
from model_server.engines.prompts import Ingredients, era
from tests.model_server.conftest import combos, new_combos


def write(combo: tuple[str, str, str], seed: int) -> str:
    return compose(Ingredients(*combo), random.Random(f"{combo}{seed}"))


def closest(stories: list[str]) -> float:
    """The highest similarity of two different stories, 0 to 1."""
    best = 0.0
    for at, story in enumerate(stories[:-1]):
        found = process.extractOne(story, stories[at + 1 :], scorer=fuzz.ratio)
        best = max(best, found[1])
    return best / 100


def test_no_two_of_the_486_are_alike(base_stories: list[str]) -> None:
    assert len(base_stories) == 486
    assert closest(base_stories) <= 0.8
    assert closest([*base_stories[:5], base_stories[0]]) == 1.0


def test_every_story_is_whole(base_stories: list[str]) -> None:
    for (dynasty, power, kind), story in zip(combos(), base_stories, strict=True):
        assert 240 <= len(story) <= 380
        for word in (era(dynasty), power, kind, "奥特曼", "怪兽"):
            assert word in story
        assert 3 <= len(story.split("\n\n")) <= 6
        assert story[-1] in "。！？”"


@pytest.mark.parametrize(
    "combo", [*new_combos()[:45], ("三国", "召唤机关兽", "啼笑皆非"), ("北宋", "七十二变", "诙谐")]
)
def test_new_ingredients_read_as_well(combo: tuple[str, str, str]) -> None:
    for seed in range(5):
        story = write(combo, seed)
        assert era(combo[0]) in story
        assert f"“{combo[1]}”" in story
        assert combo[2] in story


def test_language_is_sound() -> None:
    """No doubled punctuation, no open slot, one pronoun, balanced quotation marks, nothing said twice."""
    powers = [*KNOWN, "变成巨树"]
    for seed in range(600):
        rng = random.Random(seed)
        story = write(
            (rng.choice("唐宋元明"), rng.choice(powers), rng.choice(["轻松", "勇敢", "诙谐"])), seed
        )
        assert not re.search(r"[，。！？；]{2}|[{}]|朝朝|的的|他们|她们", story)
        assert ("他" in story) != ("她" in story)
        assert story.count("“") == story.count("”")
        sentences = re.split(r"[。！？]|\n\n", story)
        assert max(sentences.count(one) for one in sentences if len(one) > 6) == 1


def test_a_long_ingredient_still_gets_a_story() -> None:
    assert "能" * 32 in write(("唐", "能" * 32, "难" * 32), 1)


def test_mistakes_come_at_their_rate() -> None:
    asked = Ingredients("唐", "隐形", "轻松")
    story = compose(asked, random.Random(1))
    spoilt = sum(spoil(story, asked, random.Random(seed), rate=0.015) != story for seed in range(20_000))
    assert 0.05 <= spoilt / 20_000 <= 0.07
    assert all(spoil(story, asked, random.Random(seed), rate=0) == story for seed in range(2000))


def test_each_kind_of_mistake_is_one_a_reviewer_can_see() -> None:
    asked = Ingredients("唐", "隐形", "轻松")
    seen = set()
    for seed in range(400):
        story = compose(asked, random.Random(seed))
        spoilt = spoil(story, asked, random.Random(seed), rate=0.25)
        paragraphs = spoilt.split("\n\n")
        if len(paragraphs) > len(set(paragraphs)):
            seen.add("repeated")
        elif spoilt[-1] not in "。！？”":
            seen.add("cut_off")
        elif len(spoilt) < 200:
            seen.add("too_short")
        elif not all(word in spoilt for word in ("唐朝", "“隐形”", "轻松")):
            seen.add("forgotten")
    assert seen == set(KINDS)
