"""Real servers as child processes on free ports, driven by the real SDK; no Django here."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.environment import free_port
from tests.servers import START_SECONDS, answers, wait_until

ROOT = Path(__file__).resolve().parents[2]
DYNASTIES = ["唐", "宋", "元", "明", "清", "汉", "魏", "晋", "南北朝"]
POWERS = ["隐形", "飞行", "读心术", "瞬间移动", "不死之身", "喷火"]
TYPES = ["轻松", "努力", "艰难"]
NEW_DYNASTIES = ["秦", "五代", "隋"]
NEW_POWERS = ["龙卷风", "冰冻大海", "流星火雨"]
NEW_TYPES = ["轻松", "努力", "艰难", "勇敢", "辛苦"]
LONG_PROMPT = (
    "请写一篇三百字左右、情节跌宕的中文故事：一位{}的英雄（人物）来到今天，获得了“{}”的超能力，"
    "经过一场{}的战斗，帮助奥特曼打败了怪兽。"
)
Combo = tuple[str, str, str]


@dataclass
class Server:
    """A running model server, its address and its SDK client."""

    process: subprocess.Popen[bytes]
    address: str
    data: Path
    client: OpenAI

    def health(self) -> dict[str, Any]:
        return httpx2.get(f"{self.address}/health").json()

    def children(self) -> list[int]:
        """Process ids of its training children."""
        table = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout
        pairs = [line.split() for line in table.splitlines()]
        return [int(pid) for pid, parent in pairs if int(parent) == self.process.pid]

    def stop(self, sign: int = signal.SIGTERM) -> float:
        """Ends it; returns the seconds that took."""
        began = time.monotonic()
        self.process.send_signal(sign)
        self.process.wait(timeout=30)
        self.client.close()
        return time.monotonic() - began


def start_server(data: Path, *options: str, key: str = "none") -> Server:
    """Starts a server and waits until it answers."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "MODEL_SERVER_API_KEY"}
    process = subprocess.Popen(
        [sys.executable, "-m", "model_server", "--port", str(port), "--data", str(data), *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, "the server ended at its start"
        return answers(f"{address}/health")

    wait_until(is_ready, seconds=START_SECONDS, every=0.1, what="the server answers")
    client = OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60)
    return Server(process, address, data, client)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shared one: as fast as it can, without mistakes."""
    one = start_server(tmp_path_factory.mktemp("server"), "--tokens-per-second", "0", "--mistake-rate", "0")
    yield one
    one.stop()


@pytest.fixture
def client(server: Server) -> OpenAI:
    return server.client


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of a test's own; they are ended with it."""
    started: list[Server] = []

    def start_one(*options: str, data: Path = tmp_path, key: str = "none") -> Server:
        started.append(start_server(data, *options, key=key))
        return started[-1]

    yield start_one
    for one in started:
        if one.process.poll() is None:
            one.stop()


def combos(repeats: int = 3) -> list[Combo]:
    return list(itertools.product(DYNASTIES, POWERS, TYPES)) * repeats


def new_combos() -> list[Combo]:
    return list(itertools.product(NEW_DYNASTIES, NEW_POWERS, NEW_TYPES)) * 3


def ask(client: OpenAI, prompt: str, *, model: str = "base-zh", **options: Any) -> str:
    """A story, not streamed."""
    messages = [{"role": "user", "content": prompt}]
    answer = client.chat.completions.create(model=model, messages=messages, **options)
    return answer.choices[0].message.content or ""


def write_stories(client: OpenAI, wanted: list[Combo]) -> list[str]:
    return [ask(client, LONG_PROMPT.format(*combo), seed=seed) for seed, combo in enumerate(wanted)]


def chat_lines(wanted: list[Combo], stories: list[str]) -> list[dict[str, Any]]:
    lines = [
        {"messages": [{"role": "user", "content": ",".join(combo)}, {"role": "assistant", "content": story}]}
        for combo, story in zip(wanted, stories, strict=True)
    ]
    random.Random(0).shuffle(lines)
    return lines


def legacy_lines(wanted: list[Combo], stories: list[str], stop: str) -> list[dict[str, Any]]:
    pairs = zip(wanted, stories, strict=True)
    return [{"prompt": f"{','.join(combo)} ->", "completion": f" {story}{stop}"} for combo, story in pairs]


def upload(client: OpenAI, lines: list[dict[str, Any]] | bytes, name: str = "lines.jsonl") -> str:
    if not isinstance(lines, bytes):
        lines = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    return client.files.create(file=(name, lines), purpose="fine-tune").id


def method(**hyperparameters: Any) -> Any:
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


def until(client: OpenAI, job: str, *statuses: str, seconds: float = 60) -> FineTuningJob:
    """The job once it has one of the statuses."""

    def reached() -> FineTuningJob | None:
        found = client.fine_tuning.jobs.retrieve(job)
        return found if found.status in statuses else None

    return wait_until(reached, seconds=seconds, every=0.1, what=f"the job is {' or '.join(statuses)}")


def until_metrics(client: OpenAI, job: str, seconds: float = 30) -> None:
    """Waits until the job has told of a few steps."""
    wait_until(
        lambda: len(client.fine_tuning.jobs.list_events(job).data) >= 5, seconds=seconds, what="metrics"
    )


@dataclass
class Trained:
    """The finished job over the 486 stories, and what went into it."""

    job: FineTuningJob
    model: str
    seconds: float
    stories: list[str]
    validation_file: str


@pytest.fixture(scope="session")
def base_stories(server: Server) -> list[str]:
    """The 486 stories of base-zh, one per combo and repeat."""
    return write_stories(server.client, combos())


@pytest.fixture(scope="session")
def trained(server: Server, base_stories: list[str]) -> Trained:
    """Trains once on the 486 stories, with 40 further ones for validation."""
    client = server.client
    validation = [ask(client, ",".join(combo), seed=1000 + seed) for seed, combo in enumerate(combos(1)[:40])]
    validation_file = upload(client, chat_lines(combos(1)[:40], validation))
    began = time.monotonic()
    job = client.fine_tuning.jobs.create(
        model="base-zh",
        training_file=upload(client, chat_lines(combos(), base_stories)),
        validation_file=validation_file,
        suffix="ultraman",
        seed=7,
        metadata={"key": "value-1"},
        method=method(n_epochs=4, batch_size=1, learning_rate_multiplier=0.2),
    )
    job = until(client, job.id, "succeeded", "failed", seconds=120)
    seconds = time.monotonic() - began
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model
    return Trained(job, job.fine_tuned_model, seconds, base_stories, validation_file)
