"""How far a run is: its states, its throughput, its errors by cause, and its cells as they fill."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Max, Min
from django.utils import timezone
from django.utils.translation import gettext as _

from stories.models import EndReason, Run, Story
from stories.runs.lifecycle import count_states
from stories.runs.plan import approval_rate, count_cells
from stories.values.combos import AXES, Combo

MAX_SENTENCES = 5
THROUGHPUT_WINDOW = timedelta(seconds=60)


@dataclass(frozen=True)
class Throughput:
    """Stories ended per minute over the last one; seconds until the rest is written, None where unknown."""

    per_minute: float
    seconds_left: int | None


@dataclass
class FailureCause:
    """Stories that went wrong for one reason, with the last sentences of it."""

    label: str
    count: int = 0
    last: datetime | None = None
    sentences: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class CellProgress:
    """One cell of a run: how many of its ordered stories are written; `approved` of all the cell's, `target` if any."""

    combo: Combo
    ordered: int
    written: int
    failed: int
    approved: int
    rejected: int
    target: int | None

    @property
    def is_full(self) -> bool:
        return self.approved >= self.target if self.target else self.written >= self.ordered

    @property
    def percent_accepted(self) -> int | None:
        """The share of the cell's decided stories that was approved; None where none was."""
        if not self.approved + self.rejected:
            return None
        return round(100 * approval_rate(self.approved, self.rejected))


def measure_throughput(run: Run, *, unfinished: int) -> Throughput:
    """The throughput of the last minute, or since the first story began if that is shorter."""
    now = timezone.now()
    ended = run.stories.filter(ended_at__gte=now - THROUGHPUT_WINDOW, started_at__isnull=False)
    counted = ended.order_by().aggregate(ended=Count("pk"), since=Min("started_at"))
    if not counted["ended"]:
        return Throughput(0.0, None)
    seconds = min(THROUGHPUT_WINDOW.total_seconds(), max(1.0, (now - counted["since"]).total_seconds()))
    per_minute = 60 * counted["ended"] / seconds
    is_running = run.state == Run.State.RUNNING
    return Throughput(round(per_minute, 1), round(60 * unfinished / per_minute) if is_running else None)


def find_causes(run: Run) -> list[FailureCause]:
    """What went wrong, the most frequent cause first."""
    grouped = run.stories.exclude(error="").order_by().values_list("end_reason", "error")
    causes: dict[str, FailureCause] = {}
    rows = grouped.annotate(times=Count("pk"), last=Max("ended_at")).order_by("-times", "error")
    for reason, sentence, times, last in rows:
        label = str(EndReason(reason).label) if reason else _("稍后再试")
        cause = causes.setdefault(reason, FailureCause(label))
        cause.count += times
        cause.last = max(filter(None, (cause.last, last)), default=None)
        if len(cause.sentences) < MAX_SENTENCES:
            cause.sentences.append((sentence, times))
    return [causes[reason] for reason in sorted(causes, key=lambda reason: (-causes[reason].count, reason))]


def measure_cells(run: Run) -> Sequence[CellProgress]:
    """The cells of a run, in the order they were planned in."""
    ordered: Counter[Combo] = Counter()
    written: Counter[Combo] = Counter()
    failed: Counter[Combo] = Counter()
    first: dict[Combo, int] = {}
    rows = run.stories.order_by().values_list(*AXES, "state").annotate(stories=Count("pk"), slot=Min("slot"))
    for *parts, state, stories, slot in rows:
        combo = Combo(*parts)
        ordered[combo] += stories
        first[combo] = min(slot, first.get(combo, slot))
        written[combo] += stories if state == Story.State.WRITTEN else 0
        failed[combo] += stories if state in (Story.State.FAILED, Story.State.INTERRUPTED) else 0
    counted = count_cells(run.dynasties, run.super_powers, run.story_types)
    none = {"approved": 0, "rejected": 0}
    return [
        CellProgress(
            combo=combo,
            ordered=ordered[combo],
            written=written[combo],
            failed=failed[combo],
            approved=counted.get(combo, none)["approved"],
            rejected=counted.get(combo, none)["rejected"],
            target=run.target,
        )
        for combo in sorted(ordered, key=lambda combo: first[combo])
    ]


def count_unfinished(run: Run) -> tuple[dict[str, int], int]:
    """Stories by state, and how many of them are still to end."""
    states = count_states(run)
    return states, states[Story.State.QUEUED] + states[Story.State.WRITING]


def in_words(seconds: int) -> str:
    """`45 秒`, `3 分钟`, `1 小时 20 分钟`."""
    if seconds < 60:
        return _("%(n)s 秒") % {"n": seconds}
    minutes = -(-seconds // 60)
    if minutes < 60:
        return _("%(n)s 分钟") % {"n": minutes}
    return _("%(h)s 小时 %(n)s 分钟") % {"h": minutes // 60, "n": minutes % 60}
