"""generate_stories, retry_stories, promote and tell_story as a person starts them, with real workers."""

import pytest
from django.core.management import CommandError, call_command

from stories.models import LanguageModel, Run, Story
from stories.operations import heartbeats
from tests.factories import make_model, make_run, make_serving_model, make_story, make_template
from tests.provider import Fault, Provider
from tests.sites import Web

pytestmark = pytest.mark.django_db(transaction=True)
ORDER = [
    "generate_stories",
    "--dynasties",
    "唐,宋",
    "--powers",
    "隐形",
    "--types",
    "轻松,努力",
    "--repeat",
    "2",
]


@pytest.fixture(autouse=True)
def _prepared(celery_workers: object) -> None:
    """The tables are emptied between tests, the rows of the running workers' last heartbeat too."""
    make_template()
    for process in ("worker-readers", "worker-bulk"):
        heartbeats.beat(process)


def test_generate_stories_waits_with_a_bar_until_all_are_written(web: Web, provider: Provider) -> None:
    rc, _out, err, data = web.manage(*ORDER, "--wait", "--json")
    assert rc == 0, err
    assert data["stories"] == 8
    assert data["states"] == {
        "queued": 0, "writing": 0, "written": 8, "interrupted": 0, "failed": 0, "cancelled": 0,
    }  # fmt: skip
    assert "100% 8/8" in err
    assert len(provider.posts("/v1/chat/completions")) == 8
    assert Run.objects.get(pk=data["run"]).state == Run.State.DONE


def test_a_run_that_pauses_ends_the_wait_with_its_reason(web: Web, provider: Provider) -> None:
    provider.always(Fault.QUOTA)
    rc, _out, err, data = web.manage(*ORDER, "--wait", "--json")
    assert rc == 1
    assert "已暂停" in err
    assert "quota" in err
    assert data["states"]["queued"] == 8


def test_failed_stories_are_retried(web: Web, provider: Provider) -> None:
    provider.always(Fault.BAD_REQUEST)
    rc, _out, _err, data = web.manage(*ORDER, "--wait", "--json")
    assert (rc, data["states"]["failed"]) == (0, 8)
    provider.well()
    rc, _out, _err, retried = web.manage("retry_stories", "--run", str(data["run"]), "--json")
    assert (rc, retried) == (0, {"retried": 8})


def test_tell_story_streams_to_the_terminal(web: Web, provider: Provider) -> None:
    make_serving_model("ft:base-zh:local:ultraman:1", prompt_style="chat")
    rc, out, err, data = web.manage("tell_story", "宋", "发射激光", "艰难", "--json")
    assert rc == 0, err
    assert provider.text in out
    assert (data["state"], data["text"], data["model"]) == (
        "written", provider.text, "ft:base-zh:local:ultraman:1",
    )  # fmt: skip
    body = provider.posts("/v1/chat")[0].body
    assert body["messages"] == [{"role": "user", "content": "宋,发射激光,艰难"}]
    assert (body["temperature"], body["max_tokens"]) == (0.7, 2000)


def test_tell_story_says_that_the_model_thinks_apart_from_the_story(web: Web, provider: Provider) -> None:
    make_serving_model()
    provider.pieces, provider.delay = ["<think>先想", "一想。", "</think>", "从前有座山。"], 0.7
    rc, out, err, data = web.manage("tell_story", "宋", "发射激光", "艰难", "--json")
    assert rc == 0, err
    assert data["text"] == "从前有座山。"
    assert "模型在思考…" in err
    assert "先想" not in out


def test_tell_story_says_what_was_thinking_after_all(web: Web, provider: Provider) -> None:
    make_serving_model()
    provider.pieces, provider.delay = ["先想一想。", "</think>", "从前有座山。"], 0.7
    rc, out, err, data = web.manage("tell_story", "宋", "发射激光", "艰难", "--json")
    assert (rc, data["text"]) == (0, "从前有座山。")
    assert "先想一想。\n从前有座山。" in out
    assert "以上是模型的思考，故事从这里开始：" in err


def test_a_completion_model_is_asked_in_the_notebooks_shape(web: Web, provider: Provider) -> None:
    make_serving_model("ft:base-zh:local:ultraman:2", prompt_style="completion", stop=" END")
    assert web.manage("tell_story", "宋", "发射激光", "艰难").rc == 0
    body = provider.posts("/v1/completions")[0].body
    assert (body["prompt"], body["stop"]) == ("宋,发射激光,艰难 ->", [" END"])


def test_a_story_that_fails_says_why(web: Web, provider: Provider) -> None:
    make_serving_model()
    provider.next(Fault.BAD_REQUEST, message="not today")
    rc, _out, err, data = web.manage("tell_story", "宋", "发射激光", "艰难", "--json")
    assert rc == 1
    assert "not today" in err
    assert data["state"] == "failed"


def test_promote_and_roll_back(web: Web, provider: Provider) -> None:
    make_template()
    make_serving_model("old")
    make_model("new")
    answer = f"{provider.text[:60]}…"
    for model, previous in (("new", "old"), ("old", "new")):
        done = web.manage("promote", model, "--json")
        assert done.json == {"model": model, "previous": previous, "answer": answer}
    assert LanguageModel.objects.promoted().first().name == "old"
    rc, _out, err, data = web.manage("promote", "nobody", "--json")
    assert rc == 1
    assert "nobody" in err
    assert data["model"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tell_story", "宋,元", "发射激光", "艰难"], "朝代里不能有逗号"),
        (["tell_story", "宋", "", "艰难"], "请填写超能力"),
        (["tell_story", "宋", "发射激光", "艰\n难"], "换行"),
        (["tell_story", "宋", "飞" * 33, "艰难"], "最多 32"),
        ([*ORDER[:2], " , ", *ORDER[3:]], "请填写朝代"),
        ([*ORDER, "--budget", "much"], "不是金额"),
        ([*ORDER, "--repeat", "0"], "至少要写 1 篇"),
        (["retry_stories", "--run", "99"], "没有批次 #99"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str) -> None:
    """In this process: tests/system/test_commands_bad_input.py shows what a shell sees of it."""
    make_serving_model()
    with pytest.raises(CommandError, match=sentence) as refused:
        call_command(*arguments)
    assert len(str(refused.value).splitlines()) == 1
    assert not Run.objects.exists()
    assert not Story.objects.exists()


def test_a_model_the_endpoint_does_not_know_orders_nothing(web: Web, provider: Provider) -> None:
    provider.next(Fault.NOT_FOUND, method="GET")
    rc, _out, err, _data = web.manage(*ORDER, "--model", "gpt-none")
    assert rc == 1
    assert "gpt-none" in err
    assert not Run.objects.exists()


def test_a_wrong_key_and_an_endpoint_that_is_down_order_nothing(web: Web, provider: Provider) -> None:
    provider.next(Fault.UNAUTHORIZED, method="GET")
    rc, _out, err, _data = web.manage(*ORDER)
    assert (rc, "密钥" in err) == (1, True)
    web.env["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    try:
        rc, _out, err, _data = web.manage(*ORDER)
    finally:
        web.env["OPENAI_BASE_URL"] = provider.base_url
    assert (rc, "连不上" in err) == (1, True)
    assert not Run.objects.exists()


def test_retry_of_one_that_never_failed_queues_nothing(web: Web) -> None:
    run = make_run(state=Run.State.DONE)
    make_story(run=run)
    assert web.manage("retry_stories", "--run", str(run.pk), "--json").json == {"retried": 0}
