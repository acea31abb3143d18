"""Fine-tuning jobs: what is refused, how they are listed, and that each of them ends."""

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from tests.model_server.conftest import Server, chat_lines, combos, method, until, until_metrics, upload
from tests.servers import wait_until

STORY = "唐朝的画师秦越来到今天。秦越学会了“隐形”，与奥特曼打败怪兽，秦越打得轻松。"
GOOD = chat_lines(combos(1)[:12], [f"{STORY}{number}。" for number in range(12)])
LONG = {"n_epochs": 50, "batch_size": 1}


def many_lines() -> list[dict[str, Any]]:
    stories = [f"{STORY * 6}{number}。" for number in range(60)]
    return chat_lines(combos(1)[:60], stories)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "Line 3 is not valid JSON."),
        ("[]", "Line 3 must be a JSON object."),
        ("{}", "Line 3 has neither 'messages' nor 'prompt' and 'completion'."),
        ('{"messages": []}', "Line 3: 'messages' must be a non-empty list."),
        (
            '{"messages": [{"role": "user", "content": "a"}]}',
            "Line 3: a user message is needed, and the last one",
        ),
        ('{"messages": [{"role": "poet", "content": "a"}]}', "Line 3: every message needs a role"),
        (
            '{"messages": [{"role": "user", "content": " "}]}',
            "Line 3: every message needs a non-empty 'content'",
        ),
        (
            '{"prompt": "a", "completion": ""}',
            "Line 3: 'prompt' and a non-empty 'completion' must both be text.",
        ),
        ('{"prompt": "a", "completion": "\\ud83d"}', "Line 3 holds half of a surrogate pair"),
    ],
)
def test_a_bad_line_fails_the_job_by_its_number(client: OpenAI, line: str, sentence: str) -> None:
    lines = [json.dumps(one, ensure_ascii=False) for one in GOOD]
    lines.insert(2, line)
    file = upload(client, "\n".join(lines).encode())
    job = client.fine_tuning.jobs.create(model="base-zh", training_file=file)
    job = until(client, job.id, "failed", "succeeded")
    assert job.status == "failed"
    assert job.error
    assert sentence in job.error.message
    assert job.error.code == "invalid_training_file"
    assert job.finished_at
    assert client.fine_tuning.jobs.list_events(job.id).data[0].level == "error"


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b'{"prompt": "a", "completion": "b"}\n' * 9])
def test_a_bad_file_fails_the_job(client: OpenAI, body: bytes) -> None:
    job = client.fine_tuning.jobs.create(model="base-zh", training_file=upload(client, body))
    job = until(client, job.id, "failed", "succeeded")
    assert job.error
    assert "not UTF-8" in job.error.message or "9 examples, but at least 10" in job.error.message


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"training_file": "file-none"}, "training_file"),
        ({"validation_file": "file-none"}, "validation_file"),
        ({"suffix": "s" * 65}, "suffix"),
        ({"suffix": "：：：:"}, "suffix"),
        ({"method": method(n_epochs=51)}, "method"),
        ({"method": method(batch_size=0)}, "method"),
        ({"method": method(learning_rate_multiplier=0)}, "method"),
        ({"method": {"type": "dpo"}}, "method"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"extra_body": {"speed": 9}}, "speed"),
    ],
)
def test_a_bad_order_is_refused_at_once(client: OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.fine_tuning.jobs.create(
            **{"model": "base-zh", "training_file": upload(client, GOOD)} | options
        )
    assert (caught.value.param or "").startswith(param)


def test_an_unknown_model_or_job_is_404(client: OpenAI) -> None:
    with pytest.raises(NotFoundError):
        client.fine_tuning.jobs.create(model="ft:base-zh:local::none", training_file=upload(client, GOOD))
    with pytest.raises(NotFoundError):
        client.fine_tuning.jobs.cancel("ftjob-none")


def test_auto_becomes_numbers_and_a_result(client: OpenAI) -> None:
    job = client.fine_tuning.jobs.create(model="base-zh", training_file=upload(client, GOOD))
    assert job.hyperparameters.n_epochs == "auto"
    job = until(client, job.id, "succeeded", "failed")
    chosen = job.hyperparameters
    assert (chosen.n_epochs, chosen.batch_size, chosen.learning_rate_multiplier) == (4, 1, 0.2)
    assert job.fine_tuned_model
    assert job.fine_tuned_model.startswith("ft:base-zh:local::")
    assert job.trained_tokens == 4 * sum(len(m["content"]) for line in GOOD for m in line["messages"])
    csv = client.files.content(job.result_files[0]).text.splitlines()
    assert csv[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert len(csv) == 1 + 4 * 12
    assert client.files.retrieve(job.result_files[0]).purpose == "fine-tune-results"
    assert client.models.retrieve(job.fine_tuned_model).owned_by == "organization-local"
    assert client.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(NotFoundError):
        client.models.retrieve(job.fine_tuned_model)


def test_few_lines_of_another_kind_are_learnt_as_they_are(client: OpenAI) -> None:
    lines = [
        {"prompt": f"question {number}?", "completion": f"The answer to {number} is yes. It is so, {number}!"}
        for number in range(20)
    ]
    job = client.fine_tuning.jobs.create(model="base-zh", training_file=upload(client, lines))
    model = until(client, job.id, "succeeded", "failed").fine_tuned_model or ""
    for seed in range(5):
        text = (
            client.completions.create(model=model, prompt="question 5?", seed=seed, temperature=0.7)
            .choices[0]
            .text
        )
        assert text.startswith("The answer to")
        assert text.endswith("!")


def test_results_can_be_served_base64(start: Callable[..., Server]) -> None:
    client = start("--results-base64", "--org", "acme").client
    job = client.fine_tuning.jobs.create(
        model="base-zh", training_file=upload(client, GOOD), suffix="My Tune"
    )
    job = until(client, job.id, "succeeded", "failed")
    assert client.files.content(job.result_files[0]).text.startswith("c3RlcCx0cmFpbl9sb3Nz")
    assert (job.fine_tuned_model or "").startswith("ft:base-zh:acme:my-tune:")


def test_jobs_are_listed_newest_first_and_by_metadata(client: OpenAI) -> None:
    file = upload(client, GOOD)
    made = [
        client.fine_tuning.jobs.create(model="base-zh", training_file=file, metadata={"key": f"k{number}"}).id
        for number in range(3)
    ]
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2)][:3] == made[::-1]
    page = client.fine_tuning.jobs.list(limit=1)
    assert page.has_more
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"key": "k1"}).data] == [made[1]]
    for job in made:
        until(client, job, "succeeded")


def test_a_cancelled_job_ends_at_once(start: Callable[..., Server]) -> None:
    server = start()
    client = server.client
    file = upload(client, many_lines())
    job = client.fine_tuning.jobs.create(model="base-zh", training_file=file, method=method(**LONG))
    waiting = client.fine_tuning.jobs.create(model="base-zh", training_file=file, method=method(**LONG))
    until_metrics(client, job.id)
    assert client.fine_tuning.jobs.cancel(waiting.id).status == "cancelled"
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    wait_until(lambda: not server.children(), seconds=15, what="the child ends")
    with pytest.raises(BadRequestError, match="already ended"):
        client.fine_tuning.jobs.cancel(job.id)
    time.sleep(0.3)  # a late result of the child would show by now
    ended = client.fine_tuning.jobs.retrieve(job.id)
    assert (ended.status, ended.fine_tuned_model) == ("cancelled", None)


def test_a_killed_child_fails_its_job_and_the_next_one_works(start: Callable[..., Server]) -> None:
    server = start()
    client = server.client
    job = client.fine_tuning.jobs.create(
        model="base-zh", training_file=upload(client, many_lines()), method=method(**LONG)
    )
    after = client.fine_tuning.jobs.create(model="base-zh", training_file=upload(client, GOOD))
    until_metrics(client, job.id)
    os.kill(server.children()[0], signal.SIGKILL)
    failed = until(client, job.id, "failed", "succeeded")
    assert failed.error
    assert failed.error.message == "The training process ended unexpectedly (signal 9)."
    assert until(client, after.id, "failed", "succeeded").status == "succeeded"


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_survives_a_restart_of_the_server(start: Callable[..., Server], sign: int) -> None:
    server = start()
    file = upload(server.client, many_lines())
    job = server.client.fine_tuning.jobs.create(
        model="base-zh", training_file=file, seed=3, method=method(n_epochs=8, batch_size=2)
    )
    until_metrics(server.client, job.id)
    children = server.children()
    assert children
    assert server.stop(sign) < 4
    client = start(data=server.data).client
    done = until(client, job.id, "succeeded", "failed")
    assert done.status == "succeeded"
    events = list(client.fine_tuning.jobs.list_events(job.id))
    steps = [event.data["step"] for event in events if event.type == "metrics"]
    assert steps == sorted(set(steps), reverse=True)
    assert any("begins again" in event.message for event in events)
    wait_until(lambda: not any(map(_lives, children)), seconds=5, what="the first child ends with its server")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_paused_job_waits_and_a_resumed_one_ends(start: Callable[..., Server]) -> None:
    server = start()
    client = server.client
    order = {"model": "base-zh", "training_file": upload(client, many_lines()), "seed": 3}
    job = client.fine_tuning.jobs.create(**order, method=method(n_epochs=12, batch_size=1))
    until_metrics(client, job.id)
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    other = client.fine_tuning.jobs.create(model="base-zh", training_file=upload(client, GOOD))
    assert until(client, other.id, "failed", "succeeded").status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(job.id).status == "paused"
    with pytest.raises(BadRequestError, match="it is paused"):
        client.fine_tuning.jobs.pause(job.id)
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    assert until(client, job.id, "failed", "succeeded").status == "succeeded"
    with pytest.raises(BadRequestError, match="it is succeeded"):
        client.fine_tuning.jobs.resume(job.id)


def test_a_paused_job_can_be_cancelled(start: Callable[..., Server]) -> None:
    client = start().client
    file = upload(client, many_lines())
    job = client.fine_tuning.jobs.create(model="base-zh", training_file=file, method=method(**LONG))
    client.fine_tuning.jobs.pause(job.id)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(BadRequestError, match="it is cancelled"):
        client.fine_tuning.jobs.resume(job.id)
