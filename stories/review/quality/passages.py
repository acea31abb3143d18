"""A text split into passages that know where they stand, and texts made comparable."""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

MAX_SHOWN = 80
PARAGRAPH = re.compile(r"[^\r\n]+")
# A sentence ends with its mark, and with the quotes and brackets that close behind it.
SENTENCE = re.compile(r"[^。！？!?…\r\n]+(?:[。！？!?…]+[”’」』）)》]*)?")
NOT_A_SIGN = re.compile(r"[\W_]+")


class Passage(NamedTuple):
    """A piece of a text: code points `start` to `end`."""

    start: int
    end: int
    text: str

    def as_evidence(self) -> dict[str, object]:
        shown = self.text if len(self.text) <= MAX_SHOWN else f"{self.text[: MAX_SHOWN - 1]}…"
        return {"start": self.start, "end": self.end, "text": shown}


def paragraphs(text: str) -> Iterator[Passage]:
    return _trimmed(PARAGRAPH, text)


def sentences(text: str) -> Iterator[Passage]:
    return _trimmed(SENTENCE, text)


def _trimmed(pattern: re.Pattern[str], text: str) -> Iterator[Passage]:
    """The matches without the blanks around them, empty ones left out."""
    for found in pattern.finditer(text):
        words = found[0].strip()
        if words:
            start = found.start() + found[0].index(words)
            yield Passage(start, start + len(words), words)


def normalise(text: str) -> str:
    """NFKC, lower case, without punctuation and blanks: what two texts are compared by."""
    signs = NOT_A_SIGN.sub("", text)
    if unicodedata.is_normalized("NFKC", signs):  # nearly always, and ten times as quick
        return signs.lower()
    return NOT_A_SIGN.sub("", unicodedata.normalize("NFKC", signs).lower())
