"""Runs: one order for many stories, planned, priced, started, paused and retried.

One `Story` row per slot is written when the run is planned; the bulk worker completes them
(`stories/generation/completion.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _

from sentences import Words
from stories.errors import BadState, StoryError
from stories.generation import states
from stories.generation.attempts import half, known_amount, reservation
from stories.generation.prompts import ask_for, current_template
from stories.generation.states import pause
from stories.language_models import add_model, check_endpoint, check_in_service
from stories.models import Attempt, BatchOrder, EndReason, LanguageModel, Run, Story, Template
from stories.operations.audit import Actor
from stories.provider_accounts import say_paid
from stories.runs.coverage import read_exclusions
from stories.runs.plan import Cell, PlanSpec, check_plan, plan_cells
from stories.values.money import to_micros, to_usd

MAX_BUDGET = to_micros(Decimal(1_000_000))  # of one run, in micro-USD


@dataclass(frozen=True)
class Estimate:
    """What a run may cost, micro-USD: by the model's recorded stories, and at most. None: price unknown.

    `recorded`: how many calls `likely` was taken from; 0: there are none, and it is the upper end.
    """

    stories: int
    likely: int | None
    most: int | None
    recorded: int = 0


def default_model() -> LanguageModel:
    """The base model that writes runs unless another is named: `OPENAI_MODEL`."""
    return add_model(settings.OPENAI_MODEL, endpoint="default")


def estimate_run(
    cells: Sequence[Cell], *, model: LanguageModel, template: Template, is_batch: bool = False
) -> Estimate:
    """The price range of a run: its upper end is every story at its reservation, in a batch half of it."""
    amounts = [
        (reservation(model, ask_for(model, cell.combo, template=template)), cell.order)
        for cell in cells
        if cell.order
    ]
    count = sum(order for _amount, order in amounts)
    if any(amount is None for amount, _order in amounts):
        return Estimate(stories=count, likely=None, most=None)
    most = sum(((half(amount) if is_batch else amount) or 0) * order for amount, order in amounts)
    known = _known_prices(model, is_batch=is_batch)
    likely = min(most, sum(known) * count // len(known)) if known else most
    return Estimate(stories=count, likely=likely, most=most, recorded=len(known))


def _known_prices(model: LanguageModel, *, is_batch: bool) -> list[int]:
    """What the model's last stories cost, as if all had been written the same way."""
    complete = Attempt.objects.filter(
        purpose=Attempt.Purpose.STORY, language_model=model, state=Attempt.State.COMPLETE
    )
    recent = complete.order_by("-pk").values_list("price", "batch_id")[:200]
    whole = [price if batch is None else price * 2 for price, batch in recent if price is not None]
    return [half(price) or 0 for price in whole] if is_batch else whole


def plan_run(
    *,
    dynasties: Sequence[str],
    powers: Sequence[str],
    types: Sequence[str],
    repeat: int = 1,
    target: int | None = None,
    cover: str = Run.Cover.FULL,
    excluded: Sequence[str] = (),
    model: LanguageModel | None = None,
    template: Template | None = None,
    temperature: float = 0.5,
    budget: int | None = None,
    # Any: more than one type comes here, and each is used by what it has.
    by: Any = None,
    is_batch: bool = False,
) -> Run:
    """A draft run with a queued story per slot. `budget` is micro-USD; None: the upper end of the estimate.

    `target`: as many as each cell lacks of that many approved stories; else `repeat` for each combo.
    Raises `BadIngredient`, `UnknownModel`, or a `StoryError` for figures out of range.
    """
    spec = PlanSpec(dynasties, powers, types, repeat=repeat, target=target, cover=cover, excluded=excluded)
    model, template = model or default_model(), template or current_template()
    _check_order(spec, temperature=temperature, budget=budget)
    cells = plan_cells(spec)
    check_plan(cells)
    check_endpoint(model)
    check_in_service(model)
    estimate = estimate_run(cells, model=model, template=template, is_batch=is_batch)
    known_amount(estimate.most, model)
    with transaction.atomic():
        run = Run.objects.create(
            template=template,
            language_model=model,
            dynasties=list(dict.fromkeys(cell.combo.dynasty for cell in cells)),
            super_powers=list(dict.fromkeys(cell.combo.super_power for cell in cells)),
            story_types=list(dict.fromkeys(cell.combo.story_type for cell in cells)),
            repeat=repeat,
            target=target,
            cover=cover,
            excluded=read_exclusions(excluded),
            temperature=temperature,
            estimate=estimate.most,
            budget=estimate.most if budget is None else budget,
            created_by=by,
            is_batch=is_batch,
        )
        Story.objects.bulk_create(_slots(run, cells), batch_size=500)
    return run


def _check_order(spec: PlanSpec, *, temperature: float, budget: int | None) -> None:
    if spec.repeat < 1:
        raise StoryError(_("每个配方至少要写 1 篇。"))
    if spec.target is not None and spec.target < 1:
        raise StoryError(_("每一格的目标至少是 1 篇。"))
    if not 0 <= temperature <= 2:
        raise StoryError(_("温度要在 0 到 2 之间。"))
    if budget is not None and budget < 0:
        raise StoryError(_("预算不能是负数。"))
    if budget is not None and budget > MAX_BUDGET:
        raise StoryError(_("预算最多 %(most)s 美元。") % {"most": f"{to_usd(MAX_BUDGET):,}"})


def _slots(run: Run, cells: Sequence[Cell]) -> Iterable[Story]:
    """The first story of every cell, then the second: a run that stops early has some of each."""
    rounds = range(max(cell.order for cell in cells))
    wanted = (cell.combo for copy in rounds for cell in cells if copy < cell.order)
    for slot, combo in enumerate(wanted):
        yield Story(
            dynasty=combo.dynasty,
            super_power=combo.super_power,
            story_type=combo.story_type,
            origin=Story.Origin.RUN,
            run=run,
            slot=slot,
            language_model=run.language_model,
            template=run.template,
        )


def start_run(run: Run, *, by: Actor | None = None) -> None:
    """draft → running. Raises `BadState` if someone was quicker."""
    _set_running(run, {Run.State.DRAFT}, by=by)


def pause_run(run: Run, reason: Words) -> None:
    """running → paused."""
    if not pause(run.pk, reason=reason):
        raise BadState(_("这个批次现在不在进行中。"))
    run.refresh_from_db()


def resume_run(run: Run, *, by: Actor | None = None) -> None:
    """paused → running; the count of failures starts anew."""
    with transaction.atomic():
        _set_running(run, {Run.State.PAUSED}, by=by)
        # Messages that came while the run was paused did nothing and are gone.
        Story.objects.filter(run=run, state=Story.State.QUEUED).update(published_at=None)


CANCELLABLE = {Run.State.DRAFT, Run.State.RUNNING, Run.State.PAUSED}


def cancel_run(run: Run) -> None:
    """draft | running | paused → cancelled, with its queued stories; one being written ends as it ends."""
    with transaction.atomic():
        _change(run, CANCELLABLE, Run.State.CANCELLED)
        states.cancel_queued(Story.objects.filter(run=run), reason=EndReason.CANCELLED)
        BatchOrder.objects.filter(run=run).exclude(state=BatchOrder.State.ENDED).update(
            next_poll_at=timezone.now()
        )


def retry_run(run: Run, *, by: Actor | None = None) -> int:
    """Queues the failed and interrupted stories of a run again, from nothing; returns how many."""
    with transaction.atomic():
        retried = states.queue_again(Story.objects.filter(run=run))
        if retried:
            reopen_run(run, by=by)
    return retried


def reopen_run(run: Run, *, by: Actor | None = None) -> bool:
    """running | paused | done → running, for stories that a person wants again. Raises `BadState`."""
    _set_running(run, {Run.State.RUNNING, Run.State.PAUSED, Run.State.DONE}, by=by)
    return True


@transaction.atomic
def _set_running(run: Run, old: set[Run.State], *, by: Actor | None) -> None:
    """Who lets a run go on says that its provider may be asked, also one whose account was empty."""
    _change(run, old, Run.State.RUNNING)
    say_paid(run.language_model.base_url, by=by or run.created_by or _("批次 %(run)s") % {"run": run})


def count_states(run: Run) -> dict[str, int]:
    """How many stories of the run are in each state; every state is named."""
    counted = dict(run.stories.order_by().values_list("state").annotate(Count("pk")))
    return {state.value: counted.get(state.value, 0) for state in Story.State}


def _change(run: Run, old: set[Run.State], new: Run.State) -> None:
    changed = Run.objects.filter(pk=run.pk, state__in=old).update(
        state=new,
        pause_reason="",
        failures_in_row=0,
        empty_orders=0,
        next_order_at=None,
        finished_at=timezone.now() if new == Run.State.CANCELLED else None,
    )
    if not changed:
        run.refresh_from_db()
        raise BadState(
            _("批次 %(run)s 现在是「%(state)s」，不能这样做。")
            % {"run": run, "state": run.get_state_display()}
        )
    run.refresh_from_db()
