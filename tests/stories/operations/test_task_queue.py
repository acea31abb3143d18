"""Enqueuing a task never holds a page up, whether Redis answers, refuses or is silent."""

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings

from llm.circuit_breaker import CircuitBreaker, breaker_of
from stories.operations.task_queue import CONNECTIONS, MAX_SECONDS, enqueue
from stories.tasks import generate_story, write_story
from tests.environment import DATA_DIR, free_port
from tests.servers import listens, start_redis, start_worker, wait_until
from tests.sites import child_environment
from ultraman_site.celery import app


def queued(queue: str, *, port: int | None = None) -> list[str]:
    """The names of the tasks that wait in a queue."""
    url = f"redis://127.0.0.1:{port}/0" if port else settings.REDIS_URL
    with redis.Redis.from_url(url) as connection:
        return [json.loads(message)["headers"]["task"] for message in connection.lrange(queue, 0, -1)]


@pytest.fixture
def elsewhere(monkeypatch):
    """A port of its own for Celery's broker, with nobody there."""
    port = free_port()
    monkeypatch.setattr(app.conf, "broker_url", f"redis://127.0.0.1:{port}/0")
    app._after_fork()
    yield port
    monkeypatch.undo()
    app._after_fork()


def cool_down(url: str) -> None:
    """As if the cool-down of the breaker had passed."""
    breaker_of(url)._retry_at = time.monotonic()


def enqueue_at_once(messages: int) -> float:
    """So many threads enqueue a task each, and Redis takes none; returns the seconds of the slowest."""

    def one(number: int) -> float:
        began = time.monotonic()
        assert enqueue(write_story, f"{number}") is False
        return time.monotonic() - began

    with ThreadPoolExecutor(messages) as pool:
        return max(pool.map(one, range(messages)))


def test_a_task_goes_to_its_own_queue(redis_server):
    assert enqueue(write_story, "one") and enqueue(generate_story, "two")

    assert (queued("readers"), queued("bulk")) == (
        ["stories.tasks.write_story"],
        ["stories.tasks.generate_story"],
    )


def test_without_redis_it_gives_up_at_once_and_says_so(elsewhere, caplog):
    began = time.monotonic()

    assert enqueue(write_story, "one") is False
    assert time.monotonic() - began < 4
    assert "Redis is away, stories.tasks.write_story waits for the sweeper" in caplog.text


def test_a_silent_redis_costs_seconds_at_most(redis_server):
    assert enqueue(write_story, "one")
    redis_server.freeze()
    began = time.monotonic()

    try:
        assert enqueue(write_story, "two") is False
    finally:
        redis_server.thaw()
    assert time.monotonic() - began < 5


def test_thirty_orders_at_once_wait_no_longer_than_one(redis_server, caplog):
    redis_server.freeze()
    assert enqueue_at_once(30) < 4
    assert enqueue_at_once(30) < 0.5, "it is known by now"
    assert 1 <= caplog.text.count("Redis is away") <= CONNECTIONS + 1

    redis_server.thaw()
    cool_down(settings.REDIS_URL)
    assert enqueue(write_story, "one") is True


def test_without_the_breaker_each_call_waits_anew(redis_server, monkeypatch):
    monkeypatch.setattr(CircuitBreaker, "allows", lambda self: True)
    redis_server.freeze()
    assert enqueue_at_once(3) > MAX_SECONDS * 0.9
    assert enqueue_at_once(3) > MAX_SECONDS * 0.9


def test_it_finds_redis_again_when_it_has_cooled_down(elsewhere):
    assert enqueue(write_story, "one") is False
    with start_redis(elsewhere, log=DATA_DIR / "logs" / "redis-again.log"):
        assert enqueue(write_story, "two") is False
        cool_down(app.conf.broker_url)
        assert enqueue(write_story, "three") is enqueue(write_story, "four") is True
    wait_until(lambda: not listens(elsewhere), what="the other Redis ended")
    assert urlsplit(settings.REDIS_URL).port != elsewhere


def test_a_worker_outlives_its_redis(elsewhere, transactional_db):
    env = child_environment(REDIS_URL=f"redis://127.0.0.1:{elsewhere}/0")
    logs = DATA_DIR / "logs"
    with start_redis(elsewhere, log=logs / "redis-first.log") as first:
        worker = start_worker("readers", "readers", threads=2, log=logs / "worker-outlives.log", env=env)
        first.kill()
    with worker, start_redis(elsewhere, log=logs / "redis-second.log"):
        assert enqueue(write_story, str(uuid.uuid4())) is True
        worker.wait_until(lambda: queued("readers", port=elsewhere) == [], seconds=20)
