"""Thinking in answers that come whole: stories of runs, lines of batches, the call that a model is tried with."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from stories.generation import completion
from stories.models import Attempt, EndReason, Story
from stories.promotion import promote
from tests.factories import make_model, make_run, make_story, make_template
from tests.provider import CHAT, Fault, Provider
from tests.provider.batches import body_of, line
from tests.stories.generation.batches.test_steps import advance, begin

pytestmark = pytest.mark.django_db
STORY = "从前有座山。山里有位奥特曼。"
THOUGHT = "用户要一个故事。先定时代。"


def filled(provider: Provider, **kw: Any) -> Story:
    run = make_run(**kw)
    story = make_story(run=run, slot=1, state="queued")
    completion.fill(story)
    return Story.objects.get(pk=story.pk)


@pytest.mark.both_databases
@pytest.mark.parametrize(
    "answer",
    [
        f"<think>\n{THOUGHT}\n</think>\n\n{STORY}",
        f"{THOUGHT}</think>{STORY}",
        f"[THINK]{THOUGHT}[/THINK]{STORY}",
    ],
)
def test_a_story_of_a_run_is_kept_without_it_and_paid_with_it(provider: Provider, answer: str) -> None:
    provider.text = answer
    story = filled(provider)
    assert (story.state, story.text, story.length) == ("written", STORY, len(STORY))
    assert story.attempts.get().completion_tokens == len(answer)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_thinking_apart_is_not_kept(provider: Provider, key: str) -> None:
    def alter(call: Any, event: dict[str, Any]) -> dict[str, Any]:
        event["choices"][0]["message"][key] = THOUGHT
        return event

    provider.text, provider.alter = STORY, alter
    story = filled(provider)
    assert (story.state, story.text) == ("written", STORY)


def test_typed_parts_are_told_apart(provider: Provider) -> None:
    def alter(call: Any, event: dict[str, Any]) -> dict[str, Any]:
        thinking = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
        event["choices"][0]["message"]["content"] = [thinking, {"type": "text", "text": STORY}]
        return event

    provider.alter = alter
    assert filled(provider).text == STORY


@pytest.mark.parametrize(
    ("answer", "fault", "reason", "why"),
    [
        (f"<think>{THOUGHT}", Fault.LENGTH, EndReason.LENGTH, "思考用完了长度上限"),
        (f"<think>{THOUGHT}</think>", None, EndReason.EMPTY, "只思考了一番"),
        (f"{THOUGHT}</think>", None, EndReason.EMPTY, "只思考了一番"),
    ],
)
def test_thinking_alone_is_no_story_and_says_so(
    provider: Provider, answer: str, fault: Fault | None, reason: str, why: str
) -> None:
    provider.text = answer
    if fault:
        provider.next(fault)
    story = filled(provider)
    assert (story.state, story.end_reason, story.text) == ("failed", reason, "")
    assert why in str(story.error)


def test_an_answer_of_a_run_teaches_how_the_model_begins(provider: Provider) -> None:
    provider.text = f"{THOUGHT}</think>{STORY}"
    model = filled(provider).model
    assert model.opens_in_thinking is True


@pytest.mark.both_databases
def test_a_line_of_a_batch_is_kept_without_it(provider: Provider) -> None:
    run = begin()
    advance()
    batch = provider.batches.only()
    requests = provider.batches.requests(batch["id"])
    output = [line(one, 200, body_of(f"<think>{THOUGHT}</think>{STORY}")) for one in requests]
    provider.batches.end(batch["id"], "completed", output=output, errors=[])
    advance(steps=1)
    assert set(run.stories.values_list("state", "text")) == {("written", STORY)}


def test_a_model_that_only_thinks_within_the_trial_may_be_promoted(provider: Provider, alice: User) -> None:
    provider.text = f"<think>{THOUGHT}"
    provider.next(Fault.LENGTH, path=CHAT)
    make_template()
    model = make_model("thinker")
    done = promote(model, by=alice)
    assert done.answer == "（它先思考，试问的长度里还没有写到故事）"
    assert Attempt.objects.get().state == Attempt.State.COMPLETE


def test_the_trial_teaches_how_the_model_begins(provider: Provider, alice: User) -> None:
    provider.text = f"{THOUGHT}</think>{STORY}"
    make_template()
    model = make_model("thinker")
    assert promote(model, by=alice).answer == STORY
    model.refresh_from_db()
    assert model.opens_in_thinking is True
