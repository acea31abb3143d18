"""Clients apart: what one made, another neither sees nor uses; a replaced key sees it still."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from model_server.clients import read_keys
from model_server.store import Store

from .conftest import Server, ask, chat_lines, combos, until, upload, write_stories
from .routes.test_batches import until_ended


def test_a_key_may_name_its_client() -> None:
    written = ["alone", "publisher:sk-1", " publisher:sk-2 ", "", "publisher:", "a:b:c"]
    assert read_keys(written) == {
        "alone": "",
        "sk-1": "publisher",
        "sk-2": "publisher",
        "c": "a:b",
    }


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    keys = ["--api-key", "alice:sk-a", "--api-key", "alice:sk-a-new", "--api-key", "bob:sk-b"]
    return start("--tokens-per-second", "0", "--mistake-rate", "0", *keys, key="sk-a")


@pytest.fixture
def bob(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.client.base_url, api_key="sk-b", max_retries=0) as client:
        yield client


@pytest.fixture
def alice_again(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.client.base_url, api_key="sk-a-new", max_retries=0) as client:
        yield client


def test_files_jobs_models_and_batches_belong_to_who_made_them(
    server: Server, bob: OpenAI, alice_again: OpenAI
) -> None:
    alice = server.client
    wanted = combos(1)[:12]
    training = upload(alice, chat_lines(wanted, write_stories(alice, wanted)))
    job = alice.fine_tuning.jobs.create(model="base-zh", training_file=training)
    job = until(alice, job.id, "succeeded", "failed")
    assert job.fine_tuned_model
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}
    requests = alice.files.create(file=("b.jsonl", json.dumps(line).encode()), purpose="batch").id
    batch = alice.batches.create(
        input_file_id=requests, endpoint="/v1/chat/completions", completion_window="24h"
    )

    for mine in (alice, alice_again):
        assert [one.id for one in mine.fine_tuning.jobs.list()] == [job.id]
        assert job.fine_tuned_model in [one.id for one in mine.models.list()]
        assert mine.files.content(job.result_files[0]).text
        assert ask(mine, "唐,隐形,轻松", model=job.fine_tuned_model)

    assert (bob.files.list().data, bob.fine_tuning.jobs.list().data, bob.batches.list().data) == ([], [], [])
    assert [one.id for one in bob.models.list()] == ["base-zh"]
    assert ask(bob, "唐,隐形,轻松")
    jobs = bob.fine_tuning.jobs
    for reach in (
        *(lambda: bob.files.retrieve(training), lambda: bob.files.content(training)),
        *(lambda: bob.files.delete(training), lambda: bob.files.content(job.result_files[0])),
        *(lambda: jobs.retrieve(job.id), lambda: jobs.cancel(job.id), lambda: jobs.pause(job.id)),
        *(lambda: jobs.list_events(job.id), lambda: jobs.checkpoints.list(job.id)),
        *(lambda: bob.batches.retrieve(batch.id), lambda: bob.batches.cancel(batch.id)),
        *(lambda: bob.models.retrieve(job.fine_tuned_model), lambda: bob.models.delete(job.fine_tuned_model)),
        *(lambda: ask(bob, "唐,隐形,轻松", model=job.fine_tuned_model),),
        *(lambda: jobs.create(model=job.fine_tuned_model, training_file=training),),
    ):
        with pytest.raises(NotFoundError):
            reach()
    with pytest.raises(BadRequestError, match="there is no file"):
        jobs.create(model="base-zh", training_file=training)
    with pytest.raises(BadRequestError, match="There is no file"):
        bob.batches.create(input_file_id=requests, endpoint="/v1/chat/completions", completion_window="24h")
    assert alice.files.retrieve(training).id == training


def test_a_batch_uses_the_models_of_its_client_alone(server: Server, bob: OpenAI) -> None:
    alice = server.client
    wanted = combos(1)[:12]
    training = upload(alice, chat_lines(wanted, write_stories(alice, wanted)))
    tuned = until(
        alice,
        alice.fine_tuning.jobs.create(model="base-zh", training_file=training).id,
        "succeeded",
        "failed",
    ).fine_tuned_model
    body = {"model": tuned, "messages": [{"role": "user", "content": "唐,隐形,轻松"}]}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    answered = {}
    for name, client in (("alice", alice), ("bob", bob)):
        file = client.files.create(file=("b.jsonl", json.dumps(line).encode()), purpose="batch").id
        batch = client.batches.create(
            input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h"
        )
        batch = until_ended(client, batch.id)
        answered[name] = (batch.request_counts.completed, batch.request_counts.failed)
    assert answered == {"alice": (1, 0), "bob": (0, 1)}


def test_what_an_earlier_version_kept_is_of_the_client_without_a_name(tmp_path: Path) -> None:
    place = tmp_path / "store.sqlite3"
    with sqlite3.connect(place) as old:
        old.execute(
            "CREATE TABLE files (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL,"
            " filename TEXT NOT NULL, purpose TEXT NOT NULL, bytes INTEGER NOT NULL, created_at INTEGER NOT NULL)"
        )
        old.execute("INSERT INTO files VALUES (1, 'file-1', 'a.jsonl', 'fine-tune', 1, 1)")
    store = Store(place)
    store.create()
    listed = {
        name: store.files(name, purpose=None, after=None, limit=5, ascending=True) for name in ("", "bob")
    }
    assert [row["id"] for row in listed[""]] == ["file-1"]
    assert listed["bob"] == []
