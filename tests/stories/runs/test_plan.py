"""Plans: which combos, how many of each, at what price; and how far a run is."""

import json
import random
import re
from datetime import timedelta
from itertools import combinations

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from stories.errors import StoryError
from stories.models import Run, Story
from stories.runs import progress
from stories.runs.coverage import choose_combos, cover_pairs, pairs_of, read_exclusions, take_sample
from stories.runs.lifecycle import plan_run
from stories.runs.plan import Cell, PlanSpec, deficit, lay_out, plan_cells
from stories.values.combos import Combo, multiply
from tests.factories import (
    make_approved_story,
    make_attempt,
    make_combo,
    make_ingredients,
    make_model,
    make_run,
    make_story,
    make_template,
)

TANG = Combo("唐", "隐形", "轻松")


def axes(*sizes: int):
    return [[f"{axis}{number}" for number in range(size)] for axis, size in zip("甲乙丙", sizes, strict=True)]


# --- which combos -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes", [(9, 6, 3), (3, 6, 9), (4, 4, 4), (1, 5, 2), (1, 1, 1), (7, 1, 7), (12, 10, 5)]
)
def test_pairwise_without_exclusions_is_as_small_as_can_be(sizes) -> None:
    combos = multiply(*axes(*sizes))
    chosen = cover_pairs(combos)
    first, second, _third = sorted(sizes, reverse=True)
    assert len(chosen) == first * second
    covered = {pair for combo in chosen for pair in pairs_of(combo)}
    assert covered == {pair for combo in combos for pair in pairs_of(combo)}
    assert chosen == cover_pairs(combos)


@pytest.mark.parametrize("seed", range(20))
def test_pairwise_covers_every_pair_that_exclusions_leave(seed) -> None:
    rng = random.Random(seed)
    combos = [combo for combo in multiply(*axes(6, 5, 4)) if rng.random() < 0.5]
    chosen = cover_pairs(combos)
    assert set(chosen) <= set(combos)
    covered = {pair for combo in chosen for pair in pairs_of(combo)}
    assert covered == {pair for combo in combos for pair in pairs_of(combo)}
    assert len(chosen) < len(combos)


def test_exclusions_take_whole_lines_of_the_grid() -> None:
    combos = multiply(["唐", "宋"], ["隐形", "飞行"], ["轻松", "努力"])
    left = choose_combos(combos, cover="full", excluded=read_exclusions(["唐，*，轻松", "", "宋,飞行,努力"]))
    assert [str(combo) for combo in left] == [
        *("唐,隐形,努力", "唐,飞行,努力", "宋,隐形,轻松"),
        *("宋,隐形,努力", "宋,飞行,轻松"),
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("唐,隐形", "要写成"), ("*,*,*", "全部"), ("唐,,轻松", "请填写超能力"), ("唐,隐\u202e,*", "控制字符")],
)
def test_bad_exclusions_are_refused_with_the_line(line, sentence) -> None:
    with pytest.raises(StoryError, match=re.escape(sentence)):
        read_exclusions([line])


def test_nothing_left_is_said() -> None:
    with pytest.raises(StoryError, match="没有配方剩下"):
        choose_combos([TANG], cover="full", excluded=["唐,*,*"])


def test_a_sample_is_spread() -> None:
    assert take_sample(multiply(*axes(10, 1, 1))) == multiply(*axes(10, 1, 1))[::2]
    assert take_sample([TANG]) == [TANG]


# --- how many of each ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("approved", "rejected", "waiting", "ordered"),
    [
        (0, 0, 0, 3),
        (2, 0, 0, 1),
        (3, 0, 0, 0),
        (9, 0, 0, 0),
        (0, 0, 2, 1),  # two are on their way
        (2, 2, 0, 2),  # half of this cell is approved
        (1, 3, 0, 8),  # a quarter
        (1, 3, 4, 4),  # a quarter, and four are on their way
        (0, 9, 0, 30),  # never more than ten times the deficit
        (0, 1, 0, 4),  # one decision says little: the share of all cells
    ],
)
def test_a_target_orders_the_deficit_by_the_share_approved(approved, rejected, waiting, ordered) -> None:
    cell = Cell(TANG, 0, approved, rejected, waiting)
    overall = 0.75 if (approved, rejected) == (0, 1) else 1.0
    assert deficit(cell, target=3, overall=overall) == ordered


@pytest.mark.django_db
def test_cells_are_counted_from_all_stories_of_their_combo() -> None:
    make_approved_story(combo=make_combo("唐", "隐形", "轻松"))
    make_story(combo=make_combo("唐", "隐形", "轻松"), verdict="rejected")
    make_story(combo=make_combo("唐", "隐形", "轻松"))
    make_story(combo=make_combo("唐", "隐形", "轻松"), state="queued", run=make_run())
    make_story(combo=make_combo("唐", "隐形", "轻松"), state="failed", run=make_run())
    make_story(combo=make_combo("唐", "隐形", "轻松"), reader_key="a" * 32)
    spec = PlanSpec(["唐", "宋"], ["隐形"], ["轻松"], target=4)
    assert plan_cells(spec) == [Cell(TANG, 4, 1, 1, 2), Cell(Combo("宋", "隐形", "轻松"), 8)]


@pytest.mark.django_db
def test_a_run_fills_cells_in_rounds_and_keeps_its_plan() -> None:
    make_template()
    make_approved_story(combo=make_combo("唐", "隐形", "轻松"))
    run = plan_run(dynasties=["唐", "宋"], powers=["隐形"], types=["轻松"], target=2, excluded=["元,*,*"])
    assert [story.dynasty for story in run.stories.order_by("slot")] == ["唐", "宋", "宋"]
    assert (run.target, run.cover, run.excluded) == (2, "full", ["元,*,*"])


@pytest.mark.django_db
def test_full_cells_need_no_run() -> None:
    make_template()
    make_approved_story(combo=make_combo("唐", "隐形", "轻松"))
    with pytest.raises(StoryError, match="够数"):
        plan_run(dynasties=["唐"], powers=["隐形"], types=["轻松"], target=1)
    assert Run.objects.count() == 0


def test_a_giant_product_is_refused_before_it_is_made() -> None:
    names = [f"{number}" for number in range(1000)]
    with pytest.raises(StoryError, match="200000"):
        PlanSpec(names, names, names).combos()


def test_the_grid_has_gaps_where_nothing_is_planned() -> None:
    cells = [Cell(TANG, 1), Cell(Combo("宋", "飞行", "轻松"), 2)]
    grid = lay_out(cells, ["唐", "元", "宋"], ["隐形", "飞行"], ["努力", "轻松"])
    assert (grid.powers, grid.types) == (["隐形", "飞行"], ["轻松"])
    assert grid.rows == [("唐", [[cells[0]], [None]]), ("宋", [[None], [cells[1]]])]
    assert lay_out(cells * 1000, [], [], []) is None


# --- the planner's page -------------------------------------------------------------------------------------


@pytest.fixture
def editor(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def model(db):
    make_ingredients()
    make_template()
    return make_model("gpt-4o-mini", input_price="0.15", output_price="0.60", training_price="3")


def press(client, model, **fields):
    fields = {
        "dynasties": ["唐", "宋"],
        "powers": ["隐形"],
        "types": ["轻松", "努力"],
        "model": model.pk,
    } | fields
    return client.post("/admin/stories/run/add/", {"temperature": "0.5"} | fields)


def quoted_in(response) -> str:
    return re.search(r'name="quoted" value="([^"]+)"', response.content.decode())[1]


def test_the_page_shows_the_grid_the_deficit_and_the_price_on_the_button(editor, model) -> None:
    make_approved_story(combo=make_combo("唐", "隐形", "轻松"))
    response = press(editor, model, target=2, excluded="宋,*,努力")
    page = response.content.decode()
    quote = response.context["quote"]
    assert [(str(cell.combo), cell.approved, cell.order) for cell in quote.cells] == [
        *(("唐,隐形,轻松", 1, 1), ("唐,隐形,努力", 0, 2), ("宋,隐形,轻松", 0, 2)),
    ]
    assert "还缺 <strong>5</strong> 篇" in page
    assert f"就这样，开始写（最多 {quote.most}）" in page
    assert Run.objects.count() == 0
    press(editor, model, target=2, excluded="宋,*,努力", quoted=quoted_in(response), confirm="yes")
    run = Run.objects.get()
    assert (run.state, run.stories.count(), run.target, run.budget) == ("running", 5, 2, quote.price.most)


def test_a_sample_of_five_is_written_on_request_and_then_prices_the_plan(editor, model, redis_server) -> None:
    first = press(editor, model, repeat=3)
    assert first.context["quote"].offers_sample
    quoted = quoted_in(first)
    press(editor, model, repeat=3, sample="yes", quoted="wrong")
    assert Run.objects.count() == 0
    press(editor, model, repeat=3, sample="yes", quoted=quoted)
    press(editor, model, repeat=3, sample="yes", quoted=quoted)
    run = Run.objects.get()
    assert (run.cover, run.stories.count(), run.budget) == ("sample", 4, run.estimate)
    for story in run.stories.all():
        make_attempt(story, language_model=model, price=200)
    make_attempt(make_story(language_model=model), price=200)
    quote = press(editor, model, repeat=3).context["quote"]
    assert (quote.price.likely, quote.price.recorded, quote.offers_sample) == (12 * 200, 5, False)


def test_a_batch_is_ordered_at_half_the_price_and_its_page_says_so(editor, model, redis_server) -> None:
    make_attempt(make_story(language_model=model), language_model=model, price=200)
    whole = press(editor, model, repeat=3).context["quote"].price
    response = press(editor, model, repeat=3, is_batch="on")
    price = response.context["quote"].price
    assert (price.most, price.likely, whole.likely) == (whole.most // 2, 12 * 100, 12 * 200)
    press(editor, model, repeat=3, quoted=quoted_in(response), confirm="yes")
    assert Run.objects.count() == 0, "the price shown was of a batch, and this is none"
    press(editor, model, repeat=3, is_batch="on", quoted=quoted_in(response), confirm="yes")
    run = Run.objects.get()
    assert (run.is_batch, run.budget, run.batch_orders.count()) == (True, price.most, 1)
    assert "半价批量" in editor.get(f"/admin/stories/run/{run.pk}/change/").content.decode()


def test_neither_repeats_nor_a_target_is_a_mistake(editor, model) -> None:
    page = press(editor, model).content.decode()
    assert "写明每个配方几篇，或每格补足到几篇。" in page


def test_starting_needs_the_right_to_control(model, alice, editor) -> None:
    quoted = quoted_in(press(editor, model, repeat=1))
    alice.groups.get().permissions.remove(*alice.groups.get().permissions.filter(codename="control_run"))
    assert press(editor, model, repeat=1, quoted=quoted, confirm="yes").status_code == 403
    assert Run.objects.count() == 0


def test_pairwise_is_ordered_from_the_page_and_the_terminal(
    provider, editor, model, capsys, redis_server
) -> None:
    page = press(editor, model, powers=["隐形", "飞行"], cover="pairwise", repeat=1)
    assert page.context["quote"].price.stories == 4
    options = ["--dynasties", "唐,宋", "--powers", "隐形,飞行", "--types", "轻松,努力"]
    options += ["--model", model.name]
    call_command("generate_stories", *options, "--pairwise", "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["stories"] == 4
    call_command("generate_stories", *options, "--target", "2", "--exclude", "唐,*,*", "--json")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["stories"] == 6  # the two cells that pairwise took wait with one each
    with pytest.raises(CommandError, match="只能用一个"):
        call_command("generate_stories", *options, "--target", "2", "--repeat", "1")


# --- progress -----------------------------------------------------------------------------------------------


def ended(run: Run, *, seconds: int, **kw) -> Story:
    now = timezone.now()
    kw = {
        "ended_at": now - timedelta(seconds=seconds),
        "started_at": now - timedelta(seconds=seconds + 5),
    } | kw
    return make_story(run=run, **kw)


@pytest.mark.django_db
def test_the_pace_is_that_of_the_last_minute() -> None:
    run = make_run()
    for seconds in (1, 10, 20, 50, 300, 400):
        ended(run, seconds=seconds)
    assert progress.measure_throughput(run, unfinished=8) == progress.Throughput(
        pytest.approx(4.4, abs=0.1), 110
    )
    run.state = Run.State.PAUSED
    assert progress.measure_throughput(run, unfinished=8).seconds_left is None
    Story.objects.update(ended_at=timezone.now() - timedelta(hours=1))
    assert progress.measure_throughput(run, unfinished=8) == progress.Throughput(0.0, None)


@pytest.mark.django_db
def test_errors_are_grouped_by_cause() -> None:
    run = make_run()
    for reason, sentence in (("refused", "甲"), ("refused", "甲"), ("refused", "乙"), ("unknown", "丙")):
        ended(run, seconds=5, state="failed", end_reason=reason, error=sentence)
    make_story(run=run, state="queued", error="稍等")
    causes = progress.find_causes(run)
    assert [(cause.label, cause.count, cause.sentences) for cause in causes] == [
        ("被模型服务拒绝", 3, [("甲", 2), ("乙", 1)]),
        ("稍后再试", 1, [("稍等", 1)]),
        ("结果不明", 1, [("丙", 1)]),
    ]
    assert causes[0].last is not None


@pytest.mark.django_db
def test_the_page_of_a_run_shows_its_cells_filling(editor) -> None:
    run = make_run(dynasties=["唐", "宋"], target=2)
    make_approved_story(run=run, combo=make_combo("唐", "隐形", "轻松"))
    make_story(run=run, state="failed", combo=make_combo("唐", "隐形", "轻松"))
    make_story(run=run, state="queued", combo=make_combo("宋", "隐形", "轻松"))
    page = editor.get(f"/admin/stories/run/{run.pk}/change/")
    first, second = page.context["cells"]
    assert (first.ordered, first.written, first.failed, first.approved, first.target) == (2, 1, 1, 1, 2)
    assert (second.ordered, second.written, second.is_full) == (1, 0, False)
    assert first.percent_accepted == 100
    assert "hx-swap-oob" not in page.content.decode()
    part = editor.get(f"/admin/stories/run/{run.pk}/progress/", headers={"HX-Request": "true"})
    assert 'id="filling" hx-swap-oob="true"' in part.content.decode()
    assert "每分钟 0.0 篇" in part.content.decode()


@pytest.mark.parametrize(("seconds", "words"), [(45, "45 秒"), (61, "2 分钟"), (4800, "1 小时 20 分钟")])
def test_time_left_is_said_in_words(seconds, words) -> None:
    assert progress.in_words(seconds) == words


# --- templates ----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_template_is_previewed_with_a_combo_before_it_is_kept(editor, model) -> None:
    combo = {"dynasty": "南北朝", "super_power": "{story_type}", "story_type": "<b>"}
    words = {"system": "你写故事", "user": "{dynasty}·{super_power}·{story_type}"}
    page = editor.post("/admin/stories/template/preview/", combo | words).content.decode()
    assert "南北朝·{story_type}·&lt;b&gt;" in page
    kept = make_template()
    page = editor.post("/admin/stories/template/preview/", combo | {"template": kept.pk}).content.decode()
    assert "南北朝" in page
    assert "请填写朝代" in editor.post("/admin/stories/template/preview/", words).content.decode()
    assert editor.get("/admin/stories/template/preview/").status_code == 405


def test_pairs_are_three() -> None:
    assert len(pairs_of(TANG)) == len(list(combinations(range(3), 2)))
