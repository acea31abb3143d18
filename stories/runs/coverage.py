"""Which combos a run takes: all, all but those excluded, pairs covered once, or a few as a sample.

Pairwise: every pair of ingredients of two axes that some allowed combo holds stands in at least one chosen combo.
The algorithm, which gives the same answer each time: for each pair of the two longest axes, in their order, take the
allowed third ingredient that brings the most new pairs, and of equals the one whose number is (row + column) modulo
the length of its axis. Without exclusions that is a Latin square, |longest| × |second| combos, and none can be fewer;
with them, pairs still missing are then added one combo at a time.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

from django.utils.translation import gettext as _

from stories.errors import BadIngredient, StoryError
from stories.models import Run
from stories.values.combos import AXES, Combo, clean_ingredient

ANY = "*"
SAMPLE = 5
Pair = tuple[tuple[int, str], tuple[int, str]]


def read_exclusions(lines: Iterable[str]) -> list[str]:
    """The lines that say something, as `唐,隐形,*`, each once: `*` is any ingredient. Raises `StoryError`."""
    read: dict[str, None] = {}
    for line in lines:
        if not line.strip():
            continue
        parts = line.replace("，", ",").split(",")
        if len(parts) != len(AXES):
            raise StoryError(
                _("排除「%(line)s」要写成 朝代,超能力,战斗，任意的写 *。") % {"line": line.strip()}
            )
        try:
            cleaned = [_clean(part, axis) for part, axis in zip(parts, AXES, strict=True)]
        except BadIngredient as error:
            raise StoryError(
                _("排除「%(line)s」：%(error)s") % {"line": line.strip(), "error": error}
            ) from error
        if set(cleaned) == {ANY}:
            raise StoryError(_("不能排除全部配方。"))
        read[",".join(cleaned)] = None
    return list(read)


def _clean(part: str, axis: str) -> str:
    return ANY if part.strip() == ANY else clean_ingredient(part, axis=axis)


def choose_combos(combos: Sequence[Combo], *, cover: str, excluded: Sequence[str]) -> list[Combo]:
    """Those of `combos` that the run takes, in their order; `excluded` as `read_exclusions` gives them."""
    rules = [tuple(line.split(",")) for line in excluded]
    allowed = [combo for combo in combos if not any(_fits(combo, rule) for rule in rules)]
    if not allowed:
        raise StoryError(_("排除之后没有配方剩下了。"))
    if cover == Run.Cover.PAIRWISE:
        return cover_pairs(allowed)
    if cover == Run.Cover.SAMPLE:
        return take_sample(allowed)
    return allowed


def _fits(combo: Combo, rule: Sequence[str]) -> bool:
    return all(wanted in (ANY, part) for part, wanted in zip(parts_of(combo), rule, strict=True))


def parts_of(combo: Combo) -> tuple[str, str, str]:
    return (combo.dynasty, combo.super_power, combo.story_type)


def take_sample(combos: Sequence[Combo]) -> list[Combo]:
    """Five combos, spread evenly."""
    count = min(SAMPLE, len(combos))
    return [combos[at * len(combos) // count] for at in range(count)]


def cover_pairs(combos: Sequence[Combo]) -> list[Combo]:
    """The fewest of `combos` we know how to find that hold every pair which any of them holds."""
    axes = [list(dict.fromkeys(parts)) for parts in zip(*map(parts_of, combos), strict=True)]
    first, second, third = sorted(range(3), key=lambda axis: -len(axes[axis]))
    number = [{name: at for at, name in enumerate(axis)} for axis in axes]

    def place(combo: Combo) -> tuple[int, int]:
        parts = parts_of(combo)
        row, column = number[first][parts[first]], number[second][parts[second]]
        wanted = (row + column) % len(axes[third])
        return row * len(axes[second]) + column, (number[third][parts[third]] - wanted) % len(axes[third])

    by_pair: dict[int, list[Combo]] = {}
    for combo in sorted(combos, key=place):
        by_pair.setdefault(place(combo)[0], []).append(combo)
    missing = {pair for combo in combos for pair in pairs_of(combo)}
    chosen: set[Combo] = set()
    # First each pair of the longest axes, then whatever exclusions left uncovered; `max` keeps the first of equals.
    for rivals in [*by_pair.values(), *_leftovers(combos)]:
        best = max(rivals, key=lambda combo: len(missing & pairs_of(combo)))
        if missing & pairs_of(best):
            chosen.add(best)
            missing -= pairs_of(best)
    return [combo for combo in combos if combo in chosen]


def _leftovers(combos: Sequence[Combo]) -> Iterable[list[Combo]]:
    return ([combo] for combo in combos)


def pairs_of(combo: Combo) -> set[Pair]:
    """The three pairs of ingredients a combo holds, each with its axis."""
    return set(combinations(enumerate(parts_of(combo)), 2))
