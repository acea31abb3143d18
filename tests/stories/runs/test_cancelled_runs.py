"""A run that was cancelled: what its stories say, to the office, to a viewer, and where they said it wrongly before."""

import re
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.utils import timezone

from stories import migrations
from stories.generation import states
from stories.generation.stop import request_stop
from stories.live.snapshots import take_snapshots
from stories.live.viewer import Viewer
from stories.models import EndReason, Story
from stories.runs.lifecycle import cancel_run
from tests.environment import BASE_DIR
from tests.factories import make_run, make_story

pytestmark = pytest.mark.django_db
CONTRACT = [
    "stop",
    "length",
    "content_filter",
    "stopped",
    "cut",
    "lost",
    "refused",
    "quota",
    "empty",
    "unknown",
]


def reasons(run: Any) -> list[str]:
    return sorted(run.stories.values_list("end_reason", flat=True))


@pytest.mark.both_databases
def test_whatever_way_a_cancel_reaches_a_story_it_says_so() -> None:
    run = make_run()
    for state in ("queued", "queued", "writing"):
        make_story(run=run, state=state)
    request_stop(run.stories.filter(state="queued").first())
    cancel_run(run)
    states.release(run.stories.get(state="writing"))
    assert reasons(run) == ["cancelled", "cancelled", "stopped"]


@pytest.mark.parametrize("reason", ["", *EndReason.values])
def test_the_socket_keeps_to_the_reasons_of_its_contract(reason: str) -> None:
    story = make_story(state="interrupted", end_reason=reason)
    end = Viewer(attempt="", offset=0).catch_up(take_snapshots([story.pk])[story.pk])[-1]
    expected = {"": "unknown", "cancelled": "stopped"}.get(reason, reason)
    assert (end["type"], end["reason"]) == ("end", expected)
    assert end["reason"] in CONTRACT


@pytest.mark.both_databases
def test_rows_of_before_are_named_anew_and_back() -> None:
    """The migration: what a person stopped before the run was cancelled keeps its reason."""
    now = timezone.now()
    run = make_run(state="cancelled", finished_at=now)
    ended = {"state": "cancelled", "end_reason": "stopped"}
    make_story(run=run, ended_at=now - timedelta(seconds=5), **ended)
    make_story(run=run, ended_at=now + timedelta(milliseconds=1), **ended)
    make_story(run=run, state="interrupted", end_reason="stopped", ended_at=now + timedelta(seconds=1))
    of_a_reader = make_story(reader_key="a" * 32, ended_at=now, **ended)
    module = import_module(f"stories.migrations.{_name_of_migration()}")
    module.name_cancelled_runs(apps, None)
    assert reasons(run) == ["cancelled", "stopped", "stopped"]
    assert Story.objects.get(pk=of_a_reader.pk).end_reason == "stopped"
    module.name_them_stopped(apps, None)
    assert reasons(run) == ["stopped"] * 3


def _name_of_migration() -> str:
    folder = Path(migrations.__path__[0])
    return next(path.stem for path in folder.glob("*.py") if "def name_cancelled_runs" in path.read_text())


def test_no_template_cancels_a_run_or_a_job_without_asking() -> None:
    """What cancels stands on a page of its own, which only a link leads to."""
    for path in (BASE_DIR / "templates").rglob("*.html"):
        assert not re.search(r'value="(cancel|abandon|delete)"', path.read_text("utf-8")), path
