"""The rate limit that all workers share, on a real Redis."""

import threading
import time

import pytest
import redis
from django.conf import settings

from llm.rate_headers import NOTHING, Rates, read_rates, read_retry_after, read_span
from llm.rate_limit import Permit, TooSoon, acquire, limits, observe, permits, release
from tests.servers import Child

PLACE, MODEL = "http://provider.test/v1", "gpt-4o-mini"


@pytest.fixture(autouse=True)
def _fresh(redis_server: Child) -> None:
    """Each test begins with an empty Redis; what a process learnt is forgotten by conftest.py."""


def take(*, seconds: float = 5.0, urgent: bool = False, tokens: int = 0) -> Permit:
    return acquire(PLACE, MODEL, seconds=seconds, urgent=urgent, tokens=tokens)


def kept() -> dict[str, float]:
    """What Redis knows about the rate limit."""
    with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as server:
        known = server.hgetall(limits.rate_limit_of(PLACE, MODEL).key)
    return {name: float(value) for name, value in known.items()}


def seconds_for(count: int, *, threads: int = 1, urgent: bool = False) -> float:
    """How long `count` permits take."""

    def take_some() -> None:
        for _ in range(count // threads):
            take(seconds=30, urgent=urgent)

    began = time.monotonic()
    crowd = [threading.Thread(target=take_some) for _ in range(threads)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    return time.monotonic() - began


def limit_to(requests: int, **rates: int) -> None:
    observe(take(), rates=Rates(requests=requests, **rates))


# --- the rate -------------------------------------------------------------------------------------------


def test_a_limit_that_is_named_is_kept_just_below() -> None:
    limit_to(600)
    assert kept()["rate"] == pytest.approx(9.9)
    assert 1.7 < seconds_for(20, threads=4) < 10


def test_without_the_clock_the_same_permits_pass_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: permits handed out without looking."""
    limit_to(600)
    monkeypatch.setattr(permits, "_reserve", lambda limit, wish: (Permit(limit), 0.0))
    assert seconds_for(20, threads=4) < 1.7


def test_each_endpoint_and_model_has_a_limit_of_its_own() -> None:
    limit_to(60)
    take()
    assert not acquire(PLACE, "another", seconds=1).waited
    assert not acquire("http://elsewhere.test/v1", MODEL, seconds=1).waited


def test_nothing_is_reserved_more_than_a_moment_ahead() -> None:
    limit_to(6)
    take()
    with pytest.raises(TooSoon) as caught:
        take(seconds=0.1)
    assert 3 < caught.value.seconds < 10.2
    assert kept()["next"] / 1e6 - time.time() < 14, "who gave up has taken no slot"


def test_a_rate_that_nobody_named_doubles_each_second_until_it_is_refused() -> None:
    for _ in range(8):
        take()
    waiting = next(
        permit for permit in (take() for _ in range(50)) if permit.waited
    )  # a slow machine needs more
    for _ in range(8):
        observe(waiting)
    assert kept()["rate"] == pytest.approx(16.0, rel=0.1)


def test_a_rate_that_was_not_used_up_does_not_grow() -> None:
    permit = take()
    assert not permit.waited
    for _ in range(50):
        observe(permit)
    assert kept()["rate"] == 8.0


def test_a_refusal_stops_bulk_work_once_however_many_calls_were_under_way() -> None:
    crowd = [take() for _ in range(5)]
    for permit in crowd:
        observe(permit, limited=True)
    assert kept()["pause"] == 300_000, "one event, so the shortest pause"
    probe = take()
    with pytest.raises(TooSoon):
        take(seconds=0.1)  # one call at a time asks whether the provider takes calls again
    observe(probe, limited=True)
    assert kept()["pause"] == 600_000
    observe(take())
    assert "blocked" not in kept()
    assert kept()["rate"] == pytest.approx(8 * 0.8), (
        "what refused for a moment only is cut by a fifth at most"
    )


def test_after_a_refusal_the_rate_grows_slowly_at_first() -> None:
    observe(take(), limited=True)
    observe(take())
    waiting = next(permit for permit in (take() for _ in range(50)) if permit.waited)
    observe(waiting)
    assert 6.4 <= kept()["rate"] < 6.5


def test_a_call_counts_as_under_way_until_it_ends() -> None:
    first, second = take(), take()
    observe(second, limited=True, at_once=True)
    assert kept()["cap"] == 1
    with pytest.raises(TooSoon):
        take(seconds=0.2)
    release(first)
    take(seconds=1)


def test_a_call_whose_worker_died_counts_until_its_lease_ends() -> None:
    acquire(PLACE, MODEL, seconds=1, lease=0.4)
    observe(take(), limited=True, at_once=True)
    began = time.monotonic()
    take(seconds=5)
    assert 0.2 < time.monotonic() - began < 3


def test_a_reader_goes_first_where_calls_at_once_are_limited() -> None:
    running = take()
    observe(take(), limited=True, at_once=True)
    done: list[str] = []

    def work(urgent: bool) -> None:
        take(seconds=30, urgent=urgent)
        done.append("reader" if urgent else "bulk")

    bulk = threading.Thread(target=work, args=(False,))
    reader = threading.Thread(target=work, args=(True,))
    bulk.start()
    reader.start()
    while "reader_until" not in kept():
        time.sleep(0.01)
    release(running)
    reader.join(timeout=5)
    assert done == ["reader"]
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        server.delete(f"{limits.rate_limit_of(PLACE, MODEL).key}:calls")
    bulk.join(timeout=10)
    assert done == ["reader", "bulk"]


def test_a_refusal_with_a_time_stops_everyone_for_that_long() -> None:
    permit = take()
    began = time.monotonic()
    observe(permit, limited=True, retry_after=0.7)
    take(urgent=True)
    assert time.monotonic() - began > 0.6


def test_a_long_hold_is_not_waited_for() -> None:
    observe(take(), limited=True, retry_after=60)
    began = time.monotonic()
    with pytest.raises(TooSoon) as caught:
        take(seconds=5)
    assert time.monotonic() - began < 4
    assert 55 < caught.value.seconds < 61


def test_tokens_a_minute_are_kept_too() -> None:
    limit_to(6000, tokens=1000, tokens_left=1000)
    take(tokens=600)
    with pytest.raises(TooSoon) as caught:
        take(tokens=600, seconds=1)
    assert 8 < caught.value.seconds < 13, "200 tokens more take twelve seconds"


def test_what_the_provider_counted_replaces_our_guess() -> None:
    limit_to(6000, tokens=1000, tokens_left=1000)
    guessed = take(tokens=900)
    observe(guessed, rates=Rates(requests=6000, tokens=1000, tokens_left=900))
    take(tokens=800, seconds=0.5)


def test_a_daily_quota_is_no_rate() -> None:
    said = {"x-ratelimit-limit-requests": "200", "x-ratelimit-remaining-requests": "199"}
    assert read_rates(said | {"x-ratelimit-reset-requests": "7m12s"}) == NOTHING
    assert read_rates(said | {"x-ratelimit-reset-requests": "300ms"}) == Rates(200, 199)


def test_redis_keeps_the_fields_that_a_worker_of_an_older_version_reads() -> None:
    limit_to(600, tokens=1000, tokens_left=900)
    observe(take(), limited=True, retry_after=0)
    times = {"next", "held", "held_urgent", "cut_at", "used_until"}
    assert {"rate", "told", "tpm", "granted"} | times <= set(kept())


# --- readers first --------------------------------------------------------------------------------------


def test_a_reader_goes_before_those_who_wait() -> None:
    limit_to(60)
    done: list[str] = []

    def work() -> None:
        take(seconds=30)
        done.append("bulk")

    crowd = [threading.Thread(target=work) for _ in range(3)]
    for one in crowd:
        one.start()
    time.sleep(0.2)  # all three have asked by then, and wait
    began = time.monotonic()
    take(urgent=True)
    waited = time.monotonic() - began
    done.append("reader")
    for one in crowd:
        one.join()
    assert waited < 2.5, "three went before it"
    assert done.index("reader") <= 1, "bulk took at most the slot that was due"


def test_readers_keep_the_limit_as_well() -> None:
    limit_to(600)
    assert 1.5 < seconds_for(30, threads=5, urgent=True) < 15


# --- when Redis is away ---------------------------------------------------------------------------------


def test_without_redis_it_goes_on_at_half_the_rate(settings) -> None:
    limit_to(1200)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert 0.5 < seconds_for(10) < 15
    permit = take()
    began = time.monotonic()
    observe(permit, limited=True, retry_after=0.5)
    take()
    assert time.monotonic() - began > 0.4


def test_a_frozen_redis_holds_a_story_up_for_a_moment_only(redis_server: Child) -> None:
    limit_to(1200)
    redis_server.freeze()
    began = time.monotonic()
    take()
    take()
    redis_server.thaw()
    assert time.monotonic() - began < 10


def test_a_flushed_redis_is_learnt_anew() -> None:
    limit_to(1200)
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        server.flushall()
        server.script_flush()
    take()
    assert kept()["rate"] == 8.0


# --- words of the providers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m", 3720.0),
        ("12", 12.0),
        ("soon", None),
        ("", None),
    ],
)
def test_spans(text: str, seconds: float | None) -> None:
    assert read_span(text) == seconds


@pytest.mark.parametrize("value", ["nan", "inf", "", "-5", "½", "9" * 30])
def test_odd_numbers_are_no_limits(value: str) -> None:
    assert read_rates({"x-ratelimit-limit-requests": value}).requests is None
    assert read_retry_after({"retry-after": value}) in (None, 0.0, 86_400.0)
