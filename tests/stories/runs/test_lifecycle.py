"""Runs: planned, priced, started, paused, cancelled, retried."""

from decimal import Decimal

import pytest
from django.utils import timezone

from stories.errors import BadIngredient, BadState, StoryError, UnknownModel
from stories.models import Run, Story
from stories.runs.lifecycle import (
    cancel_run,
    count_states,
    pause_run,
    plan_run,
    resume_run,
    retry_run,
    start_run,
)
from tests.factories import make_model, make_run, make_story, make_template

pytestmark = pytest.mark.django_db


def plan(**kw) -> Run:
    make_template()
    order = {"dynasties": ["唐", "宋"], "powers": ["隐形"], "types": ["轻松", "努力"], "repeat": 3} | kw
    return plan_run(**order)


def test_it_works() -> None:
    run = plan()
    assert (run.state, run.estimate, run.budget) == ("draft", 0, 0)
    assert run.stories.count() == 12
    assert list(run.stories.order_by("slot").values_list("slot", flat=True)) == list(range(12))
    assert {str(story.combo) for story in run.stories.all()} == {
        "唐,隐形,轻松", "唐,隐形,努力", "宋,隐形,轻松", "宋,隐形,努力",
    }  # fmt: skip
    start_run(run)
    assert run.state == Run.State.RUNNING


def test_the_missions_ingredients_make_486_stories(django_assert_max_num_queries) -> None:
    with django_assert_max_num_queries(34):  # SQLite takes 999 values a query
        run = plan(
            dynasties=["唐", "宋", "元", "明", "清", "汉", "魏", "晋", "南北朝"],
            powers=["隐形", "飞行", "读心术", "瞬间移动", "不死之身", "喷火"],
            types=["轻松", "努力", "艰难"],
        )
    assert run.stories.count() == 486


def test_the_budget_defaults_to_the_upper_end_of_the_estimate() -> None:
    model = make_model(input_price=Decimal(1), output_price=Decimal(10))
    run = plan(model=model)
    assert run.estimate == run.budget > 12 * 2048 * 10
    assert plan(model=model, budget=5).budget == 5


def test_an_unknown_price_gives_no_estimate_and_no_budget() -> None:
    run = plan(model=make_model(output_price=None))
    assert (run.estimate, run.budget) == (None, None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dynasties": []}, "请填写朝代"),
        ({"powers": ["隐形，飞行"]}, "不能有逗号"),
        ({"types": ["轻\n松"]}, "换行"),
        ({"types": ["轻" * 33]}, "最多 32"),
        ({"powers": ["\u202e隐形"]}, "控制字符"),
    ],
)
def test_bad_ingredients_are_refused_and_nothing_is_left(change: dict, sentence: str) -> None:
    with pytest.raises(BadIngredient, match=sentence):
        plan(**change)
    assert Run.objects.count() == Story.objects.count() == 0


@pytest.mark.parametrize("change", [{"repeat": 0}, {"repeat": 6000}, {"temperature": 3.0}, {"budget": -1}])
def test_figures_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(StoryError):
        plan(**change)


def test_a_run_starts_once() -> None:
    run = plan()
    start_run(Run.objects.get(pk=run.pk))
    with pytest.raises(BadState):
        start_run(run)


def test_pause_and_resume() -> None:
    run = make_run()
    pause_run(run, "午休")
    assert (run.state, str(run.pause_reason)) == ("paused", "午休")
    resume_run(run)
    assert (run.state, str(run.pause_reason)) == ("running", "")


def test_cancel_takes_the_queued_with_it_and_leaves_the_rest() -> None:
    run = make_run()
    for state in ("queued", "writing", "written", "failed"):
        make_story(run=run, state=state)
    cancel_run(run)
    assert count_states(run) == {
        "queued": 0, "writing": 1, "written": 1, "interrupted": 0, "failed": 1, "cancelled": 1,
    }  # fmt: skip


def test_retry_queues_failed_and_interrupted_from_nothing() -> None:
    run = make_run(state=Run.State.DONE)
    make_story(run=run, state="failed")
    interrupted = make_story(run=run, state="interrupted")
    make_story(run=run, state="written")
    assert retry_run(run) == 2
    interrupted.refresh_from_db()
    assert (interrupted.state, interrupted.text, interrupted.length) == ("queued", "", 0)
    assert run.state == Run.State.RUNNING


def test_retry_of_a_run_without_failures_leaves_it_done() -> None:
    run = make_run(state=Run.State.DONE)
    make_story(run=run)
    assert retry_run(run) == 0
    run.refresh_from_db()
    assert run.state == Run.State.DONE


def test_a_run_is_not_ordered_from_a_model_past_its_shutdown() -> None:
    model = make_model("gone", shutdown_date=timezone.localdate())
    with pytest.raises(UnknownModel, match=r"^模型「gone」已于 .* 停用，请换一个模型。$"):
        plan(model=model)
    assert Run.objects.count() == 0
