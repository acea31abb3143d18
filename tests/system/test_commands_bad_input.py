"""Bad input on the command line: one clear sentence, exit code 1, no traceback, nothing half-done."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import ManagementUtility
from django.db import connections

from finetuning.models import Dataset, Job
from stories.models import Attempt, LanguageModel, Review, Run, Story
from tests.conftest import Workers, point_at
from tests.environment import free_port
from tests.factories import make_approved_story, make_run, make_story, make_template
from tests.provider import Fault, Provider
from tests.sites import child_environment, manage

GENERATE = ["generate_stories", "--dynasties", "唐", "--powers", "隐形", "--types", "轻松"]
ORDER = ["generate_stories", "--dynasties", "唐", "--powers", "隐形", "--types", "轻松", "--repeat", "1"]
ROWS = (Story, Run, Attempt, Review, Dataset, Job)


@dataclass(frozen=True)
class Said:
    rc: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Command:
    """`manage.py arguments`, from its command line to its exit code, in this process."""
    caplog.set_level(logging.WARNING, "uvicorn.access")  # of the provider, whose process is ours
    # A command closes its connections at its end, and with them the transaction of the test.
    monkeypatch.setattr(connections, "close_all", lambda: None)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["manage.py", *arguments])
        rc = 0
        try:
            ManagementUtility(sys.argv).execute()
        except SystemExit as end:
            rc = int(end.code or 0)
        captured = capsys.readouterr()
        return Said(rc, captured.out, captured.err)

    return run


def counts() -> dict[str, int]:
    return {rows.__name__: rows._default_manager.count() for rows in ROWS}


def assert_refused(said: Said, phrase: str) -> None:
    assert (said.rc, said.out) == (1, "")
    assert said.err.count("\n") == 1, said.err
    assert phrase in said.err
    assert "Traceback" not in said.err


@pytest.fixture
def prepared(provider: Provider, alice: User) -> None:
    """A site with a template and one finished run of nine approved stories: one too few for a dataset."""
    provider.models = {"base-zh"}
    make_template()
    run = make_run(pk=1, state=Run.State.DONE)
    for slot in range(9):
        make_approved_story(run=run, slot=slot, text=f"第{slot}个故事。" * 20)


BAD_INGREDIENTS = [
    (["--dynasties", ""], "请填写朝代。"),
    (["--dynasties", " , "], "请填写朝代。"),
    (["--powers", "隐\n形"], "超能力里不能有换行或控制字符。"),
    (["--powers", "隐\u202e形"], "超能力里不能有换行或控制字符。"),
    (["--types", "轻" * 33], "战斗最多 32 个字，这里有 33 个。"),
]
BAD_FIGURES = [
    (["--repeat", "0"], "至少要写 1 篇"),
    (["--repeat", "many"], "参数不对"),
    (["--repeat", "20001"], "一个批次最多 20000 篇"),
    (["--temperature", "3"], "温度要在 0 到 2 之间"),
    (["--temperature", "nan"], "温度要在 0 到 2 之间"),
    (["--budget", "-1"], "预算不能是负数"),
    (["--budget", "much"], "「much」不是金额"),
    (["--model", "gpt-9"], "不认识模型「gpt-9」"),
    (["--colour", "red"], "参数不对"),
]


@pytest.mark.parametrize(("options", "phrase"), BAD_INGREDIENTS + BAD_FIGURES)
def test_a_run_that_cannot_be_ordered(
    command: Command, prepared: None, options: list[str], phrase: str
) -> None:
    before = counts()
    assert_refused(command(*GENERATE, *options), phrase)
    assert counts() == before


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["tell_story", "", "隐形", "轻松"], "请填写朝代。"),
        (["tell_story", "唐", "隐形,飞行", "轻松"], "超能力里不能有逗号。"),
        (["tell_story", "唐", "隐形", "轻松\0"], "战斗里不能有换行或控制字符。"),
        (["tell_story", "唐", "隐形"], "参数不对"),
        (["tell_story", "唐", "隐形", "轻松", "--model", "gpt-9"], "不认识模型「gpt-9」"),
        (["retry_stories", "--run", "99"], "没有批次 #99"),
        (["retry_stories", "--run", "9" * 50], "没有批次 #999"),
        (["build_dataset", "奥特曼", "--run", "9" * 50], "没有编号为 999"),
        (["build_dataset", "奥特曼", "--run", "1", "9" * 50], "没有编号为"),
        ([*ORDER, "--budget", "9" * 50], "预算最多 1,000,000 美元"),
        (["retry_stories"], "参数不对"),
        (["review_stories", "--verdict", "approved", "--by", "nobody"], "没有用户「nobody」"),
        (["review_stories", "--verdict", "approved", "--by", "carol"], "用户「carol」不是编辑"),
        (["review_stories", "--verdict", "splendid", "--by", "alice"], "参数不对"),
        (["review_stories", "--verdict", "approved", "--by", "alice", "--run", "99"], "99"),
        (["import_stories", "nowhere.csv"], "找不到文件「nowhere.csv」"),
        (["export_stories", "no/such/folder/out.csv"], "no/such/folder"),
        (["build_dataset", "few"], "9"),
        (["build_dataset", "few", "--run", "99"], "没有编号为 99 的批次"),
        (["build_dataset", "few", "--since", "older"], "older"),
        (["build_dataset", "../few"], "数据集名称只能有"),
        (["build_dataset", "few", "--format", "xml"], "参数不对"),
        (["train", "nothing", "--yes"], "nothing"),
        (["job_results", "99"], "没有编号为 99 的微调任务"),
        (["cancel_job", "ftjob-99"], "没有编号为 ftjob-99 的微调任务"),
        (["promote", "gpt-9"], "没有名为「gpt-9」的模型"),
    ],
)
def test_a_command_that_cannot_do_what_it_is_told(
    command: Command, prepared: None, django_user_model: type[User], arguments: list[str], phrase: str
) -> None:
    django_user_model.objects.create_user("carol")
    before = counts()
    assert_refused(command(*arguments), phrase)
    assert counts() == before


def test_the_sentence_is_in_the_object_too(command: Command, prepared: None) -> None:
    said = command(*GENERATE, "--model", "gpt-9", "--json")
    answer = json.loads(said.out)
    assert said.rc == 1
    assert list(answer) == ["run", "stories", "estimated_price", "states", "error"]
    assert [answer[key] for key in ("run", "stories", "estimated_price", "states")] == [None] * 4
    assert answer["error"] == said.err.strip()


def test_a_csv_without_a_column_is_refused_whole(command: Command, prepared: None, tmp_path: Path) -> None:
    file = tmp_path / "short.csv"
    file.write_text("dynasty,super_power,story\n唐,隐形,从前有个人。\n", encoding="utf-8")
    before = counts()
    assert_refused(command("import_stories", str(file)), "story_type")
    assert counts() == before


def test_one_bad_row_keeps_the_whole_file_out(command: Command, prepared: None, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    rows = ["唐,隐形,轻松,好故事。"] * 3 + ["唐,,轻松,没有超能力。"]
    file.write_text("\n".join(["dynasty,super_power,story_type,story", *rows]), encoding="utf-8")
    before = counts()
    said = command("import_stories", str(file), "--approve", "--by", "alice")
    assert_refused(said, "super_power")
    assert "5" in said.err  # the row, as an editor's program numbers it
    assert counts() == before


@pytest.mark.django_db
def test_an_endpoint_that_is_down(command: Command, settings: Any) -> None:
    make_template()
    port = free_port()
    point_at(settings, f"http://127.0.0.1:{port}/v1")
    assert_refused(command(*GENERATE), f"连不上模型服务（127.0.0.1:{port}）")
    assert counts() == dict.fromkeys(counts(), 0)


def test_a_wrong_key(command: Command, prepared: None, provider: Provider) -> None:
    provider.always(Fault.UNAUTHORIZED, method="GET")
    before = counts()
    said = command(*GENERATE)
    assert_refused(said, "OPENAI_API_KEY")
    assert "sk-secret" not in said.err
    assert counts() == before


def test_a_model_that_the_endpoint_forgot_cannot_be_trained(command: Command, prepared: None) -> None:
    make_story(text="又一个故事。" * 20, verdict=Story.Verdict.APPROVED, state=Story.State.WRITTEN)
    assert command("build_dataset", "ten").rc == 0
    before = counts()
    assert_refused(command("train", "ten", "--model", "ft:gone", "--yes"), "没有名为「ft:gone」的模型")
    assert counts() == before


def test_a_provider_that_refuses_fine_tuning(
    command: Command, celery_workers: Workers, prepared: None, provider: Provider
) -> None:
    make_story(text="又一个故事。" * 20, verdict=Story.Verdict.APPROVED, state=Story.State.WRITTEN)
    assert command("build_dataset", "ten").rc == 0
    provider.always(Fault.FORBIDDEN, path="/v1/fine_tuning/jobs", message="Fine-tuning is closed to you")
    said = command("train", "ten", "--yes", "--wait", "--json")
    answer = json.loads(said.out.splitlines()[-1])
    assert said.rc == 1
    assert "Traceback" not in said.err
    assert "Fine-tuning is closed to you" in said.err.splitlines()[-1]
    assert (answer["status"], answer["model"]) == ("refused", None)
    assert Job.objects.get().state == Job.State.REFUSED
    assert not LanguageModel.objects.filter(name__startswith="ft:").exists()
    assert len(provider.posts("/v1/fine_tuning/jobs")) == 1


@pytest.mark.django_db(transaction=True)
def test_a_real_process_says_the_same() -> None:
    said = manage("tell_story", "唐", "", "轻松", env=child_environment(base_url="http://127.0.0.1:9/v1"))
    assert (said.rc, said.stdout, said.stderr) == (1, "", "请填写超能力。\n")


def test_a_site_without_tables_says_what_to_do(tmp_path: Path) -> None:
    env = child_environment(DATABASE_URL=f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    said = manage("list_jobs", env=env)
    assert said.rc == 1
    assert said.stderr.count("\n") == 1
    assert "manage.py migrate" in said.stderr
