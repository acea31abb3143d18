"""llm/circuit_breaker.py: who may call a Redis that was silent, and when."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm import circuit_breaker as module
from llm.circuit_breaker import COOL_DOWN, CircuitBreaker, breaker_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """`clock[0]` is the time."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_everyone_may_call_a_redis_that_answers() -> None:
    breaker = CircuitBreaker()
    assert [breaker.allows() for _ in range(3)] == [True] * 3
    assert not breaker.failed_since(time.monotonic() - 60)


def test_after_a_cool_down_one_caller_tries_and_the_others_wait(clock: list[float]) -> None:
    breaker = CircuitBreaker()
    breaker.record_failure()
    assert not breaker.allows()
    clock[0] += COOL_DOWN
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.record_success()
    assert [breaker.allows() for _ in range(3)] == [True] * 3


def test_a_trial_that_records_nothing_is_followed_by_another(clock: list[float]) -> None:
    breaker = CircuitBreaker()
    breaker.record_failure()
    for _ in range(3):
        clock[0] += COOL_DOWN
        assert [breaker.allows(), breaker.allows()] == [True, False]


def test_it_tells_who_waited_whether_a_call_failed_meanwhile(clock: list[float]) -> None:
    breaker = CircuitBreaker()
    began = clock[0]
    clock[0] += 1
    breaker.record_failure()
    assert breaker.failed_since(began)
    clock[0] += 1
    assert not breaker.failed_since(clock[0])
    breaker.record_success()
    assert not breaker.failed_since(began)


def test_of_many_threads_one_tries(clock: list[float]) -> None:
    breaker = CircuitBreaker()
    breaker.record_failure()
    clock[0] += COOL_DOWN
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda _: breaker.allows(), range(200))) == 1


def test_each_redis_has_a_breaker_of_its_own() -> None:
    assert breaker_of("redis://one") is breaker_of("redis://one")
    assert breaker_of("redis://one") is not breaker_of("redis://two")
