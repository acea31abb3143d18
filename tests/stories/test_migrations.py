"""A database of an earlier version comes along, with figures that today's constraints refuse."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from stories.models import Attempt, Flag, LanguageModel, SpendDay, Story
from stories.tasks import check_new_stories

BEFORE = [("stories", "0007_batch_backoff")]
BEFORE_THINKING = [("stories", "0015_declined")]


@pytest.fixture
def earlier(transactional_db: None) -> Iterator[MigrationExecutor]:
    """The schema before prices and counters had ranges."""
    executor = MigrationExecutor(connection)
    executor.migrate(BEFORE)
    yield executor
    migrate_to_today()


def migrate_to_today() -> None:
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


@pytest.mark.both_databases
def test_impossible_prices_become_unknown_and_counters_nothing(earlier: MigrationExecutor) -> None:
    apps = earlier.loader.project_state(BEFORE).apps
    odd = {"input_price": Decimal(-1), "output_price": Decimal(20_000), "training_price": Decimal("2.5")}
    models = apps.get_model("stories", "LanguageModel").objects
    parent = models.create(name="parent", base_url="u", base="b", input_price=Decimal(10_000))
    model = models.create(name="odd", base_url="u", base="b", parent=parent, **odd)
    apps.get_model("stories", "SpendDay").objects.create(day=date(2026, 1, 1), spent=-5, reserved=7)
    combo = {"dynasty": "唐", "super_power": "隐形", "story_type": "轻松"}
    story = apps.get_model("stories", "Story").objects.create(**combo, origin="import", language_model=model)
    call = {"fence": 1, "state": "complete", "day": date(2026, 1, 1), "price": 3}
    apps.get_model("stories", "Attempt").objects.create(story=story, language_model=model, **call)

    migrate_to_today()

    prices = LanguageModel.objects.values_list("name", "input_price", "output_price", "training_price")
    assert list(prices.order_by("name")) == [
        ("odd", None, None, Decimal("2.5")),
        ("parent", Decimal(10_000), None, None),
    ]
    assert SpendDay.objects.values_list("spent", "reserved").get() == (0, 7)
    attempt = Attempt.objects.get()
    assert (attempt.purpose, str(attempt.doubt), attempt.corrected_at) == ("story", "", None)


@pytest.fixture
def without_thinking(transactional_db: None) -> Iterator[MigrationExecutor]:
    """The schema of the version that could not tell thinking from text."""
    executor = MigrationExecutor(connection)
    executor.migrate(BEFORE_THINKING)
    yield executor
    migrate_to_today()


@pytest.mark.both_databases
def test_stories_that_may_hold_thinking_are_looked_at_again(without_thinking: MigrationExecutor) -> None:
    stories = (
        without_thinking.loader.project_state(BEFORE_THINKING).apps.get_model("stories", "Story").objects
    )
    combo = {"dynasty": "唐", "super_power": "隐形", "story_type": "轻松"}
    kw = combo | {"origin": "import", "state": "written", "length": 9, "checked_at": timezone.now()}
    stories.create(**kw, text="<Think>想</think>从前。")
    stories.create(**kw, text="从前。", edited_text="[THINK]想[/THINK]从前。")
    stories.create(**kw, text="从前有座山。")

    migrate_to_today()

    assert Story.objects.filter(checked_at__isnull=True).count() == 2
    check_new_stories()
    assert Flag.objects.filter(kind=Flag.Kind.THINKING).count() == 2
