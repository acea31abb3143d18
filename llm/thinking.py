"""Tells a model's thinking from its text, where a server leaves both in the content (pure).

    <think>…</think>text          a block is thinking, wherever it stands
    …</think>text                 the answer began inside a block: all before its end is thinking
    <think>…                      a block that opens an answer and never ends: all is thinking
    text <think> text             further on, an opening tag that nothing closes is part of the text
    <think>…</think>text</think>  an end without a block: the text before it is thinking if more text follows;
                                  else only the tag is dropped

`TAG` knows the tags of the servers and models that we have seen; any closing tag closes any block. Blanks around a
block stay in the text. `ThinkingSplitter` reads an answer as it arrives, `find_thinking` a text that is there.
"""

import re
from dataclasses import dataclass

NAMES = ("think", "thinking", "thought", "thoughts", "reasoning", "seed:think")
PAIRS = (
    ("[think]", "[/think]"),  # Mistral
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker, Sky-T1
    ("<|start_thinking|>", "<|end_thinking|>"),  # Cohere
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi-VL
    ("<unused94>", "<unused95>"),  # MedGemma
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
MARKS = ("think", "thought", "reasoning", "<unused9", "<|channel|>", "assistantfinal")
"""Wherever a tag stands, one of these does, in any case."""
LONE_ENDS = ("assistantfinal",)  # gpt-oss, where the server dropped the special tokens
MAX_ATTRIBUTES = 100
_names = "|".join(NAMES)
_opens = "|".join(re.escape(opening) for opening, _end in PAIRS)
_ends = "|".join(re.escape(end) for end in (*(end for _opening, end in PAIRS), *LONE_ENDS))
_SPACE = rf"(?:\s[^<>]{{0,{MAX_ATTRIBUTES}}})?"
TAG = re.compile(
    rf"(?P<open><(?:{_names}){_SPACE}>|{_opens})|</(?:{_names}){_SPACE}>|{_ends}", re.IGNORECASE | re.ASCII
)
_WHOLE_TAGS = (
    *(f"<{slash}{name}>" for slash in ("", "/") for name in NAMES),
    *(tag for pair in PAIRS for tag in pair),
    *LONE_ENDS,
)
_BEGUN_TAG = re.compile(rf"</?(?:{_names})\s[^<>]*", re.IGNORECASE | re.ASCII)
_FIRST_SIGN = re.compile(r"[<\[\u25c1a]", re.IGNORECASE)
_LONGEST = MAX_ATTRIBUTES + 40  # more code points than any tag has
# Models that are often served without a reasoning parser, with the opening tag in the prompt. Seen 2026-11.
_OPENS_INSIDE = re.compile(
    r"(?<![a-z0-9])(?<!non-)(?<!no-)(?:r1|qwq|qvq|thinking)(?![a-z0-9])", re.IGNORECASE
)


def seems_to_open_inside(model: str) -> bool:
    """Whether the answers of a model of this name may begin inside a block, as far as its name says."""
    return _OPENS_INSIDE.search(model) is not None


@dataclass(frozen=True)
class Split:
    """What a piece of an answer is. `begins_anew`: all text before this part was thinking."""

    text: str = ""
    thinking: str = ""
    begins_anew: bool = False

    def __add__(self, after: "Split") -> "Split":
        if after.begins_anew:
            return Split(after.text, self.thinking + self.text + after.thinking, begins_anew=True)
        return Split(self.text + after.text, self.thinking + after.thinking, self.begins_anew)


class ThinkingSplitter:
    """Splits one answer. Wherever the answer is cut into pieces, the parts add up to the same.

    `opens_inside`: the model's answers begin inside a block, so no text is given before the end of one, or of the
    answer. `opened_inside` is what this answer showed of that; None if it showed nothing new.
    """

    def __init__(self, *, opens_inside: bool = False) -> None:
        self.opened_inside: bool | None = None
        self._tail = ""  # may be the beginning of a tag
        self._held: str | None = "" if opens_inside else None  # text of an answer that may be inside a block
        self._block: str | None = None  # what stands in a block that began after text; it may be none
        self._in_block = False
        self._is_fresh = True  # there is no text since the beginning, or since an end without a block
        self._has_thought = False  # a block has ended
        self._blanks: str | None = None  # those after an end without a block, whose meaning is still open

    def note_thinking(self) -> Split:
        """The server gives thinking apart, so what is text now is text; returns what was held back."""
        held, self._held = self._held or "", None
        self._has_thought = True
        return self._add_text(held)

    def feed(self, piece: str) -> Split:
        """What is certain now that `piece` has come."""
        rest = self._tail + piece
        cut = _begun_tag(rest)
        self._tail = rest[cut:]
        return self._add_all(rest[:cut])

    def finish(self, *, is_complete: bool) -> Split:
        """What was held back: nothing more will come. `is_complete`: the model itself ended the answer."""
        part, self._tail = self._add_all(self._tail), ""
        if self._block is not None:
            block, self._block, self._in_block = self._block, None, False
            part += self._add_text(block)
        if self._blanks is not None:
            part, self._blanks = part + Split(text=self._blanks), None
        if self._held is not None:
            held, self._held = self._held, None
            part += self._add_text(held) if is_complete else Split(thinking=held)
            self.opened_inside = False if is_complete and part.text.strip() else None
        return part

    def _add_all(self, text: str) -> Split:
        """Adds what holds only whole tags."""
        part, done = Split(), 0
        for tag in TAG.finditer(text):
            part += self._add(text[done : tag.start()]) + self._add_tag(tag)
            done = tag.end()
        return part + self._add(text[done:])

    def _add(self, text: str) -> Split:
        """Adds what holds no tag."""
        if self._block is not None:
            self._block += text
            return Split()
        if self._in_block:
            return Split(thinking=text)
        if self._held is not None:
            self._held += text
            return Split()
        return self._add_text(text)

    def _add_text(self, text: str) -> Split:
        if not text.strip():
            if self._blanks is None:
                return Split(text)
            self._blanks += text
            return Split()
        self._is_fresh = False
        if self._blanks is None:
            return Split(text)
        blanks, self._blanks = self._blanks, None
        return Split(blanks + text, begins_anew=True)

    def _add_tag(self, tag: re.Match[str]) -> Split:
        if self._held and self._held.strip() and tag["open"]:
            self._held += tag[0]
            return Split()
        if self._in_block:
            return self._add(tag[0]) if tag["open"] else self._close_block()
        return self._open_block(tag[0]) if tag["open"] else self._end_without_block()

    def _open_block(self, tag: str) -> Split:
        self._in_block = True
        if self._held is None:
            self._block = None if self._is_fresh else tag
            return Split()
        blanks, self._held = self._held, None
        return Split(blanks)

    def _close_block(self) -> Split:
        block, self._block, self._in_block = self._block, None, False
        self._has_thought = True
        opening = TAG.match(block or "")
        return Split(thinking=block[opening.end() :] if block and opening else "")

    def _end_without_block(self) -> Split:
        held, self._held = self._held or "", None
        self._is_fresh = True
        if self._has_thought:
            self._blanks = self._blanks or ""
            return Split()
        self._has_thought = self.opened_inside = True
        return Split(thinking=held, begins_anew=True)


def split_thinking(text: str, *, opens_inside: bool = False, is_complete: bool = True) -> Split:
    """The text and the thinking of a whole answer."""
    splitter = ThinkingSplitter(opens_inside=opens_inside)
    return splitter.feed(text) + splitter.finish(is_complete=is_complete)


def find_thinking(text: str) -> list[tuple[int, int]]:
    """Where the thinking in a whole text stands, tags included: code points from and to, in order."""
    if not _may_hold_tag(text):
        return []
    spans: list[tuple[int, int]] = []
    opening: re.Match[str] | None = None
    opened_fresh, done, is_fresh, doubtful = False, 0, True, 0
    for tag in TAG.finditer(text):
        if opening and tag["open"]:
            continue
        if not opening and text[done : tag.start()].strip():
            is_fresh, spans, doubtful = False, _before(spans, doubtful), 0
        if tag["open"]:
            opening, opened_fresh = tag, is_fresh
        elif opening:
            spans.append((opening.start(), tag.end()))
            opening = None
        elif spans:
            spans.append((tag.start(), tag.end()))
            is_fresh, doubtful = True, tag.end()
        else:
            spans, is_fresh = [(0, tag.end())], True
        done = tag.end()
    if opening and opened_fresh:
        return [*spans, (opening.start(), len(text))]
    return _before(spans, doubtful) if text[done:].strip() else spans


def without_thinking(text: str) -> str:
    """The text as it is, or what is left of it without its thinking."""
    kept, done = [], 0
    for start, end in find_thinking(text):
        kept.append(text[done:start])
        done = end
    return "".join([*kept, text[done:]]).lstrip() if done else text


def _before(spans: list[tuple[int, int]], end: int) -> list[tuple[int, int]]:
    """Everything up to `end` is thinking after all, if there was a doubt (0: none)."""
    return [(0, end), *(span for span in spans if span[0] >= end)] if end else spans


def holds_tag(text: str) -> bool:
    """Whether a tag of thinking stands in the text, wherever and however."""
    return _may_hold_tag(text) and TAG.search(text) is not None


def _may_hold_tag(text: str) -> bool:
    """Whether it is worth searching: the expression is fifty times as slow as this."""
    lower = text.lower()
    return any(mark in lower for mark in MARKS)


def _begun_tag(text: str) -> int:
    """Where the end of the text begins that may become a tag, or hold others; its length if there is none."""
    for sign in _FIRST_SIGN.finditer(text, max(0, len(text) - _LONGEST)):
        end = text[sign.start() :].lower()
        if _BEGUN_TAG.fullmatch(end) or any(tag != end and tag.startswith(end) for tag in _WHOLE_TAGS):
            return sign.start()
    return len(text)
