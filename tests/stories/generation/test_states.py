"""Claim, deliver, duplicate, expire, fail, resolve in any order: the provider's ledger is the witness."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from llm.answers import Answer
from llm.errors import OutcomeUnknown, OutOfMoney, Refused, ServerFailed, TryAgainLater
from stories.errors import StoryError
from stories.generation import completion, states, sweeper
from stories.models import Attempt, LanguageModel, Run, SpendDay, Story, Template
from stories.runs.lifecycle import cancel_run, pause_run, resume_run
from stories.runs.unknown_calls import resolve_attempt, retry_stories
from tests.factories import TEXT, make_model, make_run, make_story, make_template

STORIES = 3
LATE = timedelta(seconds=1)
NOT_BILLED: dict[str, Any] = {
    "limit": lambda: TryAgainLater("429", retry_after=1.0, status=429),
    "server": lambda: ServerFailed("500", status=500),
    "refused": lambda: Refused("400", status=400),
    "quota": lambda: OutOfMoney("quota", status=429),
}


@dataclass
class Call:
    """One POST, as the provider's ledger has it; `story` is what the worker held when it sent it."""

    story: Story
    attempt: Attempt
    billed: bool = False

    @property
    def key(self) -> tuple[Any, int]:
        return self.story.pk, self.attempt.fence


class Machine(RuleBasedStateMachine):
    """Workers that hold calls of one run, and everything that may happen to them."""

    daily_limit = True

    def __init__(self) -> None:
        super().__init__()
        for table in (Attempt, Story, Run, SpendDay, LanguageModel, Template):
            table.objects.all().delete()
        make_template()
        model = make_model(input_price=Decimal("0.15"), output_price=Decimal("0.60"))
        self.run_key = make_run(language_model=model, budget=9_000).pk
        for _ in range(STORIES):
            make_story(run=self.order, state=Story.State.QUEUED)
        self.ledger: list[Call] = []
        self.flying: list[Call] = []

    @property
    def order(self) -> Run:
        return Run.objects.get(pk=self.run_key)

    def load(self, slot: int) -> Story:
        stories = Story.objects.select_related("run", "language_model", "template")
        return stories.get(run=self.run_key, slot=slot)

    # --- what workers do

    @rule(slot=st.integers(0, STORIES - 1), copies=st.integers(1, 3))
    def deliver_the_message(self, slot: int, copies: int) -> None:
        """One message, or the same one several times: each copy loaded the row before the first one claimed."""
        Story.objects.filter(run=self.run_key, slot=slot).update(next_try_at=None)
        for story in [self.load(slot) for _ in range(copies)]:
            claimed = states.is_due(story) and states.claim(story, lease=completion.LEASE)
            if claimed and (opened := completion._open(story)):
                call = Call(story, opened[0])
                self.ledger.append(call)
                self.flying.append(call)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def answer_arrives(self, data: st.DataObject) -> None:
        call = self._take(data)
        call.billed = True
        answer = Answer(TEXT, "stop", prompt_tokens=100, completion_tokens=300)
        completion.take_answer(call.story, call.attempt, answer)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), what=st.sampled_from(sorted(NOT_BILLED)))
    def call_is_refused(self, data: st.DataObject, what: str) -> None:
        call = self._take(data)
        completion.take_error(call.story, call.attempt, NOT_BILLED[what]())

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), billed=st.booleans())
    def outcome_is_lost(self, data: st.DataObject, billed: bool) -> None:
        call = self._take(data)
        call.billed = billed
        completion.take_error(call.story, call.attempt, OutcomeUnknown("reset"))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), billed=st.booleans())
    def worker_dies(self, data: st.DataObject, billed: bool) -> None:
        """Nothing is written any more; the lease runs out and the sweeper comes, perhaps twice."""
        self._take(data).billed = billed

    @rule()
    def leases_run_out(self) -> None:
        """Also of workers that are only slow: their answers arrive later, and must change nothing."""
        Story.objects.filter(state=Story.State.WRITING).update(lease_until=timezone.now() - LATE)
        sweeper.expire_leases()
        sweeper.expire_leases()

    # --- what people do

    @rule(data=st.data())
    def staff_resolves(self, data: st.DataObject) -> None:
        for attempt in Attempt.objects.filter(state=Attempt.State.UNKNOWN).select_related("story"):
            call = next(call for call in self.ledger if call.attempt.pk == attempt.pk)
            if call not in self.flying:
                resolve_attempt(attempt, billed=call.billed, by="tom")

    @rule()
    def staff_retries(self) -> None:
        retry_stories(Story.objects.filter(run=self.run_key).select_related("run"))

    @rule()
    def run_is_paused(self) -> None:
        self._try(lambda: pause_run(self.order, "午休"))

    @rule()
    def run_goes_on(self) -> None:
        self._try(lambda: resume_run(self.order))

    @precondition(lambda self: len(self.ledger) > STORIES)
    @rule()
    def run_is_cancelled(self) -> None:
        self._try(lambda: cancel_run(self.order))

    # --- what must hold

    @invariant()
    def each_claim_made_at_most_one_call(self) -> None:
        keys = [call.key for call in self.ledger]
        assert len(keys) == len(set(keys)) == Attempt.objects.count()

    @invariant()
    def money_adds_up_and_keeps_the_budget(self) -> None:
        order, day = self.order, SpendDay.objects.first()
        prices = Attempt.objects.aggregate(total=Sum("price"))["total"] or 0
        open_ones = Attempt.objects.filter(state__in=Attempt.OPEN)
        reserved = open_ones.aggregate(total=Sum("reserved"))["total"] or 0
        assert (order.spent, order.reserved) == (prices, reserved)
        assert order.spent + order.reserved <= (order.budget or 0)
        assert (day.spent, day.reserved) == (prices, reserved) if day else prices == 0

    @invariant()
    def what_the_provider_bills_is_in_the_books(self) -> None:
        for call in self.ledger:
            if call.billed:
                attempt = Attempt.objects.get(pk=call.attempt.pk)
                assert attempt.reserved if attempt.state in Attempt.OPEN else attempt.price

    @invariant()
    def a_written_story_has_its_one_answer(self) -> None:
        for story in Story.objects.filter(state=Story.State.WRITTEN):
            attempt = Attempt.objects.get(story=story, fence=story.fence)
            assert (story.text, attempt.state) == (TEXT, "complete")

    @invariant()
    def a_run_is_done_when_nothing_is_left(self) -> None:
        unfinished = Story.objects.filter(run=self.run_key).unfinished()
        if self.order.state == Run.State.DONE:
            assert not unfinished.exists()
        if self.order.state in (Run.State.RUNNING, Run.State.PAUSED):
            assert unfinished.exists()
        if self.order.state == Run.State.CANCELLED:
            assert not unfinished.filter(state=Story.State.QUEUED).exists()

    def _take(self, data: st.DataObject) -> Call:
        return self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))

    @staticmethod
    def _try(act: Any) -> None:
        try:
            act()
        except StoryError:
            return

    def teardown(self) -> None:
        """After any single fault and any mixture of them: the run comes to an end, or waits for a person."""
        self.flying.clear()
        self.leases_run_out()
        for _ in range(STORIES):
            for slot in range(STORIES):
                self.deliver_the_message(slot, 1)
                for call in list(self.flying):
                    self.flying.remove(call)
                    call.billed = True
                    answer = Answer(TEXT, "stop", prompt_tokens=1, completion_tokens=1)
                    completion.take_answer(call.story, call.attempt, answer)
        assert self.order.state in (Run.State.DONE, Run.State.CANCELLED, Run.State.PAUSED)
        if self.order.state == Run.State.PAUSED:
            assert str(self.order.pause_reason)
        assert not Story.objects.filter(state=Story.State.WRITING).exists()


@pytest.fixture
def _endpoint(settings: Any) -> Iterator[None]:
    settings.DAILY_SPEND_LIMIT_USD = Decimal("0.01")
    yield


def test_no_order_of_events_pays_twice_or_loses_a_story(db: None, _endpoint: None) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=checks,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],  # a step costs a database: no shrinking
        ),
    )
