"""stories/management/output.py: one clear line, one JSON object, one bar."""

import io
import json
import sys

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, CommandParser, call_command
from django.db import OperationalError

from finetuning.errors import TrainingError
from llm.errors import Refused
from stories.errors import StoryError
from stories.management.output import (
    Failed,
    Progress,
    SiteCommand,
    add_by,
    find_editor,
    split_list,
    wait_with_bar,
)
from tests.factories import make_person


class Told(SiteCommand):
    """A command that raises what it is told to."""

    json_keys = ("rows", "path")
    errors = (*SiteCommand.errors, TrainingError)
    raises: BaseException | None = None

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--n", type=int, required=True)
        add_by(parser, required=False)

    def run(self, *, n, **options):
        if self.raises:
            raise self.raises
        self.say("一句话")
        return {"rows": n, "path": "a"}


def run(capsys, monkeypatch, *arguments, raises=None):
    """Exit code, lines on stdout and lines on stderr, as on a command line."""
    argv = ["manage.py", "told", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    command = Told()
    command.raises = raises
    code = 0
    try:
        command.run_from_argv(argv)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def test_it_works(capsys, monkeypatch):
    assert run(capsys, monkeypatch, "--n", "1") == (0, ["一句话"], [])


def test_the_json_object_is_the_last_line(capsys, monkeypatch):
    code, lines, _ = run(capsys, monkeypatch, "--n", "1", "--json")
    assert (code, lines) == (0, ["一句话", '{"rows": 1, "path": "a"}'])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (StoryError("配方不对。"), "配方不对。"),
        (TrainingError("行数不够。"), "行数不够。"),
        (Refused("模型服务拒绝了（403：\n no）。"), "模型服务拒绝了（403： no）。"),
        (FileNotFoundError(2, "No such file", "a.csv"), "找不到文件「a.csv」。"),
        (PermissionError(13, "Permission denied", "a.csv"), "文件「a.csv」用不了：Permission denied。"),
        (ConnectionError("away"), "away"),
        (Failed("批次停下了。"), "批次停下了。"),
        (
            OperationalError("no such table: x\nmore"),
            "数据库用不了（no such table: x more）。请检查 DATABASE_URL，并运行 manage.py migrate。",
        ),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(capsys, monkeypatch, error, sentence):
    code, lines, errors = run(capsys, monkeypatch, "--n", "1", "--json", raises=error)
    assert (code, errors) == (1, [sentence])
    assert [json.loads(line) for line in lines] == [{"rows": None, "path": None, "error": sentence}]


def test_a_failure_tells_what_is_known(capsys, monkeypatch):
    _, lines, _ = run(capsys, monkeypatch, "--n", "1", "--json", raises=Failed("停了。", rows=3))
    assert json.loads(lines[-1]) == {"rows": 3, "path": None, "error": "停了。"}


def test_ctrl_c_ends_with_a_sentence(capsys, monkeypatch):
    code, _, errors = run(capsys, monkeypatch, "--n", "1", raises=KeyboardInterrupt())
    assert (code, errors) == (130, ["已按 Ctrl-C 停下；已经开始的工作会继续。"])


@pytest.mark.parametrize("arguments", [[], ["--n", "x"], ["--n", "1", "--what"]])
def test_bad_usage_is_one_line_and_exit_code_1(capsys, monkeypatch, arguments):
    code, lines, errors = run(capsys, monkeypatch, *arguments, "--json")
    assert (code, len(errors)) == (1, 1)
    assert errors[0].startswith("参数不对：")
    assert errors[0].endswith("（见 manage.py told --help）")
    assert [json.loads(line) for line in lines] == [{"rows": None, "path": None, "error": errors[0]}]


def test_a_programming_error_is_not_hidden(capsys, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run(capsys, monkeypatch, "--n", "1", raises=ZeroDivisionError())


def test_a_caller_in_python_gets_the_error():
    with pytest.raises(CommandError, match="参数不对"):
        call_command(Told())


@pytest.mark.django_db
def test_a_decision_needs_an_active_editor():
    alice = make_person("alice", group="editors")
    make_person("reader")
    User.objects.create_user("clerk", is_staff=True)
    assert find_editor("alice") == alice
    refused = [("reader", "用户「reader」不是编辑。"), ("clerk", "用户「clerk」不是编辑。")]
    for name, sentence in [("nobody", "没有用户「nobody」。"), *refused]:
        with pytest.raises(StoryError, match=sentence):
            find_editor(name)
    alice.is_active = False
    alice.save()
    with pytest.raises(StoryError, match="不是编辑"):
        find_editor("alice")


def test_lists_take_both_commas():
    assert split_list("唐, 宋，元,") == ["唐", " 宋", "元"]


def steps(*done):
    counts = iter(done)
    return lambda: Progress(done=(count := next(counts)), total=40, note="篇", finished=count == 40)


def test_without_a_terminal_a_line_is_written_per_tenth():
    stream = io.StringIO()
    last = wait_with_bar(steps(0, 1, 2, 5, 6, 40), stream=stream, every=0)
    assert [line[31:] for line in stream.getvalue().splitlines()] == [
        "  0% 0/40 篇",
        " 12% 5/40 篇",
        "100% 40/40 篇",
    ]
    assert last.finished


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_one_line_is_redrawn():
    stream = Terminal()
    wait_with_bar(steps(0, 10, 40), stream=stream, every=0)
    assert stream.getvalue().count("\r") == 3
    assert stream.getvalue().count("\n") == 1


def test_an_error_does_not_run_on_behind_the_bar():
    stream = Terminal()
    with pytest.raises(StopIteration):
        wait_with_bar(steps(0), stream=stream, every=0)
    assert stream.getvalue().endswith("\n")
