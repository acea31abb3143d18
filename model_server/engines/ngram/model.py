"""A tuned model: its counts, its memory of the training lines, and its file.

The file is gzipped JSON (never pickle: a model file must not be able to run code).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...atomic_files import atomic_replacement
from .counts import Counts
from .encoding import SLOTS, EncodedStory, Fill

FORMAT = 1
BOND_SIZE = 5
POWER_BOND, TYPE_BOND = 3, 5  # stories that must agree before a phrase counts as bound to their power or type
MIXED = "\x00"


@dataclass
class Memory:
    """Facts about the training lines that counts cannot hold.

    `names`: heroes with their pronoun (None: mixed). `shapes`: start sign → stories. `seen`: hashes of the slotted
    stories, so that none is ever written again. `words` and `slots`: how many stories have each. `lead` and
    `stop`: what legacy completions began and ended with. `bonds`: phrase → [stories, power or MIXED, type or MIXED].
    """

    names: list[tuple[str, str | None]] = field(default_factory=list)
    dynasties: list[str] = field(default_factory=list)
    powers: list[str] = field(default_factory=list)
    story_types: list[str] = field(default_factory=list)
    shapes: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    lengths: list[int] = field(default_factory=list)
    words: dict[str, int] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    bonds: dict[str, list[Any]] = field(default_factory=dict)
    lead: str = ""
    stop: str = ""

    def learn(self, one: EncodedStory) -> None:
        """Remembers one training story; called once per line, whatever the number of epochs."""
        fill = one.fill
        if fill.name and (fill.name, fill.pronoun) not in self.names:
            self.names.append((fill.name, fill.pronoun))
        known = (
            (self.dynasties, fill.dynasty),
            (self.powers, fill.power),
            (self.story_types, fill.story_type),
        )
        for values, value in known:
            if value and value not in values:
                values.append(value)
        self.shapes[one.text[0]] = self.shapes.get(one.text[0], 0) + 1
        self.seen.add(fingerprint(one.text))
        self.lengths.append(len(one.text))
        for counts, wanted in ((self.words, ("奥特曼", "怪兽")), (self.slots, tuple(SLOTS))):
            for word in wanted:
                counts[word] = counts.get(word, 0) + (word in one.text)
        self._bind(one.text, fill)

    def _bind(self, text: str, fill: Fill) -> None:
        if not fill.power or not fill.story_type:
            return
        for phrase in {text[at : at + BOND_SIZE] for at in range(len(text) - BOND_SIZE + 1)}:
            bond = self.bonds.setdefault(phrase, [0, fill.power, fill.story_type])
            bond[0] += 1
            if bond[1] != fill.power:
                bond[1] = MIXED
            if bond[2] != fill.story_type:
                bond[2] = MIXED

    def count_foreign_phrases(self, text: str, fill: Fill) -> int:
        """How many phrases of `text` belong to another power or type than `fill`'s."""
        found = 0
        for at in range(len(text) - BOND_SIZE + 1):
            bond = self.bonds.get(text[at : at + BOND_SIZE])
            if bond:
                found += bond[0] >= POWER_BOND and bond[1] not in (MIXED, fill.power)
                found += bond[0] >= TYPE_BOND and bond[2] not in (MIXED, fill.story_type)
        return found

    def common(self, counts: dict[str, int]) -> list[str]:
        """Those words or slots that nine of ten stories have."""
        return [word for word, stories in counts.items() if stories >= 0.9 * len(self.lengths)]


@dataclass
class NgramModel:
    """Counts and memory together."""

    counts: Counts = field(default_factory=Counts)
    memory: Memory = field(default_factory=Memory)


def fingerprint(text: str) -> str:
    """A short hash of a slotted story."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def save(model: NgramModel, path: Path) -> None:
    """Writes `model` to `path`, whole or not at all."""
    memory = asdict(model.memory) | {"seen": sorted(model.memory.seen)}
    entries = {context: dict(following) for context, following in model.counts.longest_entries()}
    text = json.dumps({"format": FORMAT, "memory": memory, "counts": entries}, ensure_ascii=False)
    with (
        atomic_replacement(path) as partial,
        gzip.open(partial, "wt", encoding="utf-8", compresslevel=5) as file,
    ):
        file.write(text)


def load(path: Path) -> NgramModel:
    """Reads a model. Raises OSError if there is no file, ValueError if it is not one of ours."""
    with gzip.open(path, "rt", encoding="utf-8") as place:
        saved = json.loads(place.read())
    if saved.get("format") != FORMAT:
        raise ValueError(f"{path.name} is not a model file of format {FORMAT}.")
    memory = Memory(**saved["memory"])
    memory.seen = set(memory.seen)
    memory.names = [(name, pronoun) for name, pronoun in memory.names]
    model = NgramModel(memory=memory)
    for context, following in saved["counts"].items():
        model.counts.restore(context, following)
    return model
