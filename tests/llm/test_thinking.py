"""Thinking is told from text the same way wherever an answer is cut, and in a text that is already there."""

from functools import reduce
from itertools import pairwise
from operator import add

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm.thinking import (
    NAMES,
    PAIRS,
    Split,
    ThinkingSplitter,
    find_thinking,
    holds_tag,
    seems_to_open_inside,
    split_thinking,
)

SIGNS = st.sampled_from(
    [
        *("<think>", "</think>", "<Think time='3s'>", "</THINKING >", "[THINK]", "[/THINK]", "<thought>"),
        *("<|begin_of_thought|>", "<|end_of_thought|>", "assistantfinal", "\u25c1/think\u25b7"),
        *("<", ">", "/", "[", "think", "<think", "</th", "<think a[/THINK]b>", "a", "as", "<br>"),
        *("奥", "特曼", "。", " ", "\n", "😀", "\u3000"),
    ]
)
TEXTS = st.lists(SIGNS, max_size=12).map("".join)


def split_pieces(pieces: list[str], *, opens_inside: bool = False, is_complete: bool = True) -> Split:
    splitter = ThinkingSplitter(opens_inside=opens_inside)
    parts = [splitter.feed(piece) for piece in pieces]
    return reduce(add, [*parts, splitter.finish(is_complete=is_complete)], Split())


@pytest.mark.parametrize(
    ("answer", "text", "thinking"),
    [
        ("从前有座山。", "从前有座山。", ""),
        ("<think>\n先想。\n</think>\n\n从前。", "\n\n从前。", "\n先想。\n"),
        ('\n <Think duration="3">想</THINK >从前。', "\n 从前。", "想"),
        ("<thinking>想</think>从前。", "从前。", "想"),
        ("[THINK]想[/THINK]从前。", "从前。", "想"),
        ("先想一想。</think>\n\n从前。", "\n\n从前。", "先想一想。"),
        ("</think>\n\n从前。", "\n\n从前。", ""),
        ("<think></think>从前。", "从前。", ""),
        ("<think>想个没完", "", "想个没完"),
        ("<think>", "", ""),
        ("先想。</think>", "", "先想。"),
        ("<think>一</think>\n<think>二</think>从前。", "\n从前。", "一二"),
        ("<think>一<think>二</think>三</think>从前。", "从前。", "一<think>二三"),
        ("从前，<think>中间想</think>有座山。", "从前，有座山。", "中间想"),
        ("程序员写下 <think> 两个尖括号。", "程序员写下 <think> 两个尖括号。", ""),
        ("<think>想</think>从前。</think>\n", "从前。\n", "想"),
        ("<think>想</think>草稿。</think>从前。", "从前。", "想草稿。"),
        ("从前<thinker>有座<山", "从前<thinker>有座<山", ""),
        ("<|channel|>analysis<|message|>想<|end|><|channel|>final<|message|>从前。", "从前。", "想<|end|>"),
        ("analysis We need…assistantfinal从前。", "从前。", "analysis We need…"),
    ],
)
def test_what_is_thinking_and_what_is_not(answer: str, text: str, thinking: str) -> None:
    part = split_thinking(answer)
    assert (part.text, part.thinking) == (text, thinking)


@pytest.mark.parametrize(("opening", "end"), PAIRS)
def test_each_pair_of_tags_is_known_cut_anywhere(opening: str, end: str) -> None:
    assert split_pieces(list(f"{opening}想{end}从前。")) == Split("从前。", "想")


@given(TEXTS, st.data(), st.booleans(), st.booleans())
@example("<think a[/THINK]b>x</think>y", None, False, True)
@settings(max_examples=600, deadline=None)
def test_any_cutting_gives_the_same(
    answer: str, data: st.DataObject | None, opens_inside: bool, is_complete: bool
) -> None:
    said = {"opens_inside": opens_inside, "is_complete": is_complete}
    cuts = data.draw(st.sets(st.integers(0, len(answer)))) if data else range(len(answer))
    edges = [0, *sorted(cuts), len(answer)]
    pieces = [answer[start:end] for start, end in pairwise(edges)]
    wholes = [
        split_pieces(pieces, **said),
        split_thinking(answer, **said),
        split_pieces(list(answer), **said),
    ]
    assert len({whole.text for whole in wholes}) == 1
    assert len({"".join(sorted(whole.thinking)) for whole in wholes}) == 1  # text may become thinking late


@given(TEXTS)
@settings(max_examples=600, deadline=None)
def test_what_is_found_in_a_text_is_what_the_stream_took_out(answer: str) -> None:
    spans = find_thinking(answer)
    assert spans == sorted(spans)
    kept = [True] * len(answer)
    for start, end in spans:
        kept[start:end] = [False] * (end - start)
    rest = "".join(sign for sign, is_kept in zip(answer, kept, strict=True) if is_kept)
    assert rest.strip() == split_thinking(answer).text.strip()


@given(st.text(st.characters(exclude_characters="<[\u25c1a\u0041"), max_size=80))
def test_a_text_without_tags_is_left_alone(text: str) -> None:
    assert split_thinking(text) == Split(text)
    assert find_thinking(text) == []


def test_text_that_may_be_inside_a_block_is_held_until_the_block_ends() -> None:
    splitter = ThinkingSplitter(opens_inside=True)
    assert [
        splitter.feed(piece).text for piece in ("先想，", "再写 <think>", "。</thi", "nk>从", "前。")
    ] == [*("", "", "", "从", "前。")]
    assert splitter.opened_inside is True


@pytest.mark.parametrize(
    ("is_complete", "expected", "opened"),
    [(True, Split("从前。"), False), (False, Split(thinking="从前。"), None)],
)
def test_held_text_whose_block_never_ends_is_a_story_only_if_the_model_finished_it(
    is_complete: bool, expected: Split, opened: bool | None
) -> None:
    splitter = ThinkingSplitter(opens_inside=True)
    assert splitter.feed("从前。") + splitter.finish(is_complete=is_complete) == expected
    assert splitter.opened_inside is opened


def test_where_the_server_gives_thinking_apart_nothing_is_held() -> None:
    splitter = ThinkingSplitter(opens_inside=True)
    splitter.note_thinking()
    assert splitter.feed("从前。") == Split("从前。")
    splitter.finish(is_complete=True)
    assert splitter.opened_inside is None


@pytest.mark.parametrize(
    ("answer", "opened"),
    [
        ("想</think>从前", True),
        ("<think>想</think>从前", None),
        ("从前", None),
        ("", None),
        ("<think>想", None),
    ],
)
def test_an_answer_shows_whether_the_model_begins_inside(answer: str, opened: bool | None) -> None:
    splitter = ThinkingSplitter()
    splitter.feed(answer)
    splitter.finish(is_complete=True)
    assert splitter.opened_inside is opened


def test_text_is_not_held_back_for_a_sign_that_can_be_no_tag() -> None:
    splitter = ThinkingSplitter()
    assert [splitter.feed(piece).text for piece in ("他说 <", "b>好", "[", "注]", "a", "b")] == [
        *("他说 ", "<b>好", "", "[注]", "", "ab")
    ]


@pytest.mark.parametrize(
    ("name", "seems"),
    [
        *[("deepseek-ai/DeepSeek-R1", True), ("QwQ-32B", True), ("qwen3-235b-thinking-2507", True)],
        *[("gpt-4o-mini", False), ("base-zh", False), ("qwen3-non-thinking", False), ("llama-r10", False)],
    ],
)
def test_a_name_may_say_that_a_model_begins_inside(name: str, seems: bool) -> None:
    assert seems_to_open_inside(name) is seems


@pytest.mark.parametrize(
    "tag", [f"<{slash}{name}>" for slash in ("", "/") for name in NAMES] + list(sum(PAIRS, ()))
)
def test_every_tag_is_found_also_in_capitals(tag: str) -> None:
    assert holds_tag(f"从前{tag}有座山")
    assert holds_tag(f"从前{tag.upper()}有座山")


def test_a_tag_is_seen_wherever_it_stands() -> None:
    assert holds_tag("从前 <think> 有座山")
    assert holds_tag("从前。[/THINK]")
    assert not holds_tag("从前，有人 think 了 <thinker>。")
