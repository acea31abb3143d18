"""llm/circuit_breaker.py: who may ask a Redis that was silent, and when."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm import circuit_breaker as module
from llm.circuit_breaker import REST, Outage, outage_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """`clock[0]` is the time."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_everyone_may_ask_a_redis_that_answers() -> None:
    outage = Outage()
    assert [outage.may_ask() for _ in range(3)] == [True] * 3
    assert not outage.seen_since(time.monotonic() - 60)


def test_after_a_rest_one_asks_and_the_others_wait_for_what_comes(clock: list[float]) -> None:
    outage = Outage()
    outage.begin()
    assert not outage.may_ask()
    clock[0] += REST
    assert [outage.may_ask() for _ in range(3)] == [True, False, False]
    outage.end()
    assert [outage.may_ask() for _ in range(3)] == [True] * 3


def test_who_was_to_ask_and_never_told_is_followed_by_another(clock: list[float]) -> None:
    outage = Outage()
    outage.begin()
    for _ in range(3):
        clock[0] += REST
        assert [outage.may_ask(), outage.may_ask()] == [True, False]


def test_it_tells_who_waited_meanwhile(clock: list[float]) -> None:
    outage = Outage()
    began = clock[0]
    clock[0] += 1
    outage.begin()
    assert outage.seen_since(began)
    clock[0] += 1
    assert not outage.seen_since(clock[0])
    outage.end()
    assert not outage.seen_since(began)


def test_of_many_threads_one_asks(clock: list[float]) -> None:
    outage = Outage()
    outage.begin()
    clock[0] += REST
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda _: outage.may_ask(), range(200))) == 1


def test_each_redis_has_its_own() -> None:
    assert outage_of("redis://one") is outage_of("redis://one")
    assert outage_of("redis://one") is not outage_of("redis://two")
