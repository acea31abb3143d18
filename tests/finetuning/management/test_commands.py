"""The commands of training, run as the command line runs them but for the process."""

import csv
import io
import json
import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from finetuning import training
from finetuning.datasets import build_dataset, full_path
from finetuning.management.output import watch
from finetuning.models import Dataset, Job
from tests.factories import make_run
from tests.finetuning.factories import (
    advance,
    fresh,
    make_approved,
    make_built_dataset,
    make_due,
    make_model,
    make_started_job,
    order_job,
)
from tests.provider import Fault, Provider
from tests.servers import wait_until

pytestmark = pytest.mark.django_db
RESULTS = (
    b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.9,0.7,,\n2,0.5,0.8,0.6,0.7\n"
)


def run(*arguments: str) -> dict[str, Any]:
    """The command's `--json` object."""
    out = io.StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue().splitlines()[-1])


def refused(*arguments: str) -> tuple[str, dict[str, Any]]:
    """(the sentence, the `--json` object) of a command that says no."""
    out = io.StringIO()
    with pytest.raises(CommandError) as raised:
        call_command(*arguments, "--json", stdout=out)
    assert raised.value.returncode == 1
    return str(raised.value), json.loads(out.getvalue().splitlines()[-1])


@pytest.fixture(autouse=True)
def _no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages go nowhere: the tests take the steps themselves."""
    monkeypatch.setattr("finetuning.management.commands.train.enqueue", lambda *_: False)
    monkeypatch.setattr("finetuning.management.commands.cancel_job.enqueue", lambda *_: False)


def test_build_dataset(tmp_path: Path) -> None:
    make_approved(30)
    output = tmp_path / "out.jsonl"
    built = run("build_dataset", "奥特曼", "--output", str(output))
    dataset = Dataset.objects.get()
    assert built == {
        "dataset": "奥特曼",
        "version": 1,
        "rows": dataset.training_rows,
        "tokens": dataset.tokens,
        "sha256": dataset.sha256,
        "path": str(full_path(dataset.training_file)),
        "validation_rows": dataset.validation_rows,
        "stop": None,
        "with_thinking": 0,
    }
    assert output.read_bytes() == Path(built["path"]).read_bytes()
    assert len(output.read_text(encoding="utf-8").splitlines()) == built["rows"]
    label = json.loads((tmp_path / "out.jsonl.aigc.json").read_text(encoding="utf-8"))
    assert (label["AIGC"]["Label"], label["file"], label["sha256"]) == ("1", "out.jsonl", built["sha256"])


def test_build_dataset_of_runs_in_completion_lines() -> None:
    first, second = make_run(), make_run()
    make_approved(5, run=first)
    for story in make_approved(15)[10:]:
        story.run, story.slot = second, story.length
    run_stories = make_approved(20)[10:]
    for slot, story in enumerate(run_stories):
        story.run, story.slot = second, slot
        story.save()
    built = run("build_dataset", "a", "--run", str(first.pk), str(second.pk), "--format", "completion")
    assert built["stop"] == "."
    assert Dataset.objects.get().rows.count() == 15


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a", "--run", "99"], "没有编号为 99 的批次。"),
        (["a", "--since", "nope"], "没有名为 nope 的数据集。"),
        (["a"], "只有 0 篇已采纳的故事，至少要 10 篇。请先审核更多故事。"),
        (["a/b"], "数据集名称只能有文字、数字、点、横线和下划线，最多 60 个字。"),
        (["a", "--output", "/nowhere/out.jsonl"], "没有文件夹「/nowhere」。"),
    ],
)
def test_build_dataset_refuses(arguments: list[str], sentence: str) -> None:
    said, object = refused("build_dataset", *arguments)
    assert said == sentence
    keys = ("dataset", "version", "rows", "tokens", "sha256", "path")
    assert object == dict.fromkeys(keys) | {"error": sentence}
    assert Dataset.objects.count() == 0


def test_train_without_yes_only_says_the_price(provider: Provider, settings: Any) -> None:
    settings.FINE_TUNE_BASE_MODEL = "gpt-4o-mini"
    dataset = make_built_dataset()
    quoted = run("train", "奥特曼", "--epochs", "4")
    price = float(Decimal(dataset.tokens * 4 * 3) / 1_000_000)
    assert quoted == {"job": None, "remote_id": None, "status": None, "model": None, "price": price}
    assert Job.objects.count() == 0
    assert provider.posts() == []


def test_train_yes_orders_one_job_however_often(provider: Provider) -> None:
    make_built_dataset()
    first = run("train", "奥特曼", "--epochs", "4", "--yes")
    assert first == {
        "job": Job.objects.get().pk,
        "remote_id": None,
        "status": "draft",
        "remote_status": None,
        "question": None,
        "model": None,
        "price": 0.0,
    }
    assert run("train", "奥特曼@1", "--epochs", "4", "--yes") == first
    assert run("train", "奥特曼", "--epochs", "5", "--yes")["job"] != first["job"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nope"], "没有名为 nope 的数据集。"),
        (["奥特曼", "--epochs", "0"], "轮数要在 1 到 50 之间。"),
        (["奥特曼", "--suffix", "奥特曼"], "后缀只能用英文字母、数字、横线和下划线，1 到 64 个。"),
    ],
)
def test_train_refuses(provider: Provider, arguments: list[str], sentence: str) -> None:
    make_built_dataset()
    for yes in ([], ["--yes"]):
        said, object = refused("train", *arguments, *yes)
        assert said == sentence
        assert object["error"] == sentence
        assert object["job"] is None
    assert Job.objects.count() == 0


def test_train_of_a_model_nobody_knows_names_those_known(provider: Provider) -> None:
    make_built_dataset()
    said, _object = refused("train", "奥特曼", "--model", "gpt-9", "--yes")
    assert said.startswith("没有名为「gpt-9」的模型。已知的有：base-zh")
    assert Job.objects.count() == 0


def keep_advancing(stop: threading.Event) -> None:
    """A worker's stand-in for `--wait`: each due step at once."""
    try:
        while not stop.wait(0.05):
            for job in Job.objects.unfinished():
                training.advance_job(make_due(job))
    finally:
        connections.close_all()


@pytest.fixture
def worker() -> Any:
    stop = threading.Event()
    thread = threading.Thread(target=keep_advancing, args=(stop,))
    thread.start()
    yield
    stop.set()
    thread.join(30)


@pytest.mark.django_db(transaction=True)
def test_train_wait_returns_when_it_succeeded(
    provider: Provider, worker: None, capsys: pytest.CaptureFixture
) -> None:
    make_built_dataset()

    def succeed() -> None:
        wait_until(lambda: provider.jobs.jobs)
        provider.jobs.succeed("ftjob-1", results=RESULTS, model="ft:base-zh:org:ultraman:1")

    helper = threading.Thread(target=succeed)
    helper.start()
    done = run("train", "奥特曼", "--yes", "--wait")
    helper.join()
    assert done["status"] == "succeeded"
    assert done["remote_id"] == "ftjob-1"
    assert done["model"] == "ft:base-zh:org:ultraman:1"
    assert done["price"] == 0.0
    assert "100%" in capsys.readouterr().err


@pytest.mark.django_db(transaction=True)
def test_train_wait_fails_when_it_was_refused(provider: Provider, worker: None) -> None:
    make_built_dataset()
    provider.always(Fault.FORBIDDEN, path="/v1/fine_tuning/jobs")
    said, object = refused("train", "奥特曼", "--yes", "--wait")
    assert "被拒绝：这个接入点不让本站的账号做微调。" in said
    assert (object["status"], object["job"], object["price"]) == ("refused", Job.objects.get().pk, 0.0)


def test_waiting_ends_when_a_job_has_been_unknown_for_a_minute(provider: Provider) -> None:
    job = make_started_job()
    poll = watch(job)
    assert str(poll()) == "░" * 30 + "   0% 0/5 草稿"
    for seconds, finished in ((50, False), (61, True)):
        since = timezone.now() - timedelta(seconds=seconds)
        Job.objects.update(state="create_unknown", unknown_since=since, error="结果不明。")
        assert poll().finished is finished
    assert poll().note == "创建结果不明 · 等人决定 · 结果不明。"


QUESTION = "本站不认识对方的状态「finalised」，它也一直没有变：请到对方那里看一看，再决定。"


def test_waiting_ends_when_a_person_is_asked(provider: Provider) -> None:
    job = advance(make_started_job(), 2)
    poll = watch(job)
    provider.jobs.advance("ftjob-1", "finalised")
    advance(job)
    assert poll().finished is False
    Job.objects.update(status_since=timezone.now() - timedelta(minutes=10))
    advance(job)
    assert poll().finished is True
    assert poll().note == f"训练中 · 等人决定 · 对方：finalised · {QUESTION}"


@pytest.mark.django_db(transaction=True)
def test_train_wait_says_what_a_person_is_asked(
    provider: Provider, worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetuning.training.doubts.MAX_STILL", timedelta(0))
    make_built_dataset()
    provider.jobs.say_job = lambda job: job | {"status": "finalised"}
    said, object = refused("train", "奥特曼", "--yes", "--wait")
    assert said == f"微调任务 #{Job.objects.get().pk} 等人决定：{QUESTION}"
    assert (object["status"], object["question"]) == ("created", QUESTION)


def test_list_jobs_says_what_a_person_is_asked(provider: Provider, capsys: pytest.CaptureFixture) -> None:
    job = advance(make_started_job(), 2)
    provider.jobs.advance("ftjob-1", "finalised")
    advance(job)
    Job.objects.update(status_since=timezone.now() - timedelta(minutes=10))
    advance(job)
    (listed,) = run("list_jobs")["jobs"]
    assert (listed["question"], listed["remote_status"]) == (QUESTION, "finalised")
    call_command("list_jobs")
    assert f"等人决定：{QUESTION}" in capsys.readouterr().out


def test_list_jobs(provider: Provider) -> None:
    job = advance(make_started_job(epochs=4, batch_size=1, learning_rate_multiplier=0.2), 2)
    provider.jobs.succeed("ftjob-1", results=RESULTS, trained_tokens=1000)
    job = advance(job)
    (listed,) = run("list_jobs")["jobs"]
    assert listed == {
        "job": job.pk,
        "remote_id": "ftjob-1",
        "status": "succeeded",
        "remote_status": "succeeded",
        "question": None,
        "model": "ft:gpt-4o-mini:org:ultraman:1",
        "price": 0.003,
        "dataset": "奥特曼@1",
        "base_model": "gpt-4o-mini",
        "hyperparameters": {"n_epochs": 4, "batch_size": 1, "learning_rate_multiplier": 0.2},
        "trained_tokens": 1000,
        "result_file": job.result_file_id,
        "created_at": job.created_at.isoformat(),
        "finished_at": job.finished_at.isoformat(),
    }


def test_list_jobs_of_none() -> None:
    assert run("list_jobs") == {"jobs": []}


def test_list_jobs_takes_as_many_queries_for_three_as_for_one(
    provider: Provider, django_assert_num_queries: Any
) -> None:
    dataset = make_built_dataset()
    model = make_model("base-zh")
    for epochs in (1, 2, 3):
        with django_assert_num_queries(1):
            run("list_jobs")
        order_job(dataset, model=model, epochs=epochs)


def test_cancel_job(provider: Provider) -> None:
    job = make_started_job()
    assert run("cancel_job", str(job.pk))["status"] == "cancelled"
    said, object = refused("cancel_job", str(job.pk))
    assert said == f"任务 #{job.pk} 已经结束，不能取消。"
    assert object["status"] is None


def test_cancel_job_at_the_provider_by_its_id(provider: Provider) -> None:
    job = advance(make_started_job(), 2)
    assert run("cancel_job", "ftjob-1")["status"] == "created"
    assert fresh(job).cancel_requested is True


def test_job_results(provider: Provider, tmp_path: Path) -> None:
    job = advance(make_started_job(), 2)
    said, _object = refused("job_results", str(job.pk))
    assert said == f"任务 #{job.pk} 还没有训练结果（训练中）。"
    provider.jobs.succeed("ftjob-1", results=RESULTS)
    advance(job)
    output = tmp_path / "results.csv"
    assert run("job_results", "ftjob-1", "--output", str(output))["rows"] == 2
    rows = list(csv.reader(output.read_text(encoding="utf-8").splitlines()))
    assert rows == [
        [
            *("step", "elapsed_tokens", "elapsed_examples", "training_loss"),
            *("training_sequence_accuracy", "training_token_accuracy"),
            *("validation_loss", "validation_token_accuracy"),
        ],
        ["1", "", "", "0.9", "", "0.7", "", ""],
        ["2", "", "", "0.5", "", "0.8", "0.6", "0.7"],
    ]
    out = io.StringIO()
    call_command("job_results", str(job.pk), stdout=out)
    assert out.getvalue() == output.read_text(encoding="utf-8")


def test_job_results_of_no_job() -> None:
    assert refused("job_results", "ftjob-x")[0] == "没有编号为 ftjob-x 的微调任务。"


def test_since_names_the_parent() -> None:
    make_approved(10)
    build_dataset("a")
    assert refused("build_dataset", "b", "--since", "a")[0] == (
        "自 a@1 以来只有 0 篇新采纳的故事，至少要 10 篇。"
    )
