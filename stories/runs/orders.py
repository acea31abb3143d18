"""A person orders a run: planned and started once, however often the button was pressed."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from stories.models import Run
from stories.runs.coverage import read_exclusions
from stories.runs.lifecycle import plan_run, start_run
from stories.runs.plan import PlanSpec
from stories.values.combos import AXES

SAME_PRESS = timedelta(seconds=10)


# Any: an order's fields, with the types of its form.
def order_run(*, by: User, **order: Any) -> tuple[Run, bool]:
    """The started run, and whether it is new: the same order by the same person within `SAME_PRESS` is one.

    `order` is what `plan_run` takes. Raises what `plan_run` raises.
    """
    with transaction.atomic():
        # Two presses of one person wait for each other here; SQLite's one writer is us already.
        User.objects.select_for_update().get(pk=by.pk)
        twin = _twin(by, order)
        if twin is not None:
            return twin, False
        run = plan_run(**order, by=by)
        start_run(run, by=by)
    return run, True


# Any: an order's fields, with the types of its form.
def _twin(by: User, order: dict[str, Any]) -> Run | None:
    recent = Run.objects.filter(
        created_by=by,
        created_at__gte=timezone.now() - SAME_PRESS,
        repeat=order.get("repeat", 1),
        target=order.get("target"),
        cover=order.get("cover", Run.Cover.FULL),
        language_model=order["model"],
        temperature=order["temperature"],
        is_batch=order.get("is_batch", False),
    )
    names = ("dynasties", "powers", "types", "cover", "excluded")
    combos = PlanSpec(**{name: order[name] for name in names if name in order}).combos()
    excluded = read_exclusions(order.get("excluded", ()))
    wanted = [{getattr(combo, axis) for combo in combos} for axis in AXES]
    for run in recent:
        found = [set(run.dynasties), set(run.super_powers), set(run.story_types)]
        if run.excluded == excluded and found == wanted:
            return run
    return None
