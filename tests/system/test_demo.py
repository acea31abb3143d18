"""The demo content of a first start: made by the real loop, whole even if the first try was cut."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.visitor import Visitor
from tests.environment import clean_environment
from tests.servers import python, wait_until
from tests.sites import Site


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[Site]:
    """A copy that makes its demo content, killed while it does; not started again yet."""
    site = Site(tmp_path / "data", more={"SEED": "1"})
    own = {"READ_ENV_FILES": "0", "DATA_DIR": str(site.data_dir), "PORT": str(site.port), "SEED": "1"}
    log = tmp_path / "first.log"
    with python("-m", "devserver", log=log, env=clean_environment() | own) as first:
        first.wait_until(lambda: "demo     | " in first.output, seconds=90)
        assert "ready:" not in first.output
        first.kill()
    try:
        yield site
    finally:
        site.stop()


def query(site: Site, sql: str) -> list[Any]:
    with closing(sqlite3.connect(site.data_dir / "site.sqlite3")) as database:
        return database.execute(sql).fetchall()


def test_demo_shows_every_end_and_verdict_once_it_is_ready(seeded: Site) -> None:
    seeded.start()
    states = query(seeded, "SELECT DISTINCT state FROM stories_story ORDER BY state")
    assert states == [("cancelled",), ("failed",), ("interrupted",), ("written",)]
    verdicts = query(seeded, "SELECT DISTINCT verdict FROM stories_story ORDER BY verdict")
    assert verdicts == [("approved",), ("rejected",), ("unreviewed",)]
    assert query(seeded, "SELECT count(*) FROM stories_story WHERE edited_text <> ''") == [(1,)]
    assert query(seeded, "SELECT count(*) FROM stories_run WHERE state='done'") == [(1,)]
    assert query(seeded, "SELECT count(*) FROM finetuning_dataset") == [(1,)]
    assert query(seeded, "SELECT state FROM finetuning_job") == [("succeeded",)]
    ((steps,),) = query(seeded, "SELECT count(*) FROM finetuning_jobstep WHERE training_loss IS NOT NULL")
    assert steps > 10
    ((serving,),) = query(seeded, "SELECT name FROM stories_languagemodel WHERE promoted_at IS NOT NULL")
    assert serving.startswith("ft:base-zh:")
    assert "南北朝" in Visitor(seeded).get("/")

    before = query(seeded, "SELECT count(*) FROM stories_story")
    again = seeded.manage("seed_demo", "--json")
    assert (again.rc, again.json) == (0, {"made": False})
    assert query(seeded, "SELECT count(*) FROM stories_story") == before


def test_a_site_with_stories_of_its_own_gets_no_demo(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("dynasty,super_power,story_type,story\n唐,隐形,轻松,我们自己的故事。\n", encoding="utf-8")
    assert site.manage("import_stories", str(file)).rc == 0
    before = query(site, "SELECT count(*) FROM stories_story")
    assert site.manage("seed_demo", "--json").rc == 0
    wait_until((site.data_dir / "demo.done").exists, seconds=1)
    assert query(site, "SELECT count(*) FROM stories_story") == before
