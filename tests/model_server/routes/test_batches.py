"""/v1/batches through the real SDK."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from tests.model_server.conftest import Server, combos
from tests.servers import wait_until

CHAT = "/v1/chat/completions"
Lines = list[dict[str, Any]]


def line(id: str, prompt: str = "唐,隐形,轻松", *, model: str = "base-zh", url: str = CHAT) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "seed": 1}
    return {"custom_id": id, "method": "POST", "url": url, "body": body}


def upload(client: OpenAI, lines: Lines | bytes, *, purpose: Any = "batch") -> str:
    if not isinstance(lines, bytes):
        lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in lines).encode()
    return client.files.create(file=("requests.jsonl", lines), purpose=purpose).id


def create(client: OpenAI, lines: Lines | bytes, **more: Any) -> Any:
    return client.batches.create(
        input_file_id=upload(client, lines), endpoint=CHAT, completion_window="24h", **more
    )


def until_ended(client: OpenAI, id: str, *, seconds: float = 60) -> Any:
    def ended() -> Any:
        found = client.batches.retrieve(id)
        return found if found.status in ("completed", "failed", "cancelled") else None

    return wait_until(ended, seconds=seconds, every=0.1, what="the batch ends")


def read(client: OpenAI, file_id: str) -> dict[str, Any]:
    """The lines of a result file by their custom_id."""
    lines = [json.loads(text) for text in client.files.content(file_id).text.splitlines()]
    return {one["custom_id"]: one for one in lines}


def test_it_works(client: OpenAI) -> None:
    wanted = combos(1)[:20]
    batch = create(
        client, [line(f"s{n}", ",".join(combo)) for n, combo in enumerate(wanted)], metadata={"order": "7"}
    )
    assert (batch.object, batch.status, batch.metadata) == ("batch", "validating", {"order": "7"})
    batch = until_ended(client, batch.id)
    assert batch.status == "completed"
    assert batch.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
    assert batch.error_file_id is None
    written = read(client, batch.output_file_id)
    assert set(written) == {f"s{n}" for n in range(20)}
    answer = written["s3"]["response"]
    assert answer["status_code"] == 200
    assert answer["body"]["choices"][0]["finish_reason"] == "stop"
    assert answer["body"]["usage"]["completion_tokens"] == len(
        answer["body"]["choices"][0]["message"]["content"]
    )
    asked = client.chat.completions.create(
        model="base-zh", messages=[{"role": "user", "content": ",".join(wanted[3])}], seed=1
    )
    assert answer["body"]["choices"][0]["message"]["content"] == asked.choices[0].message.content


def test_a_request_that_is_refused_goes_to_the_error_file(client: OpenAI) -> None:
    batch = until_ended(client, create(client, [line("good"), line("bad", model="gpt-9")]).id)
    assert batch.status == "completed"
    assert batch.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}
    assert set(read(client, batch.output_file_id)) == {"good"}
    refused = read(client, batch.error_file_id)["bad"]["response"]
    assert refused["status_code"] == 404
    assert refused["body"]["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("lines", "number", "words"),
    [
        (b"not json", 1, "not JSON"),
        (b"[]", 1, "no body"),
        ([line("a"), line("a")], 2, "used before"),
        ([line("a", url="/v1/completions")], 1, "POST to"),
        ([line("")], 1, "custom_id"),
        (b"\n\n", None, "empty"),
        (b"\xff\xfe\x00", None, "UTF-8"),
    ],
)
def test_a_bad_file_fails_the_batch_by_its_line(
    client: OpenAI, lines: Lines | bytes, number: int | None, words: str
) -> None:
    batch = until_ended(client, create(client, lines).id)
    assert batch.status == "failed"
    (fault,) = batch.errors.data
    assert (fault.line, words in fault.message) == (number, True)
    assert batch.output_file_id is None


def test_what_cannot_be_ordered_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="no file"):
        client.batches.create(input_file_id="file-none", endpoint=CHAT, completion_window="24h")
    wrong = upload(client, [line("a")], purpose="fine-tune")
    with pytest.raises(BadRequestError, match="purpose"):
        client.batches.create(input_file_id=wrong, endpoint=CHAT, completion_window="24h")
    with pytest.raises(NotFoundError):
        client.batches.retrieve("batch_none")


def test_a_cancelled_batch_keeps_what_was_answered(start: Callable[..., Server]) -> None:
    client = start().client
    many = [line(f"s{n}", ",".join(combo)) for n, combo in enumerate(combos(90))]
    batch = create(client, many)
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed, every=0.02)
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = until_ended(client, batch.id)
    assert batch.status == "cancelled"
    assert 0 < batch.request_counts.completed < len(many)
    assert len(read(client, batch.output_file_id)) == batch.request_counts.completed
    with pytest.raises(BadRequestError, match="already ended"):
        client.batches.cancel(batch.id)


def test_a_batch_survives_its_server(start: Callable[..., Server]) -> None:
    server = start()
    batch = create(server.client, [line(f"s{n}", ",".join(combo)) for n, combo in enumerate(combos(20))])
    wait_until(lambda: server.client.batches.retrieve(batch.id).request_counts.completed, every=0.02)
    server.stop()
    again = start(data=server.data).client
    batch = until_ended(again, batch.id)
    assert batch.status == "completed"
    assert len(read(again, batch.output_file_id)) == len(combos(20))


def test_they_are_listed_newest_first(start: Callable[..., Server]) -> None:
    client = start().client
    ids = [create(client, [line("a")]).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)] == ids[::-1]
    assert client.batches.list(limit=2).has_more
