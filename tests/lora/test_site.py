"""The site's journey with a LoRA model as its tuned model: the same commands and pages, not a line of the site changed.

The base model's stories come from base-zh, for a random model tells none; what is trained, served, read and trained
further is an adapter of a tiny one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.journey import Figures, Journey, Order
from tests.model_server.conftest import Server, start_server, write_stories
from tests.sites import Site

from .tiny import make_model

ORDER = Order(["唐", "宋", "元"], ["隐形", "飞行"], ["轻松", "艰难"], repeat=1)
FURTHER = Order(["秦", "隋"], ["龙卷风", "冰冻大海"], ["勇敢", "辛苦", "轻松"], repeat=1)
ENDS = {"written", "interrupted"}  # what so small a model writes may run into the bound of 2,000 tokens
ASKED = ("宋", "飞行", "艰难")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model server whose tiny model has learnt its tokenizer from stories of base-zh."""
    folder = tmp_path_factory.mktemp("endpoint")
    with_stories = start_server(folder / "first", "--mistake-rate", "0")
    wanted = [(one, two, three) for one in ORDER.dynasties for two in ORDER.powers for three in ORDER.types]
    texts = write_stories(with_stories.client, wanted * 4)
    with_stories.stop()
    base = make_model(folder / "tiny", hidden=96, context=2048, texts=texts)
    server = start_server(folder / "data", "--base-model", f"tiny={base}", "--mistake-rate", "0")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def journey(endpoint: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    addresses = {
        "OPENAI_BASE_URL": f"{endpoint.address}/v1",
        "OPENAI_MODEL": "base-zh",
        "FINE_TUNE_BASE_MODEL": "tiny",
    }
    site = Site(tmp_path_factory.mktemp("site") / "data", more=addresses)
    try:
        site.start()
        yield Journey(site, tmp_path_factory.mktemp("journey"))
    finally:
        site.stop()


def test_the_loop_goes_round_with_an_adapter(journey: Journey) -> None:
    run = journey.generate(ORDER)["run"]
    assert journey.review(run)["reviewed"] == 12
    dataset = journey.freeze(run, "lora")["dataset"]
    trained = journey.train(dataset, "--epochs", "40", "--learning-rate-multiplier", "3")
    assert trained["status"] == "succeeded"
    assert trained["model"].startswith("ft:tiny:local:ultraman:")
    # One batch each, of stories that differ by run; of ten seeds the last loss was 1.2 at most, the first 9.2 at least
    # (python -m bench.adapter_seeds). A multiplier of 10 left four of ten where they know only which tokens there are.
    assert trained["loss, last"] < trained["loss, first"] / 2
    journey.promote(trained["model"])
    read = journey.read(ASKED)
    assert (read["state"] in ENDS, read["model"]) == (True, trained["model"])
    assert read["as committed"]
    assert read["characters"] > 0
    told = journey.site.manage("tell_story", *ASKED, "--json").json
    assert (told["state"] in ENDS, told["model"]) == (True, trained["model"])
    child = _train_further(journey, trained["model"])
    assert child["loss, first"] < trained["loss, first"]
    assert journey.promote(child["model"])["previous"] == trained["model"]
    assert journey.promote(trained["model"])["previous"] == child["model"]


def _train_further(journey: Journey, parent: str) -> Figures:
    run = journey.generate(FURTHER)["run"]
    journey.review(run)
    dataset = journey.freeze(run, "lora-new")["dataset"]
    options = ("--model", parent, "--epochs", "3", "--learning-rate-multiplier", "1")
    child = journey.train(dataset, *options)
    assert child["status"] == "succeeded"
    parents = journey.query(
        "SELECT parent.name FROM stories_languagemodel child"
        " JOIN stories_languagemodel parent ON parent.id = child.parent_id WHERE child.name=?",
        child["model"],
    )
    assert parents == [(parent,)]
    return child


def test_the_site_knows_nothing_of_this_engine() -> None:
    root = Path(__file__).resolve().parents[2]
    sources = [
        path for app in ("stories", "finetuning", "ultraman_site") for path in (root / app).rglob("*.py")
    ]
    assert [path for path in sources if "lora" in path.read_text("utf-8").lower()] == []
