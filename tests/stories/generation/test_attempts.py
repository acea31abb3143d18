"""Money: what a settlement may be, whatever a provider claims; corrections are in test_corrections.py."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from stories.generation import attempts, completion, streaming
from stories.generation.prompts import ask_for
from stories.models import Attempt, LanguageModel, Run, SpendDay, Story
from tests.factories import make_model, make_run, make_serving_model, make_story
from tests.provider import Provider

pytestmark = pytest.mark.django_db
MOST = 10**9


@pytest.fixture
def attempt() -> Attempt:
    """An open call of a run, with its money reserved."""
    model = make_model(input_price=Decimal("0.15"), output_price=Decimal("0.60"))
    story = make_story(run=make_run(language_model=model), state=Story.State.WRITING)
    return attempts.open_attempt(story, ask_for(model, story.combo, template=story.template))


def settle(attempt: Attempt, prompt: Any, completion: Any, *, state: str = Attempt.State.COMPLETE) -> Attempt:
    assert attempts.settle(attempt, state=state, prompt_tokens=prompt, completion_tokens=completion)
    return Attempt.objects.get(pk=attempt.pk)


def money() -> tuple[int, int, int, int]:
    day, run = SpendDay.objects.get(), Run.objects.get()
    return day.spent, day.reserved, run.spent, run.reserved


def test_an_honest_bill_is_settled_as_it_is(attempt: Attempt) -> None:
    settled = settle(attempt, 100, 300)
    price = attempts.bill(settled.language_model, prompt_tokens=100, completion_tokens=300)
    assert (settled.price, str(settled.doubt)) == (price, "")
    assert money() == (price, 0, price, 0)


CACHED = [
    (Decimal("0.075"), 60, 40 * 15 + 60 * 7.5 + 300 * 60),
    (None, 60, 100 * 15 + 300 * 60),
    (Decimal(0), 60, 40 * 15 + 300 * 60),
    (Decimal("0.075"), None, 100 * 15 + 300 * 60),
    (Decimal("0.075"), 10**6, 100 * 7.5 + 300 * 60),
]


@pytest.mark.both_databases
@pytest.mark.parametrize(("cached_price", "cached", "cents"), CACHED)
def test_input_that_was_read_before_has_its_own_price_and_thinking_is_billed_once(
    attempt: Attempt, cached_price: Decimal | None, cached: int | None, cents: float
) -> None:
    """The prices are 0.15 and 0.60 a million tokens; of the 300 that were written 200 were thinking."""
    LanguageModel.objects.update(cached_input_price=cached_price)
    attempt = Attempt.objects.select_related("language_model", "story").get()
    counts = {
        "prompt_tokens": 100,
        "completion_tokens": 300,
        "cached_tokens": cached,
        "reasoning_tokens": 200,
    }
    assert attempts.settle(attempt, state=Attempt.State.COMPLETE, **counts)
    settled = Attempt.objects.get()
    assert settled.price is not None and 0 <= settled.price - cents / 100 < 2, "whole micro-USD, rounded up"
    assert (settled.cached_tokens, settled.reasoning_tokens) == (cached, 200)


@pytest.mark.parametrize("odd", [-1, 2**40, 1.5, "60", True])
def test_an_odd_count_of_cached_tokens_is_not_said(attempt: Attempt, odd: Any) -> None:
    LanguageModel.objects.update(cached_input_price=0)
    attempt = Attempt.objects.select_related("language_model", "story").get()
    attempts.settle(attempt, state="complete", prompt_tokens=100, completion_tokens=300, cached_tokens=odd)
    assert (Attempt.objects.get().price, Attempt.objects.get().cached_tokens) == (195, None)


def test_the_dearest_honest_bill_is_the_reservation(attempt: Attempt) -> None:
    asked = ask_for(attempt.language_model, attempt.story.combo, template=attempt.story.template)
    length = sum(len(message["content"]) for message in asked.messages)
    settled = settle(attempt, length * 3 // 2 + 32, asked.max_tokens)
    assert (settled.price, str(settled.doubt)) == (attempt.reserved, "")


def test_a_bill_above_the_reservation_is_clamped_and_flagged(attempt: Attempt) -> None:
    settled = settle(attempt, 100, 1_000_000)
    assert settled.price == attempt.reserved
    assert (settled.prompt_tokens, settled.completion_tokens) == (100, 1_000_000)
    assert "1000000" in str(settled.doubt) and "$0.6000" in str(settled.doubt)
    assert money() == (attempt.reserved, 0, attempt.reserved, 0)


COUNTS = [2**40, MOST + 1, -1, -(2**63), 10**5000, 1.5, "7", True, float("inf")]


@pytest.mark.parametrize("count", COUNTS, ids=range(len(COUNTS)))
def test_impossible_counts_are_unknown_and_cost_the_reservation(attempt: Attempt, count: Any) -> None:
    settled = settle(attempt, 100, count)
    assert (settled.price, settled.prompt_tokens, settled.completion_tokens) == (attempt.reserved, 100, None)
    assert str(settled.doubt)
    assert money() == (attempt.reserved, 0, attempt.reserved, 0)


def test_two_to_the_forty_leaves_the_day_open(attempt: Attempt, settings: Any) -> None:
    settings.DAILY_SPEND_LIMIT_USD = Decimal(5)
    settle(attempt, 100, 2**40)
    assert SpendDay.objects.get().spent <= 5_000_000
    attempts.reserve_day(1_000_000, attempt.day)


def test_a_provider_that_says_nothing_is_no_reason_for_doubt(attempt: Attempt) -> None:
    settled = settle(attempt, None, None, state=Attempt.State.UNKNOWN)
    assert (settled.price, str(settled.doubt)) == (attempt.reserved, "")


def test_a_refused_call_costs_nothing_whatever_it_claims(attempt: Attempt) -> None:
    settled = settle(attempt, 100, 2**40, state=Attempt.State.REFUSED)
    assert (settled.price, settled.completion_tokens) == (0, None)
    assert money() == (0, 0, 0, 0)


def test_an_unknown_price_stays_unknown() -> None:
    model = make_model(input_price=None, output_price=None)
    story = make_story(run=make_run(language_model=model), state=Story.State.WRITING)
    opened = attempts.open_attempt(story, ask_for(model, story.combo, template=story.template))
    settled = settle(opened, 5, 2**40)
    assert (settled.price, settled.completion_tokens) == (None, None)
    assert str(settled.doubt)


def test_no_counter_falls_below_nothing(attempt: Attempt) -> None:
    SpendDay.objects.update(reserved=0)
    Run.objects.update(reserved=0)
    attempts.charge(settle(attempt, 1, 1), -10_000_000)
    assert money() == (0, 0, 0, 0)


@pytest.mark.parametrize("column", ["spent", "reserved"])
def test_the_database_refuses_a_negative_counter(attempt: Attempt, column: str) -> None:
    with pytest.raises(IntegrityError, match="spend_day_not_negative"), transaction.atomic():
        SpendDay.objects.update(**{column: -1})


@pytest.mark.parametrize("column", ["input_price", "output_price", "training_price"])
def test_the_database_refuses_a_negative_price(attempt: Attempt, column: str) -> None:
    with pytest.raises(IntegrityError, match="model_prices_in_range"), transaction.atomic():
        LanguageModel.objects.update(**{column: Decimal("-0.0001")})


USAGE = {"prompt_tokens": 100, "completion_tokens": 300, "total_tokens": 400}
THOUGHT = {
    "completion_tokens_details": {"reasoning_tokens": 200},
    "prompt_tokens_details": {"cached_tokens": 60},
}


@pytest.mark.parametrize(
    ("usage", "written"),
    [
        (USAGE | THOUGHT, 300),
        (USAGE | THOUGHT | {"completion_tokens": 100}, 300),  # thinking beside: 100 + 100 + 200 = 400
        (USAGE | THOUGHT | {"total_tokens": 7}, 300),
        (
            USAGE | {"prompt_cache_hit_tokens": 60, "completion_tokens_details": {"reasoning_tokens": 200}},
            300,
        ),
    ],
)
@pytest.mark.parametrize("is_run", [True, False])
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server")
def test_a_call_is_priced_by_what_its_answer_counts(
    provider: Provider, usage: dict[str, Any], written: int, is_run: bool
) -> None:
    provider.alter = lambda _call, event: event | {"usage": event["usage"] and usage}
    prices = {"input_price": Decimal(1), "cached_input_price": Decimal("0.5"), "output_price": Decimal(2)}
    model = make_serving_model(**prices)
    run = make_run(language_model=model) if is_run else None
    story = make_story(run=run, state=Story.State.QUEUED, language_model=model)
    story = Story.objects.select_related("run", "language_model", "template").get(pk=story.pk)
    completion.fill(story) if is_run else streaming.write(story)
    settled = story.attempts.get()
    assert (settled.completion_tokens, settled.cached_tokens, settled.reasoning_tokens) == (written, 60, 200)
    assert settled.price == 40 + 30 + 600
