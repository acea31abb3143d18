"""The whole loop on a running copy, step by step: commands as a person types them, a reader by page and socket."""

import json
from pathlib import Path

import pytest

from bench.journey import UNSEEN, Figures, Journey, Order, read_csv
from bench.visitor import Visitor
from tests.sites import Site

FIRST = Order(["唐", "宋", "元", "明"], ["隐形", "飞行", "喷火"], ["轻松", "艰难"], repeat=1)
FURTHER = Order(["秦", "五代", "隋"], ["龙卷风", "冰冻大海"], ["勇敢", "辛苦"], repeat=2)
RESULTS = [
    *("step", "elapsed_tokens", "elapsed_examples", "training_loss", "training_sequence_accuracy"),
    *("training_token_accuracy", "validation_loss", "validation_token_accuracy"),
]


@pytest.fixture(scope="module")
def journey(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """One journey; the tests below are its steps, in order."""
    return Journey(site, tmp_path_factory.mktemp("journey"))


@pytest.fixture(scope="module")
def generated(journey: Journey) -> Figures:
    return journey.generate(FIRST)


@pytest.fixture(scope="module")
def reviewed(journey: Journey, generated: Figures) -> Figures:
    return journey.review(generated["run"])


@pytest.fixture(scope="module")
def frozen(journey: Journey, generated: Figures, reviewed: Figures) -> Figures:
    return journey.freeze(generated["run"], "journey")


@pytest.fixture(scope="module")
def trained(journey: Journey, frozen: Figures) -> Figures:
    return journey.train(frozen["dataset"], "--epochs", "3")


@pytest.fixture(scope="module")
def promoted(journey: Journey, trained: Figures) -> Figures:
    return journey.promote(trained["model"])


@pytest.fixture(scope="module")
def further(journey: Journey, trained: Figures) -> Figures:
    run = journey.generate(FURTHER)["run"]
    journey.review(run)
    journey.command("build_dataset", "journey-new", "--run", str(run))
    return journey.train("journey-new", "--model", trained["model"], "--learning-rate-multiplier", "0.2")


def test_1_generate_fills_every_slot(journey: Journey, generated: Figures) -> None:
    run = generated["run"]
    assert (generated["stories"], generated["written"]) == (24, 24)
    assert (generated["estimate USD"], generated["price USD"]) == (0.0, 0.0)
    assert generated["similarity, highest pair"] < 0.8
    slots = journey.query("SELECT count(DISTINCT slot) FROM stories_story WHERE run_id=?", run)
    assert slots == [(24,)]


def test_1_each_call_is_in_the_ledger_with_its_tokens(journey: Journey, generated: Figures) -> None:
    calls = journey.query(
        "SELECT a.state, a.prompt_tokens > 0, a.completion_tokens > 0, a.finish_reason FROM stories_attempt a"
        " JOIN stories_story s ON s.id = a.story_id AND s.fence = a.fence WHERE s.run_id=?",
        generated["run"],
    )
    assert calls == [("complete", 1, 1, "stop")] * 24


def test_2_stories_survive_the_way_through_csv(journey: Journey, generated: Figures) -> None:
    carried = journey.carry_over()
    assert carried["exported"] >= 24
    assert carried["columns"] == ["dynasty", "super_power", "story_type", "story"]
    assert carried["same after the round trip"]
    assert carried["label beside it"]


def test_3_review_puts_the_run_into_the_library(
    journey: Journey, generated: Figures, reviewed: Figures
) -> None:
    assert reviewed == {"reviewed": 24, "in the library": 24}
    decisions = journey.query(
        "SELECT r.decision, u.username, r.verdict_before, r.verdict_after, r.text_before = r.text_after, count(*)"
        " FROM stories_review r JOIN stories_story s ON s.id = r.story_id"
        " JOIN auth_user u ON u.id = r.editor_id WHERE s.run_id=? GROUP BY 1, 2, 3, 4, 5",
        generated["run"],
    )
    assert decisions == [("approved", "editor", "unreviewed", "approved", 1, 24)]
    ((pk,),) = journey.query("SELECT id FROM stories_story WHERE run_id=? AND slot=0", generated["run"])
    ((text,),) = journey.query("SELECT text FROM stories_story WHERE id=?", pk)
    assert text.strip() in Visitor(journey.site).get(f"/stories/{_dashed(pk)}.txt")


def test_4_dataset_holds_what_was_approved(journey: Journey, frozen: Figures) -> None:
    assert frozen["dataset"] == "journey@1"
    assert frozen["rows"] + frozen["validation rows"] == 24
    assert frozen["same bytes again"]
    lines = [json.loads(line) for line in _lines(journey.folder / "chat.jsonl")]
    assert len(lines) == frozen["rows"]
    texts = {row["story"] for row in read_csv(journey.folder / "out.csv")}
    assert {line["messages"][-1]["content"] for line in lines} <= texts
    assert {line["messages"][-2]["content"] for line in lines} <= {
        f"{dynasty},{power},{kind}"
        for dynasty in FIRST.dynasties
        for power in FIRST.powers
        for kind in FIRST.types
    }


def test_4_completion_lines_have_the_shape_of_2023(journey: Journey, frozen: Figures) -> None:
    lines = [json.loads(line) for line in _lines(journey.folder / "completion.jsonl")]
    assert len(lines) == frozen["rows"]
    for line in lines:
        assert list(line) == ["prompt", "completion"]
        assert line["prompt"].endswith(" ->")
        assert line["completion"].startswith(" ")
        assert line["completion"].count(frozen["stop"]) == 1
        assert line["completion"].endswith(frozen["stop"])


def test_5_training_ends_in_a_model_with_its_curve(trained: Figures) -> None:
    assert (trained["quoted job"], trained["quote USD"]) == (None, 0.0)
    assert (trained["status"], trained["price USD"], trained["listed"]) == ("succeeded", 0.0, True)
    assert trained["model"].startswith("ft:base-zh:")
    assert ":ultraman:" in trained["model"]
    assert trained["columns"] == RESULTS
    assert trained["loss, last"] < trained["loss, first"]
    assert trained["accuracy, last"] > trained["accuracy, first"]


def test_6_a_reader_watches_a_story_of_unseen_ingredients(
    journey: Journey, trained: Figures, promoted: Figures
) -> None:
    assert promoted["model"] == trained["model"]
    read = journey.read()
    assert (read["state"], read["model"]) == ("written", trained["model"])
    assert read["as committed"]
    assert read["as on the page"]
    assert read["names all three"]
    assert read["characters"] > 100


def test_6_the_terminal_shows_one_too(journey: Journey, trained: Figures, promoted: Figures) -> None:
    told = journey.site.manage("tell_story", *UNSEEN, "--json")
    assert told.rc == 0
    assert list(told.json) == ["story", "state", "text", "model"]
    assert (told.json["state"], told.json["model"]) == ("written", trained["model"])
    assert told.json["text"].strip() in told.stdout.rpartition("\n{")[0]


def test_7_further_training_names_its_parent(journey: Journey, trained: Figures, further: Figures) -> None:
    assert further["status"] == "succeeded"
    family = journey.query(
        "SELECT parent.name, child.base FROM stories_languagemodel child"
        " JOIN stories_languagemodel parent ON parent.id = child.parent_id WHERE child.name=?",
        further["model"],
    )
    assert family == [(trained["model"], "base-zh")]


def test_7_promotion_can_be_rolled_back(
    journey: Journey, trained: Figures, promoted: Figures, further: Figures
) -> None:
    parent, child = trained["model"], further["model"]
    journey.promote(parent)
    for model, previous in ((child, parent), (parent, child)):
        done = journey.promote(model)
        assert (done["model"], done["previous"]) == (model, previous)
        assert done["answer"], "the model was asked before readers ask it"


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").split("\n")[:-1]


def _dashed(key: str) -> str:
    return f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}"
