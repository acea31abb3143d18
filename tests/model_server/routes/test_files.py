"""/v1/files: the whole life of a file, and uploads that are refused."""

from collections.abc import Callable

import httpx2
import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI

from tests.model_server.conftest import Server, upload


def test_create_list_get_content_delete(client: OpenAI) -> None:
    body = '{"messages": []}\n中文\r\n'.encode()
    made = client.files.create(file=("训练-1.jsonl", body), purpose="fine-tune")
    assert (made.filename, made.bytes, made.purpose, made.status) == (
        "训练-1.jsonl",
        len(body),
        "fine-tune",
        "processed",
    )
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).content == body
    assert made.id in [one.id for one in client.files.list(purpose="fine-tune")]
    assert made.id not in [one.id for one in client.files.list(purpose="batch")]
    assert client.files.delete(made.id).deleted
    for gone in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(NotFoundError):
            gone(made.id)


def test_listing_walks_all_pages(client: OpenAI) -> None:
    made = [upload(client, b"x", f"{number}.jsonl") for number in range(5)]
    walked = [one.id for one in client.files.list(limit=2)]
    assert walked[:5] == made[::-1]
    assert len(walked) == len(set(walked))
    assert client.files.list(limit=2, order="asc").data[0].id == walked[-1]


def test_a_path_in_the_name_is_dropped(client: OpenAI) -> None:
    assert client.files.create(file=("../../etc/passwd", b"x"), purpose="fine-tune").filename == "passwd"


def test_an_upload_over_the_limit_is_refused(start: Callable[..., Server]) -> None:
    server = start("--max-file-mb", "1")
    kept = upload(server.client, b"x" * 1024 * 1024)
    with pytest.raises(APIStatusError) as caught:
        upload(server.client, b"x" * (1024 * 1024 + 1))
    assert caught.value.status_code == 413

    def endless() -> "list[bytes]":
        return [b"x" * 65536] * 64

    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    answer = httpx2.post(
        f"{server.address}/v1/files",
        content=iter([head, *endless()]),
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == 413
    assert [one.id for one in server.client.files.list()] == [kept]


def test_wrong_purpose_and_no_file(server: Server) -> None:
    with pytest.raises(BadRequestError, match="purpose"):
        server.client.files.create(file=("a", b"x"), purpose="mischief")  # type: ignore[arg-type]
    with pytest.raises(BadRequestError, match="empty"):
        upload(server.client, b"")
    answer = httpx2.post(f"{server.address}/v1/files", files={"other": b"x"}, data={"purpose": "fine-tune"})
    assert answer.json()["error"]["param"] == "file"
    assert httpx2.post(f"{server.address}/v1/files", json={}).status_code == 400
    for boundary in ("", "; boundary=b"):
        headers = {"content-type": f"multipart/form-data{boundary}"}
        answer = httpx2.post(f"{server.address}/v1/files", content=b"nonsense", headers=headers)
        assert answer.status_code == 400
