"""Which approved stories go into a dataset, once each, and into which split."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from operator import or_
from uuid import UUID

from django.db.models import Q, QuerySet

from finetuning.models import Dataset, DatasetRow
from llm.thinking import MARKS, holds_tag
from stories.models import Run, Story
from stories.values.combos import Combo

MINIMUM_ROWS = 10
"""What providers ask for: a file of fewer lines is refused by them."""
VALIDATION_SHARE = 10
"""One combo in ten is held back."""


@dataclass(frozen=True)
class Row:
    """A story as it is now. `content` is what orders it: the same in every database."""

    story_id: UUID
    combo: Combo
    text: str

    @property
    def content(self) -> str:
        return hashlib.sha256(f"{self.combo}\n{self.text}".encode()).hexdigest()


@dataclass(frozen=True)
class Selection:
    """The rows of both splits, each in its final order, and how many were left out: exact duplicates, and texts
    that hold what a model thought before it wrote.
    """

    training: list[Row]
    validation: list[Row]
    duplicates: int
    thinking: int

    @property
    def rows(self) -> int:
        return len(self.training) + len(self.validation)


def select_rows(*, runs: Collection[Run], since: Dataset | None) -> Selection:
    """What a dataset of these choices would hold now; depends on the stories' words, not on their keys."""
    rows = sorted(_read(approved_stories(runs=runs)), key=lambda row: (row.content, str(row.story_id)))
    if since:
        rows = _without(rows, since=since)
    stories = [row for row in rows if not holds_tag(row.text)]
    thinking, rows = len(rows) - len(stories), stories
    once = list({row.text: row for row in reversed(rows)}.values())
    once.reverse()
    training = [row for row in once if not is_held_back(row.combo)]
    validation = [row for row in once if is_held_back(row.combo)]
    if len(training) < MINIMUM_ROWS:
        training, validation = once, []
    return Selection(training, validation, duplicates=len(rows) - len(once), thinking=thinking)


def approved_stories(*, runs: Collection[Run]) -> QuerySet[Story]:
    approved = Story.objects.trainable()
    return approved.filter(run__in=runs) if runs else approved


def is_held_back(combo: Combo) -> bool:
    """Whether its stories are for validation: by its words alone, so that a combo never changes sides."""
    return int(hashlib.sha256(str(combo).encode()).hexdigest()[:8], 16) % VALIDATION_SHARE == 0


def count_thinking(dataset: Dataset) -> int:
    """How many rows of a frozen dataset hold what a model thought: the site once could not tell."""
    marked = reduce(or_, (Q(text__icontains=mark) for mark in MARKS))
    return sum(map(holds_tag, dataset.rows.filter(marked).values_list("text", flat=True)))


def since_chain(dataset: Dataset) -> list[Dataset]:
    """The dataset, the one it was built since, and so on."""
    chain = [dataset]
    while chain[-1].since is not None:
        chain.append(chain[-1].since)
    return chain


def _read(stories: QuerySet[Story]) -> list[Row]:
    columns = ("pk", "dynasty", "super_power", "story_type", "final")
    listed = stories.with_final_text().order_by().values_list(*columns)  # type: ignore[attr-defined]
    return [Row(pk, Combo(dynasty, power, kind), text) for pk, dynasty, power, kind, text in listed]


def _without(rows: list[Row], *, since: Dataset) -> list[Row]:
    """Those that are in no dataset of the chain, neither as the same story nor as the same text."""
    older = DatasetRow.objects.filter(dataset__in=since_chain(since))
    stories = set(older.values_list("story_id", flat=True))
    texts = set(older.values_list("text", flat=True))
    return [row for row in rows if row.story_id not in stories and row.text not in texts]
