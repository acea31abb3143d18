"""What a model thinks before it writes is never a story: not shown, not kept, not continued from, but paid for."""

import threading
from typing import Any

import pytest

from stories.generation import streaming
from stories.generation.streaming import engine as engine_module
from stories.live.snapshots import seconds_of_thinking, take_snapshots
from stories.models import Attempt, EndReason, Story
from tests.factories import make_serving_model, make_story
from tests.provider import CHAT, Fault, Provider
from tests.servers import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]
STORY = "从前有座山。山里有位奥特曼。"
THOUGHT = "用户要一个故事。先定时代，再想超能力怎么用。"


@pytest.fixture
def story(provider: Provider) -> Story:
    return make_story(state=Story.State.QUEUED, language_model=make_serving_model())


def written(story: Story) -> Story:
    streaming.write(story)
    return Story.objects.get(pk=story.pk)


def in_thread(story: Story) -> threading.Thread:
    thread = threading.Thread(target=streaming.write, args=(story,))
    thread.start()
    return thread


def cut(text: str, size: int = 3) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def give_apart(key: str) -> Any:
    """The provider gives what stands before `|` as thinking, under `key`."""

    def alter(call: Any, event: dict[str, Any]) -> dict[str, Any]:
        for choice in event["choices"]:
            delta = choice.get("delta", choice.get("message", {}))
            if str(delta.get("content", "")).startswith("|"):
                delta[key], delta["content"] = delta["content"][1:], None
        return event

    return alter


@pytest.mark.both_databases
@pytest.mark.parametrize("size", [1, 3, 500])
@pytest.mark.parametrize(
    "answer",
    [
        f"<think>\n{THOUGHT}\n</think>\n\n{STORY}",
        f"\n<THINKING mode='long'>{THOUGHT}</thinking>{STORY}",
        f"[THINK]{THOUGHT}[/THINK]{STORY}",
        f"{THOUGHT}</think>\n\n{STORY}",
        f"<think>一</think><think>二</think>{STORY}",
    ],
)
def test_thinking_in_the_text_is_not_kept(provider: Provider, story: Story, answer: str, size: int) -> None:
    provider.pieces = cut(answer, size)
    story = written(story)
    assert (story.state, story.end_reason, story.text) == ("written", "stop", STORY)
    assert story.length == len(STORY)
    attempt = story.attempts.get()
    assert (attempt.state, attempt.completion_tokens) == (Attempt.State.COMPLETE, len(answer))


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_thinking_that_the_server_gives_apart_is_not_kept(provider: Provider, story: Story, key: str) -> None:
    provider.pieces, provider.alter = ["|" + THOUGHT[:9], "|" + THOUGHT[9:], STORY], give_apart(key)
    story = written(story)
    assert (story.state, story.text) == ("written", STORY)
    assert story.attempts.get().first_thought_at is not None


@pytest.mark.both_databases
def test_while_the_model_thinks_viewers_are_told_so(provider: Provider, story: Story) -> None:
    provider.pieces, provider.hold_after = ["<think>先想", "一想。", "</think>", STORY], 2
    thread = in_thread(story)
    wait_until(lambda: take_snapshots([story.pk])[story.pk].thinking is not None)
    row = Story.objects.get(pk=story.pk)
    assert (row.state, row.text, seconds_of_thinking(row)) == ("writing", "", 0)
    assert row.attempts.get().state == Attempt.State.STREAMING
    provider.release()
    thread.join(10)
    row.refresh_from_db()
    assert (row.state, row.text, seconds_of_thinking(row)) == ("written", STORY, None)
    assert take_snapshots([story.pk])[story.pk].thinking is None


@pytest.mark.both_databases
def test_text_that_turns_out_to_be_thinking_is_taken_back(provider: Provider, story: Story) -> None:
    provider.pieces, provider.hold_after = ["先想一想，", "再写。", "</think>\n", "从前", "有座山。"], 2
    thread = in_thread(story)
    wait_until(lambda: Story.objects.get(pk=story.pk).text == "先想一想，再写。")
    name = Story.objects.get(pk=story.pk).attempt_name
    provider.release()
    thread.join(10)
    row = Story.objects.get(pk=story.pk)
    assert (row.state, row.text, row.length) == ("written", "从前有座山。", 6)
    assert row.attempt_name not in {name, ""}
    row.language_model.refresh_from_db()
    assert row.language_model.opens_in_thinking is True


def test_a_model_that_begins_inside_is_held_from_then_on(provider: Provider, story: Story) -> None:
    provider.pieces = [f"{THOUGHT}</think>", STORY]
    written(story)
    provider.hold_after = 1
    provider.pieces = [THOUGHT, "</think>", STORY]
    second = make_story(state="queued", language_model=type(story.model).objects.get())
    thread = in_thread(second)
    wait_until(lambda: take_snapshots([second.pk])[second.pk].state == "writing")
    wait_until(lambda: provider.posts(CHAT)[-1].pieces == 1)
    name = Story.objects.get(pk=second.pk).attempt_name
    provider.release()
    thread.join(10)
    row = Story.objects.get(pk=second.pk)
    assert (row.state, row.text, row.attempt_name) == ("written", STORY, name)


def test_a_held_answer_without_thinking_is_the_story_and_the_model_is_held_no_more(
    provider: Provider,
) -> None:
    model = make_serving_model("qwq-32b")
    assert model.opens_inside
    provider.text = STORY
    row = written(make_story(state="queued", language_model=model))
    assert (row.state, row.text) == ("written", STORY)
    model.refresh_from_db()
    assert (model.opens_in_thinking, model.opens_inside) == (False, False)


@pytest.mark.parametrize(
    ("pieces", "fault", "reason", "why"),
    [
        (["<think>", THOUGHT], Fault.LENGTH, EndReason.LENGTH, "思考用完了长度上限"),
        (["<think>", THOUGHT, "</think>\n"], None, EndReason.EMPTY, "只思考了一番"),
        ([THOUGHT, "</think>"], None, EndReason.EMPTY, "只思考了一番"),
        (["<think>", THOUGHT, THOUGHT], Fault.RESET, EndReason.UNKNOWN, ""),
    ],
)
def test_thinking_alone_is_no_story(
    provider: Provider, story: Story, pieces: list[str], fault: Fault | None, reason: str, why: str
) -> None:
    provider.pieces = pieces
    if fault:
        provider.next(fault, after=2)
    row = written(story)
    assert (row.state, row.end_reason, row.text, row.length) == ("failed", reason, "", 0)
    assert why in str(row.error)
    assert row.attempts.get().state != Attempt.State.REFUSED
    assert len(provider.posts(CHAT)) == 1


def test_a_thought_without_end_keeps_to_the_deadline(
    provider: Provider, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "DEADLINE", 1.0)
    provider.pieces, provider.hold_after = ["<think>", *cut(THOUGHT)], 4
    row = written(story)
    assert (row.state, row.end_reason, row.text) == ("failed", EndReason.UNKNOWN, "")
    wait_until(lambda: provider.posts(CHAT)[0].closed_early_at)


def test_a_continuation_goes_on_from_the_story_alone(provider: Provider, story: Story) -> None:
    held = f"<think>{THOUGHT}</think>\n\n从前有座山，"
    Story.objects.filter(pk=story.pk).update(text=held, length=len(held), attempt_name="first")
    provider.pieces = ["<think>接着想", "</think>", "山里有座庙。"]
    row = written(Story.objects.get(pk=story.pk))
    assert (row.state, row.text) == ("written", "从前有座山，山里有座庙。")
    assert row.attempt_name != "first"
    assert provider.posts(CHAT)[0].body["messages"][-2] == {"role": "assistant", "content": "从前有座山，"}


def test_a_continuation_that_began_inside_its_thinking_keeps_what_was_there(
    provider: Provider, story: Story
) -> None:
    Story.objects.filter(pk=story.pk).update(text="从前有座山，", length=6, attempt_name="first")
    provider.pieces, provider.hold_after = (
        ["接下来我要想想怎么写这一段，用户要我接着写。", "</think>", "山里有座庙。"],
        1,
    )
    thread = in_thread(Story.objects.get(pk=story.pk))
    wait_until(lambda: provider.posts(CHAT))
    provider.release()
    thread.join(10)
    row = Story.objects.get(pk=story.pk)
    assert (row.state, row.text) == ("written", "从前有座山，山里有座庙。")


def test_a_stopped_thought_leaves_nothing(provider: Provider, story: Story) -> None:
    provider.pieces, provider.hold_after = ["<think>先想", "一想。", "</think>", STORY], 2
    thread = in_thread(story)
    wait_until(lambda: take_snapshots([story.pk])[story.pk].thinking is not None)
    assert streaming.request_stop(story)
    thread.join(10)
    row = Story.objects.get(pk=story.pk)
    assert (row.state, row.end_reason, row.text) == ("failed", EndReason.STOPPED, "")
