"""Keys and the requests per minute."""

from collections.abc import Callable

import httpx2
import pytest
from openai import AuthenticationError, OpenAI, RateLimitError

from model_server.limits import TokenBucket, format_duration

from .conftest import Server, ask


def test_beyond_the_limit_429_says_when(start: Callable[..., Server]) -> None:
    server = start("--requests-per-minute", "6")
    for left in (5, 4, 3, 2, 1, 0):
        messages = [{"role": "user", "content": "唐,隐形,轻松"}]
        raw = server.client.chat.completions.with_raw_response.create(model="base-zh", messages=messages)
        assert raw.headers["x-ratelimit-limit-requests"] == "6"
        assert raw.headers["x-ratelimit-remaining-requests"] == str(left)
        assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
    with pytest.raises(RateLimitError) as caught:
        ask(server.client, "唐,隐形,轻松")
    assert caught.value.code == "rate_limit_exceeded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 10
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert server.client.models.list().data


def test_no_limit_no_headers(server: Server) -> None:
    assert "x-ratelimit-limit-requests" not in httpx2.get(f"{server.address}/v1/models").headers


def test_bucket_refills_evenly() -> None:
    now = [0.0]
    bucket = TokenBucket(60, clock=lambda: now[0])
    assert [bucket.take() for _ in range(60)] == [0.0] * 60
    assert bucket.take() == pytest.approx(1.0)
    now[0] = 0.5
    assert bucket.take() == pytest.approx(0.5)
    now[0] = 1.0
    assert bucket.take() == 0.0
    now[0] = 1000.0
    assert bucket.headers()["x-ratelimit-remaining-requests"] == "60"


def test_spans_are_written_as_openai_does() -> None:
    written = [format_duration(seconds) for seconds in (0.25, 1, 59.2, 360)]
    assert written == ["250ms", "1s", "1m0s", "6m0s"]


def test_only_a_right_key_is_let_in(start: Callable[..., Server]) -> None:
    server = start("--api-key", "sk-one", "--api-key", "sk-two", key="sk-two")
    assert server.client.models.list().data[0].id == "base-zh"
    with OpenAI(base_url=server.client.base_url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(AuthenticationError) as caught:
            stranger.models.list()
        assert caught.value.code == "invalid_api_key"
        assert "wrong" not in caught.value.message
    assert httpx2.get(f"{server.address}/v1/models").status_code == 401
    assert server.health()["status"] == "ok"


def test_each_client_has_a_bucket_of_its_own(start: Callable[..., Server]) -> None:
    server = start("--requests-per-minute", "1", "--api-key", "alice", "--api-key", "bob", key="alice")
    assert ask(server.client, "唐,隐形,轻松")
    with pytest.raises(RateLimitError):
        ask(server.client, "唐,隐形,轻松")
    with OpenAI(base_url=f"{server.address}/v1", api_key="bob", max_retries=0) as bob:
        assert ask(bob, "唐,隐形,轻松")
    with OpenAI(base_url=f"{server.address}/v1", api_key="eve", max_retries=0) as eve:
        for _ in range(2):
            with pytest.raises(AuthenticationError):
                ask(eve, "唐,隐形,轻松")
