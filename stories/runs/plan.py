"""What a run orders: how many stories for each combo, by repeats or by what its cell still lacks.

A cell is all stories of one combo. "Fill to target" orders the deficit alone: the target less what is approved and
less what those that are on their way will likely bring, divided by the share that editors approve of that cell.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q
from django.utils.translation import gettext as _

from stories.errors import StoryError
from stories.models import Run, Story
from stories.runs.coverage import choose_combos, read_exclusions
from stories.values.combos import AXES, Combo, clean_ingredient, multiply

MAX_STORIES = 20_000
MAX_COMBOS = 200_000
ENOUGH_DECISIONS = (
    3  # with fewer decisions the share of approvals of all cells is used instead of the cell's own
)
MIN_RATE = 0.1  # no cell is ordered more than ten times over


@dataclass(frozen=True)
class PlanSpec:
    """What a person wants, as typed. `target` None: `repeat` stories for each combo."""

    dynasties: Sequence[str]
    powers: Sequence[str]
    types: Sequence[str]
    repeat: int = 1
    target: int | None = None
    cover: str = Run.Cover.FULL
    excluded: Sequence[str] = ()

    def combos(self) -> list[Combo]:
        """The chosen combos. Raises `BadIngredient`, or `StoryError` for more than can be planned."""
        axes = (self.dynasties, self.powers, self.types)
        size = math.prod(max(1, len(set(axis))) for axis in axes)
        if size > MAX_COMBOS:
            words = {"most": MAX_COMBOS, "count": size}
            raise StoryError(_("最多从 %(most)s 个配方里选，这里是 %(count)s 个。") % words)
        return choose_combos(multiply(*axes), cover=self.cover, excluded=read_exclusions(self.excluded))


@dataclass(frozen=True)
class Cell:
    """One combo of a plan: `order` stories are to be written."""

    combo: Combo
    order: int
    approved: int = 0
    rejected: int = 0
    waiting: int = 0

    @property
    def combo_has_enough(self) -> bool:
        """Nothing is ordered because enough is approved already, not because enough is on its way."""
        return not self.order and not self.waiting


def plan_cells(spec: PlanSpec) -> list[Cell]:
    """The cells of a spec, with what they have and what is ordered. Raises like `PlanSpec.combos`."""
    combos = spec.combos()
    counted = count_cells(spec.dynasties, spec.powers, spec.types)
    cells = [Cell(combo, 0, **counted.get(combo, {})) for combo in combos]
    if spec.cover == Run.Cover.SAMPLE:
        return [_ordering(cell, 1) for cell in cells]
    if spec.target is None:
        return [_ordering(cell, spec.repeat) for cell in cells]
    overall = approval_rate(sum(cell.approved for cell in cells), sum(cell.rejected for cell in cells))
    return [_ordering(cell, deficit(cell, target=spec.target, overall=overall)) for cell in cells]


def _ordering(cell: Cell, order: int) -> Cell:
    return Cell(cell.combo, order, cell.approved, cell.rejected, cell.waiting)


def deficit(cell: Cell, *, target: int, overall: float) -> int:
    """How many stories to order so that about `target` of the cell are approved in the end."""
    decided = cell.approved + cell.rejected
    rate = approval_rate(cell.approved, cell.rejected) if decided >= ENOUGH_DECISIONS else overall
    missing = target - cell.approved - cell.waiting * rate
    return max(0, math.ceil(round(missing / rate, 6)))


def approval_rate(approved: int, rejected: int) -> float:
    """The share of the decided that was approved, at least `MIN_RATE`; 1 where nothing was decided."""
    decided = approved + rejected
    return max(MIN_RATE, approved / decided) if decided else 1.0


def count_cells(*axes: Iterable[str]) -> dict[Combo, dict[str, int]]:
    """Approved, rejected and waiting stories by combo, in one query; cells without a story are left out."""
    names = [
        {clean_ingredient(raw, axis=axis) for raw in values} for axis, values in zip(AXES, axes, strict=True)
    ]
    chosen = {f"{axis}__in": sorted(values) for axis, values in zip(AXES, names, strict=True)}
    approved = Q(verdict=Story.Verdict.APPROVED, held_at__isnull=True)
    coming = Q(state__in=[Story.State.QUEUED, Story.State.WRITING], run__isnull=False)
    reviewable = Q(pk__in=Story.objects.reviewable().order_by().values("pk"))
    counted = Story.objects.filter(**chosen).order_by().values_list(*AXES)
    rows = counted.annotate(
        approved=Count("pk", filter=approved),
        rejected=Count("pk", filter=Q(verdict=Story.Verdict.REJECTED)),
        waiting=Count("pk", filter=coming | reviewable),
    )
    return {
        Combo(*row[:3]): {"approved": row[3], "rejected": row[4], "waiting": row[5]}
        for row in rows.iterator()
    }


def check_plan(cells: Sequence[Cell]) -> int:
    """How many stories are ordered. Raises `StoryError` for none or too many."""
    ordered = sum(cell.order for cell in cells)
    if not ordered:
        raise StoryError(_("每一格都够数了，没有要写的。"))
    if ordered > MAX_STORIES:
        words = {"count": ordered, "most": MAX_STORIES}
        raise StoryError(_("一个批次最多 %(most)s 篇，这里是 %(count)s 篇。") % words)
    return ordered


# --- the grid: dynasties down, powers across, a line for each type --------------------------------------------

MAX_SHOWN = 1500


@dataclass(frozen=True)
class Grid:
    """Cells laid out: `rows` are (dynasty, [[cell or None per type] per power])."""

    powers: list[str]
    types: list[str]
    rows: list[tuple[str, list[list[object]]]]


# Any: more than one type comes here, and each is used by what it has.
def lay_out(cells: Sequence[Any], *axes: Sequence[str]) -> Grid | None:
    """The grid of cells that have a `combo`, each axis in the order of `axes`; None for more than a page can show."""
    if len(cells) > MAX_SHOWN:
        return None
    by_combo = {cell.combo: cell for cell in cells}
    dynasties, powers, types = (
        [name for name in names if name in {getattr(cell.combo, axis) for cell in cells}]
        for axis, names in zip(AXES, axes, strict=True)
    )
    rows = [
        (dynasty, [[by_combo.get(Combo(dynasty, power, kind)) for kind in types] for power in powers])
        for dynasty in dynasties
    ]
    return Grid(powers, types, rows)
