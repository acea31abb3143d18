"""Runs through real workers while things die: the provider's ledger of POSTs is what counts."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
import redis
from django.conf import settings as site
from django.utils import timezone

from stories.generation import sweeper
from stories.models import Attempt, Run, SpendDay, Story
from stories.operations.heartbeats import silent_processes
from stories.operations.task_queue import enqueue
from stories.runs.lifecycle import count_states, start_run
from stories.tasks import enqueue_run, generate_story, sweep
from tests.conftest import LOGS, Workers
from tests.environment import free_port
from tests.factories import make_model, make_run, make_story
from tests.provider import CHAT, Fault, Provider
from tests.servers import Child, python, start_redis, wait_until
from tests.sites import child_environment

pytestmark = [pytest.mark.django_db(transaction=True)]
StartWorkers = Callable[..., Workers]


def order(stories: int, **kw: object) -> Run:
    """A draft with that many queued stories."""
    run = make_run(state=Run.State.DRAFT, **kw)
    for _ in range(stories):
        make_story(run=run, state=Story.State.QUEUED)
    return run


def start(run: Run) -> None:
    start_run(run)
    enqueue_run(run)


def state_of(run: Run) -> str:
    return Run.objects.get(pk=run.pk).state


def wait_for_end(run: Run, *, seconds: float = 60) -> None:
    """Sweeps as beat does, a little faster."""

    def ended() -> bool:
        sweep()
        return state_of(run) in (Run.State.DONE, Run.State.PAUSED)

    wait_until(ended, seconds=seconds, every=0.5, what="the run ends")


def age_leases() -> None:
    """As if the minutes of a lease had passed."""
    Story.objects.filter(state=Story.State.WRITING).update(lease_until=timezone.now() - timedelta(seconds=1))


def age_messages() -> None:
    """As if the minute after which a standing run is told of again had passed."""
    long_ago = timezone.now() - sweeper.REPUBLISH - timedelta(seconds=5)
    Story.objects.update(created_at=long_ago)
    Story.objects.filter(published_at__isnull=False).update(published_at=long_ago)
    Story.objects.filter(started_at__isnull=False).update(started_at=long_ago)


# --- killed workers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [False, True])
def test_a_worker_killed_before_or_after_the_provider_answered(
    provider: Provider, start_workers: StartWorkers, *, answers: bool
) -> None:
    workers = start_workers("bulk", base_url=provider.base_url)
    provider.next(Fault.DONE_BUT_HANG if answers else Fault.HANG)
    run = order(1)
    start(run)
    wait_until(lambda: len(provider.posts(CHAT)) == 1, seconds=20)
    workers.kill("bulk")
    age_leases()
    workers.start("bulk")
    wait_for_end(run)
    story = run.stories.get()
    assert (story.state, story.end_reason) == ("failed", "lost")
    assert story.attempts.get().state == Attempt.State.UNKNOWN
    time.sleep(1)  # a worker that asked again would do so by now
    assert len(provider.posts(CHAT)) == 1, "nobody asks again by himself"


def test_a_worker_killed_in_the_middle_of_many_loses_none_and_pays_none_twice(
    provider: Provider, start_workers: StartWorkers
) -> None:
    provider.answer_after = 0.3
    workers = start_workers("bulk", base_url=provider.base_url)
    run = order(40)
    start(run)
    wait_until(lambda: len(provider.posts(CHAT)) >= 10, seconds=20)
    workers.kill("bulk")
    age_leases()
    sweep()
    age_messages()
    sweep()  # while nobody writes: once the run moves again, what its dead worker held waits for its end
    workers.start("bulk")
    wait_for_end(run)
    states = count_states(run)
    assert states["written"] + states["failed"] == 40
    assert states["failed"] <= 24, "only those that were under way"
    calls = Attempt.objects.exclude(state=Attempt.State.REFUSED)
    assert calls.values("story").distinct().count() == calls.count() == 40
    assert len(provider.posts(CHAT)) <= 40


# --- messages -------------------------------------------------------------------------------------------


def test_the_same_message_three_times_is_one_call(provider: Provider, start_workers: StartWorkers) -> None:
    provider.answer_after = 0.5
    start_workers("bulk", base_url=provider.base_url)
    run = order(1)
    start_run(run)
    for _ in range(3):
        enqueue(generate_story, run.stories.get().pk)
    wait_for_end(run)
    enqueue(generate_story, run.stories.get().pk)
    time.sleep(1)  # a worker that asked again would do so by now
    assert len(provider.posts(CHAT)) == 1
    assert Attempt.objects.count() == 1


def test_redis_flushed_with_work_queued(provider: Provider, start_workers: StartWorkers) -> None:
    run = order(12)
    start(run)
    with redis.Redis.from_url(site.REDIS_URL) as server:
        assert server.llen("bulk") == 12
        server.flushall()
    start_workers("bulk", base_url=provider.base_url)
    age_messages()
    wait_for_end(run)
    assert count_states(run)["written"] == len(provider.posts(CHAT)) == 12


def test_two_beats_at_once_make_no_second_call(provider: Provider, start_workers: StartWorkers) -> None:
    run = order(12)
    start_run(run)
    age_messages()
    beats = [threading.Thread(target=sweep) for _ in range(2)]
    for beat in beats:
        beat.start()
    for beat in beats:
        beat.join()
    start_workers("bulk", base_url=provider.base_url)
    wait_for_end(run)
    assert count_states(run)["written"] == len(provider.posts(CHAT)) == 12


def test_without_beat_a_run_ends_and_health_says_who_is_silent(
    provider: Provider, start_workers: StartWorkers
) -> None:
    start_workers("bulk", base_url=provider.base_url)
    run = order(5)
    start(run)
    wait_until(lambda: state_of(run) == Run.State.DONE, seconds=30)
    wait_until(lambda: silent_processes() == ["worker-readers", "beat"], seconds=10)


@pytest.fixture
def other_redis() -> Iterator[tuple[int, Child]]:
    """A Redis of this test's own, to be killed."""
    port = free_port()
    child = start_redis(port, log=LOGS / f"redis-{port}.log")
    yield port, child
    child.stop()


def test_redis_killed_with_work_queued(provider: Provider, other_redis: tuple[int, Child]) -> None:
    """Worker and beat of a copy whose Redis dies and comes back empty: all work ends."""
    port, server = other_redis
    provider.answer_after = 0.2
    env = child_environment(base_url=provider.base_url, REDIS_URL=f"redis://127.0.0.1:{port}/0")
    celery = ("-m", "celery", "-A", "ultraman_site")
    queues = ("-Q", "bulk,training,housekeeping", "-P", "threads", "-c", "4")
    run = order(40)
    start_run(run)
    age_messages()
    worker = python(*celery, "worker", "-n", "bulk@%h", *queues, log=LOGS / f"bulk-{port}.log", env=env)
    beat = python(*celery, "beat", "--pidfile=", log=LOGS / f"beat-{port}.log", env=env)
    with worker, beat:
        wait_until(lambda: len(provider.posts(CHAT)) >= 8, seconds=40)
        server.kill()
        time.sleep(2)  # Redis is away
        with start_redis(port, log=LOGS / f"redis-{port}-again.log"):
            age_messages()
            wait_until(lambda: state_of(run) == Run.State.DONE, seconds=90, what="the run ends")
    assert count_states(run)["written"] == len(provider.posts(CHAT)) == 40


# --- money ----------------------------------------------------------------------------------------------


def priced() -> object:
    return make_model(name="gpt-4o-mini", input_price=Decimal("0.15"), output_price=Decimal("0.60"))


def test_many_workers_with_money_for_a_few(provider: Provider, start_workers: StartWorkers) -> None:
    provider.answer_after = 0.3
    start_workers("bulk", base_url=provider.base_url)
    run = order(60, language_model=priced(), budget=6_500)  # five reservations
    start(run)
    highest = 0

    def paused() -> bool:
        nonlocal highest
        now = Run.objects.get(pk=run.pk)
        highest = max(highest, now.spent + now.reserved)
        return now.state == Run.State.PAUSED and not run.stories.filter(state=Story.State.WRITING).exists()

    wait_until(paused, seconds=40, every=0.01)
    run.refresh_from_db()
    assert highest <= 6_500
    assert run.reserved == 0
    assert "预算" in str(run.pause_reason)
    states = count_states(run)
    assert states["written"] == len(provider.posts(CHAT)) > 0
    assert states["written"] + states["queued"] == 60, "nothing failed for want of money"


def test_the_days_limit_holds_for_all_runs_and_workers(
    provider: Provider, start_workers: StartWorkers
) -> None:
    provider.answer_after = 0.3
    start_workers("bulk", base_url=provider.base_url, DAILY_SPEND_LIMIT_USD="0.0065")
    model = priced()
    runs = [order(30, language_model=model), order(30, language_model=model)]
    for run in runs:
        start(run)

    def all_paused() -> bool:
        assert SpendDay.objects.count() == 0 or sum_of_day() <= 6_500
        writing = Story.objects.filter(state=Story.State.WRITING)
        return {state_of(run) for run in runs} == {Run.State.PAUSED} and not writing.exists()

    wait_until(all_paused, seconds=40, every=0.01)
    assert {Run.objects.get(pk=run.pk).reserved for run in runs} == {0}
    assert all("每日上限" in str(Run.objects.get(pk=run.pk).pause_reason) for run in runs)


def sum_of_day() -> int:
    day = SpendDay.objects.get()
    return day.spent + day.reserved


def test_out_of_quota_stops_all_calls_within_seconds(provider: Provider, start_workers: StartWorkers) -> None:
    provider.always(Fault.QUOTA)
    start_workers("bulk", base_url=provider.base_url)
    run = order(60)
    start(run)
    wait_until(lambda: state_of(run) == Run.State.PAUSED, seconds=30)
    wait_until(lambda: not run.stories.filter(state=Story.State.WRITING).exists(), seconds=10)
    run.refresh_from_db()
    assert "额度已用完" in str(run.pause_reason)
    assert count_states(run)["queued"] == 60
    assert len(provider.posts(CHAT)) <= 24
