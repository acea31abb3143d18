"""The engine lora on a tiny random model: real servers, the real SDK, real trainings; offline and on the CPU.

Run by `make test-lora` in an environment of its own (torch and all that); the ordinary suite leaves this folder out.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.model_server.conftest import Server, start_server, until, upload

from .tiny import chat_lines

collect_ignore_glob = [] if os.environ.get("LORA_TESTS") else ["test_*.py"]

SECONDS = 180.0
HYPERPARAMETERS = {"n_epochs": 24, "batch_size": 4, "learning_rate_multiplier": 10}


@dataclass
class Tuned:
    """A finished training, and the lines it was done on."""

    job: FineTuningJob
    model: str
    lines: list[dict[str, Any]]
    rows: list[list[str]]

    @property
    def losses(self) -> list[float]:
        return [float(row[1]) for row in self.rows]


def supervised(**hyperparameters: Any) -> Any:
    return {"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS | hyperparameters}}


def finish(client: OpenAI, job: FineTuningJob, lines: list[dict[str, Any]]) -> Tuned:
    """Waits for a job that has to succeed."""
    job = until(client, job.id, "succeeded", "failed", seconds=SECONDS)
    assert job.status == "succeeded", job.error
    return Tuned(job, job.fine_tuned_model or "", lines, results(client, job))


def results(client: OpenAI, job: FineTuningJob) -> list[list[str]]:
    return [line.split(",") for line in client.files.content(job.result_files[0]).text.splitlines()[1:]]


def train(client: OpenAI, lines: list[dict[str, Any]], *, model: str = "tiny", **options: Any) -> Tuned:
    order: dict[str, Any] = {"seed": 5, "method": supervised()} | options
    job = client.fine_tuning.jobs.create(model=model, training_file=upload(client, lines), **order)
    return finish(client, job, lines)


def ask(client: OpenAI, model: str, text: str, **options: Any) -> str:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text}],
        **{"temperature": 0, "max_tokens": 300} | options,
    )
    return answer.choices[0].message.content or ""


def raw(client: OpenAI, path: str) -> Any:
    """The JSON of a GET, as the server sent it."""
    return json.loads(client.get(path, cast_to=str))


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two tiny models; `plain` has other weights and no chat template."""
    from .tiny import make_model

    folder = tmp_path_factory.mktemp("bases")
    return {
        "tiny": make_model(folder / "tiny"),
        "plain": make_model(folder / "plain", seed=1, hidden=32, template=None),
    }


@pytest.fixture(scope="session")
def options(bases: dict[str, Path]) -> list[str]:
    return [word for name, folder in bases.items() for word in ("--base-model", f"{name}={folder}")]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, options: list[str]) -> Iterator[Server]:
    one = start_server(tmp_path_factory.mktemp("server"), *options)
    yield one
    one.stop()


@pytest.fixture
def start(tmp_path: Path, options: list[str]) -> Iterator[Callable[..., Server]]:
    """Starts servers of a test's own on the same bases; they are ended with it."""
    started: list[Server] = []

    def start_one(*more: str, data: Path = tmp_path / "data") -> Server:
        started.append(start_server(data, *options, *more))
        return started[-1]

    yield start_one
    for one in started:
        if one.process.poll() is None:
            one.stop()


@pytest.fixture(scope="session")
def client(server: Server) -> OpenAI:
    return server.client


@pytest.fixture(scope="session")
def first(client: OpenAI) -> Tuned:
    """An adapter that knows its twelve lines by heart."""
    lines = chat_lines(12)
    validation = upload(client, chat_lines(15)[12:])
    return train(client, lines, suffix="first", validation_file=validation, metadata={"key": "first"})


@pytest.fixture(scope="session")
def second(client: OpenAI) -> Tuned:
    """Another one: the same questions, other answers."""
    return train(client, chat_lines(12, tail="大家都笑了。"), suffix="second", seed=6)
