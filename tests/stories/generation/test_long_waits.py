"""A provider that says "come back tomorrow": readers wait a minute at most, and hear it in the end."""

from datetime import timedelta

import pytest
import redis
import time_machine
from django.conf import settings
from django.utils import timezone

from llm.rate_limit import TooSoon, acquire, observe, permits, scripts
from stories.generation import streaming
from stories.generation.completion import fill
from stories.generation.outcomes import MAX_RUN_RETRY
from stories.generation.states import MAX_TRIES
from stories.models import Story
from tests.factories import make_run, make_serving_model, make_story
from tests.provider import CHAT, Fault, Provider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]
DAY = 86_400
MINUTE = timedelta(seconds=60)


def queued() -> Story:
    return make_story(state="queued", language_model=make_serving_model())


def seconds_until_next_try(story: Story) -> float:
    story.refresh_from_db()
    assert story.state == Story.State.QUEUED
    assert story.next_try_at is not None
    return (story.next_try_at - timezone.now()).total_seconds()


def test_a_reader_never_waits_a_day(provider: Provider) -> None:
    story = queued()
    provider.next(Fault.RATE_LIMIT, retry_after=DAY)
    streaming.write(story)
    assert 0 < seconds_until_next_try(story) <= 60


def test_nor_does_the_reader_behind_who_was_never_refused(provider: Provider) -> None:
    first = queued()
    provider.next(Fault.RATE_LIMIT, retry_after=DAY)
    streaming.write(first)
    second = make_story(state="queued", language_model=first.language_model)
    streaming.write(second)
    assert 0 < seconds_until_next_try(second) <= 60
    assert len(provider.posts(CHAT)) == 1


def test_a_minute_later_the_story_is_written_as_if_nothing_had_been(provider: Provider) -> None:
    story = queued()
    provider.next(Fault.RATE_LIMIT, retry_after=DAY)
    streaming.write(story)
    permits.forget()
    forget_holds()
    with time_machine.travel(timezone.now() + MINUTE + timedelta(seconds=1)):
        streaming.write(Story.objects.get(pk=story.pk))
    assert Story.objects.get(pk=story.pk).state == Story.State.WRITTEN


def test_who_was_put_off_long_enough_is_told(provider: Provider) -> None:
    """An order comes to an end, also where the provider never changes its mind."""
    provider.always(Fault.RATE_LIMIT, retry_after=DAY)
    story, now = queued(), timezone.now()
    for minute in range(MAX_TRIES + 2):
        forget_holds()
        with time_machine.travel(now + minute * (MINUTE + timedelta(seconds=1))):
            streaming.write(Story.objects.get(pk=story.pk))
    story.refresh_from_db()
    assert (story.state, story.end_reason) == ("failed", "refused")
    assert "请求过多" in str(story.error)
    assert len(provider.posts(CHAT)) == MAX_TRIES + 1


def test_a_short_wait_uses_up_no_try(provider: Provider) -> None:
    story = queued()
    provider.next(Fault.RATE_LIMIT, retry_after=2)
    streaming.write(story)
    assert 0 < seconds_until_next_try(story) <= 2
    assert story.tries == 0


def test_a_story_of_a_run_waits_ten_minutes_at_most(provider: Provider) -> None:
    story = make_story(run=make_run(), state="queued")
    provider.next(Fault.RATE_LIMIT, retry_after=DAY)
    fill(Story.objects.select_related("run", "language_model", "template").get(pk=story.pk))
    assert 60 < seconds_until_next_try(story) <= MAX_RUN_RETRY


@pytest.mark.parametrize("without_redis", [False, True])
def test_a_long_hold_is_a_minute_for_readers_and_ten_for_runs(
    without_redis: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_redis:
        monkeypatch.setattr(scripts, "run", lambda *_arguments: None)
    observe(acquire("http://p/v1", "m", seconds=1), limited=True, retry_after=DAY)
    with pytest.raises(TooSoon) as reader:
        acquire("http://p/v1", "m", seconds=0, urgent=True)
    with pytest.raises(TooSoon) as bulk:
        acquire("http://p/v1", "m", seconds=0)
    assert 40 < reader.value.seconds <= 60
    assert 590 < bulk.value.seconds <= 600


def forget_holds() -> None:
    """As if the limiter's clock, which is Redis's own, had moved on."""
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        server.flushall()
