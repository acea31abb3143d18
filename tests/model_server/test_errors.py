"""Every error in OpenAI's shape, with one sentence and the right status."""

from typing import Any

import httpx2
import pytest

from .conftest import Server

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "唐,隐形,轻松"}]


def error_of(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]
    return error


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"[1]", b'"a"', b"[" * 100_000, b'{"model": NaN}'])
def test_a_body_that_is_no_json_object(server: Server, body: bytes) -> None:
    answer = httpx2.post(server.address + CHAT, content=body)
    assert "JSON" in error_of(answer, 400)["message"]


def test_half_a_surrogate_pair_is_refused(server: Server) -> None:
    body = b'{"model":"base-zh","messages":[{"role":"user","content":"\\ud83d"}]}'
    error_of(httpx2.post(server.address + CHAT, content=body), 400)


def test_an_unknown_field_is_named(server: Server) -> None:
    answer = httpx2.post(
        server.address + CHAT, json={"model": "base-zh", "messages": MESSAGES, "temprature": 1}
    )
    error = error_of(answer, 400)
    assert error["param"] == "temprature"
    assert error["code"] == "unknown_parameter"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 3),
        ("top_p", -1),
        ("max_tokens", 0),
        ("stop", ["a"] * 5),
        ("stream", "perhaps"),
        ("model", 5),
    ],
)
def test_a_wrong_value_is_named(server: Server, field: str, value: Any) -> None:
    body = {"model": "base-zh", "messages": MESSAGES} | {field: value}
    assert error_of(httpx2.post(server.address + CHAT, json=body), 400)["param"].startswith(field)


def test_a_huge_body_is_refused(server: Server) -> None:
    body = {"model": "base-zh", "messages": [{"role": "user", "content": "唐" * 2_000_000}]}
    error_of(httpx2.post(server.address + CHAT, json=body), 413)


def test_a_missing_field_is_named(server: Server) -> None:
    assert error_of(httpx2.post(server.address + CHAT, json={"model": "base-zh"}), 400)["param"] == "messages"


def test_unknown_url_and_wrong_method(server: Server) -> None:
    assert error_of(httpx2.get(server.address + "/v1/engines"), 404)["code"] == "unknown_url"
    assert error_of(httpx2.get(server.address + CHAT), 405)["code"] == "method_not_supported"


@pytest.mark.parametrize(
    "path", ["files/file-x", "files/file-x/content", "fine_tuning/jobs/ftjob-x", "models/x"]
)
def test_unknown_things_are_404(server: Server, path: str) -> None:
    error = error_of(httpx2.get(f"{server.address}/v1/{path}"), 404)
    assert "x" in error["message"]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=999999999999", "after=nothing"])
def test_bad_paging(server: Server, query: str) -> None:
    error_of(httpx2.get(f"{server.address}/v1/fine_tuning/jobs?{query}"), 400)


def test_moderation_flags_listed_words_only(server: Server) -> None:
    fine, bad = server.client.moderations.create(input=["他打败了怪兽。", "他教人制造炸弹。"]).results
    assert not fine.flagged
    assert bad.flagged
    assert bad.categories.illicit
    assert not bad.categories.violence
