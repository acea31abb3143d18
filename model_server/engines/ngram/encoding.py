"""Between a story and what the model counts: ingredients, name and pronoun become slot symbols, breaks become signs.

Slots are private-use code points. The first sign tells how many paragraphs the story has and whether it is told by an
我 outside quotation marks; each paragraph break, and each soft sign between two sentences, repeats that and says which
paragraph it is. So the model knows where in what kind of story it stands, which a few characters would not tell it.
Soft signs are counted but never scored: they follow from the punctuation, so predicting them is trivial.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..prompts import Ingredients, era
from .names import find_name

DYNASTY, POWER, TYPE, NAME, PRONOUN, END, PAD = (chr(0xE000 + at) for at in range(7))
SLOTS = DYNASTY + POWER + TYPE + NAME
_FIRST_BREAK = 0xE100
_FIRST_SOFT = 0xE200
_EVERY = "\x00"
_MAX_PARAGRAPHS = 7  # paragraphs and breaks beyond are all called the seventh

_PRIVATE = re.compile("[\ue000-\uf8ff]")
_PRONOUN = re.compile("(?<![其吉])他(?!们)|她(?!们)")
_QUOTED = re.compile("“[^”]*”")
_SENTENCE_END = re.compile("[。！？…]+”?")
BREAKS = re.compile(f"[{chr(_FIRST_BREAK)}-{chr(_FIRST_BREAK + 2 * 64)}]")
SOFT = re.compile(f"[{chr(_FIRST_SOFT)}-{chr(_FIRST_SOFT + 2 * 64)}]")


@dataclass(frozen=True)
class Fill:
    """What the slots of one story stand for; None where the story has no such slot."""

    dynasty: str | None = None
    power: str | None = None
    story_type: str | None = None
    name: str | None = None
    pronoun: str | None = None


@dataclass(frozen=True)
class EncodedStory:
    """`text` begins with the start sign and, if complete, ends with END."""

    text: str
    fill: Fill


def start_sign(*, told_by_me: bool, paragraphs: int) -> str:
    """The sign in front of a story of so many paragraphs."""
    return chr(_FIRST_BREAK + told_by_me * 64 + min(paragraphs, _MAX_PARAGRAPHS) * 8)


def break_sign(start: str, number: int) -> str:
    """The break in front of paragraph `number` + 1 (number from 1) of a story that begins with `start`."""
    return chr(ord(start) + min(number, _MAX_PARAGRAPHS))


def paragraphs_of(start: str) -> int:
    """How many paragraphs a start sign announces."""
    return (ord(start) - _FIRST_BREAK) % 64 // 8


@dataclass(frozen=True)
class Place:
    """Where in a story we are: the signs that may follow here, and whether this is the last paragraph."""

    soft: str
    hard: str
    is_last: bool


def place_after(text: str) -> Place:
    """The place at the end of encoded `text`, told by its last sign."""
    last = max(BREAKS.sub(_EVERY, SOFT.sub(_EVERY, text)).rfind(_EVERY), 0)
    at = (ord(text[last]) - _FIRST_BREAK) % (_FIRST_SOFT - _FIRST_BREAK)
    following = at + 1 if at % 8 < _MAX_PARAGRAPHS else at
    is_last = at % 8 + 1 >= at % 64 // 8
    return Place(soft=chr(_FIRST_SOFT + at), hard=chr(_FIRST_BREAK + following), is_last=is_last)


def is_told_by_me(text: str) -> bool:
    """Whether an 我 occurs outside quotation marks."""
    return "我" in _QUOTED.sub("", text)


def split_paragraphs(text: str) -> list[str]:
    """The non-empty lines of a story; one empty one if there is none."""
    return [line.strip() for line in text.splitlines() if line.strip()] or [""]


def encode(story: str, asked: Ingredients) -> EncodedStory:
    """A whole story as the model counts it."""
    paragraphs = split_paragraphs(_PRIVATE.sub("", story))
    start = start_sign(told_by_me=is_told_by_me(story), paragraphs=len(paragraphs))
    slotted, fill = put_slots("\n".join(paragraphs), asked)
    return EncodedStory(start + join(slotted.split("\n"), start) + END, fill)


def join(paragraphs: list[str], start: str) -> str:
    """Paragraphs with numbered break signs between them, and soft signs between their sentences."""
    text = _mark_sentences(paragraphs[0], start)
    for number, paragraph in enumerate(paragraphs[1:], start=1):
        hard = break_sign(start, number)
        text += hard + _mark_sentences(paragraph, hard)
    return text


def _mark_sentences(paragraph: str, hard: str) -> str:
    """Puts a soft sign where one sentence follows another, outside quotation marks."""
    soft = chr(ord(hard) - _FIRST_BREAK + _FIRST_SOFT)
    marked, at = "", 0
    for match in _SENTENCE_END.finditer(paragraph):
        before = paragraph[: match.end()]
        if match.end() < len(paragraph) and before.count("“") <= before.count("”"):
            marked += paragraph[at : match.end()] + soft
            at = match.end()
    return marked + paragraph[at:]


def put_slots(text: str, asked: Ingredients, *, name: str | None = None) -> tuple[str, Fill]:
    """`text` with slots, and what they stand for; `name` if it is known already, else it is looked for.

    The name goes first: 秦 in 秦越 is no dynasty.
    """
    name = name or find_name(without(text, asked))
    if name:
        text = text.replace(name, NAME)
    if asked.power and (len(asked.power) > 1 or f"“{asked.power}”" in text):
        text = text.replace(asked.power if len(asked.power) > 1 else f"“{asked.power}”", POWER)
    if asked.story_type and len(asked.story_type) > 1:
        text = text.replace(asked.story_type, TYPE)
    if asked.dynasty:
        text = _dynasty_pattern(asked.dynasty).sub(DYNASTY, text)
    used = set(_PRONOUN.findall(text))
    pronoun = used.pop() if len(used) == 1 else None
    if pronoun:
        text = _PRONOUN.sub(PRONOUN, text)
    return text, Fill(asked.dynasty, asked.power, asked.story_type, name, pronoun)


def without(text: str, asked: Ingredients) -> str:
    """`text` with its ingredients blanked out, so that no name is seen in them."""
    for word in (asked.power, asked.story_type, era(asked.dynasty) if asked.dynasty else None):
        if word:
            text = text.replace(word, "，" * len(word))
    return text


def _dynasty_pattern(dynasty: str) -> re.Pattern[str]:
    word = re.escape(dynasty)
    return re.compile(rf"大?{word}[朝代]|大{word}" if len(dynasty) == 1 else word)


def decode(text: str, fill: Fill, *, separator: str = "\n\n") -> str:
    """EncodedStory text as a reader sees it."""
    values = {
        DYNASTY: era(fill.dynasty or ""),
        POWER: fill.power or "",
        TYPE: fill.story_type or "",
        NAME: fill.name or "",
        PRONOUN: fill.pronoun or "他",
        END: "",
        PAD: "",
    }
    plain = SOFT.sub("", "".join(values.get(sign, sign) for sign in text))
    return BREAKS.sub(separator, plain)
