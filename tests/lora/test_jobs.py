"""The life of a job: killed and gone on with, paused, cancelled, out of memory; and the SDK drives it all."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import torch
from openai import BadRequestError, OpenAI
from openai.types import FileObject, Model
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from model_server.engines.lora.training_process import memory_fault
from tests.model_server.conftest import Server, until, upload
from tests.servers import wait_until

from .conftest import Tuned, finish, results, supervised
from .tiny import chat_lines

LONG = supervised(n_epochs=50, batch_size=1)


def order(client: OpenAI, method: Any, **options: Any) -> FineTuningJob:
    file = upload(client, chat_lines(12))
    return client.fine_tuning.jobs.create(
        **{"model": "tiny", "training_file": file, "seed": 5, "method": method} | options
    )


def until_step(client: OpenAI, job: str, step: int, seconds: float = 120) -> None:
    def reached() -> bool:
        events = client.fine_tuning.jobs.list_events(job, limit=5).data
        return any(isinstance(event.data, dict) and event.data["step"] >= step for event in events)

    wait_until(reached, seconds=seconds, every=0.1, what=f"step {step}")


def descendants(pid: int) -> list[int]:
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    found = [pid]
    for one in found:
        found += [child for child, parent in pairs if parent == one]
    return found[1:]


def alive(pids: list[int]) -> list[int]:
    """Those that run; a process that has ended and was not yet waited for does not."""
    found = []
    for pid in pids:
        state = subprocess.run(
            ["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        if state.stdout.strip() not in ("", "Z"):
            found.append(pid)
    return found


def test_a_killed_server_goes_on_from_the_last_checkpoint(start: Callable[..., Server], first: Tuned) -> None:
    server = start()
    job = order(server.client, supervised(), validation_file=upload(server.client, chat_lines(15)[12:]))
    until_step(server.client, job.id, 20)
    family = descendants(server.process.pid)
    assert len(family) >= 3
    server.stop(signal.SIGKILL)
    wait_until(lambda: not alive(family), seconds=10, every=0.1, what="the training ends with its server")
    client = start(data=server.data).client
    tuned = finish(client, job, [])
    said = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    went_on = next(message for message in said if message.startswith("Training goes on from step "))
    assert int(went_on.split()[5]) >= 18
    assert tuned.rows == first.rows
    steps = [row[0] for row in tuned.rows]
    assert steps == [str(number) for number in range(1, 73)]


def test_a_paused_job_keeps_what_it_learnt(client: OpenAI, server: Server, first: Tuned) -> None:
    job = order(client, supervised(), validation_file=upload(client, chat_lines(15)[12:]))
    until_step(client, job.id, 10)
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    wait_until(lambda: not descendants(server.process.pid), every=0.1, what="the paused job's training ends")
    paused = client.fine_tuning.jobs.retrieve(job.id)
    assert (paused.status, paused.finished_at) == ("paused", None)
    with pytest.raises(BadRequestError, match="it is paused"):
        client.fine_tuning.jobs.pause(job.id)
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    tuned = finish(client, job, [])
    said = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert any(message.startswith("Training goes on from step ") for message in said)
    assert tuned.rows == first.rows
    with pytest.raises(BadRequestError, match="it is succeeded"):
        client.fine_tuning.jobs.resume(job.id)


def test_a_cancelled_job_ends_within_seconds_and_the_next_one_begins(client: OpenAI, server: Server) -> None:
    job, waiting = order(client, LONG), order(client, supervised(n_epochs=1))
    until_step(client, job.id, 2)
    assert client.fine_tuning.jobs.retrieve(waiting.id).status in ("queued", "validating_files")
    family = descendants(server.process.pid)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    wait_until(lambda: not alive(family), seconds=4, what="the training ends")
    assert finish(client, waiting, []).model


def test_a_training_killed_by_the_system_says_so(client: OpenAI, server: Server) -> None:
    job = order(client, LONG)
    until_step(client, job.id, 1)
    os.kill(descendants(server.process.pid)[-1], signal.SIGKILL)
    failed = until(client, job.id, "failed", "succeeded", seconds=60)
    assert failed.error
    assert failed.error.code == "out_of_memory"
    assert "--micro-batch-tokens" in failed.error.message


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        MemoryError(),
    ],
)
def test_each_way_to_run_out_of_memory_is_known(error: Exception) -> None:
    fault = memory_fault(error)
    assert fault
    assert fault.code == "out_of_memory"
    assert memory_fault(RuntimeError("shapes do not fit")) is None


def test_openais_own_types_parse_every_answer(client: OpenAI, first: Tuned) -> None:
    def parse(kind: Any, answer: Any) -> None:
        kind.model_validate(json.loads(answer.text))

    jobs = client.fine_tuning.jobs.with_raw_response
    parse(FineTuningJob, jobs.retrieve(first.job.id))
    for name, kind in (("list_events", FineTuningJobEvent),):
        for one in json.loads(getattr(jobs, name)(first.job.id).text)["data"]:
            kind.model_validate(one)
    for one in json.loads(client.fine_tuning.jobs.checkpoints.with_raw_response.list(first.job.id).text)[
        "data"
    ]:
        FineTuningJobCheckpoint.model_validate(one)
    for one in json.loads(client.models.with_raw_response.list().text)["data"]:
        Model.model_validate(one)
    for one in json.loads(client.files.with_raw_response.list().text)["data"]:
        FileObject.model_validate(one)


def test_jobs_are_paged_and_found_by_metadata(client: OpenAI, first: Tuned) -> None:
    found = client.fine_tuning.jobs.list(metadata={"key": "first"}).data
    assert [job.id for job in found] == [first.job.id]
    page = client.fine_tuning.jobs.list(limit=1)
    everything = [job.id for job in client.fine_tuning.jobs.list(limit=2)]
    assert page.data[0].id == everything[0]
    assert first.job.id in everything


def test_results_and_models_stay_inside_the_data_folder(server: Server, first: Tuned) -> None:
    place = server.data / "models" / first.job.id
    kept = {"step-66", "step-69", "step-72"}
    # The job has succeeded a moment before its process ends, and only then is the rest removed.
    wait_until(lambda: {path.name for path in place.iterdir()} == kept, what=f"{place} holds {kept} alone")
    for folder in place.iterdir():
        assert {path.name for path in folder.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }
    assert results(server.client, first.job) == first.rows
