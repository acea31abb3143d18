"""Whatever one answer holds, its own story ends, its call is settled, and no other story differs by a character."""

import json
import threading
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from django.db import Error
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from stories.generation import completion, outcomes, streaming
from stories.generation.streaming import commits, engine
from stories.generation.streaming.session import Session
from stories.models import Attempt, Run, Story
from tests.factories import make_combo, make_model, make_run, make_serving_model, make_story
from tests.provider import Call, Provider

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
    pytest.mark.both_databases,
]
ODD = "怪朝"
PRICED = {"input_price": Decimal(1), "output_price": Decimal(2), "cached_input_price": Decimal("0.5")}
arbitrary = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NAMES = some.sampled_from(["content", "text", "type", "thinking", "message", "code", "refusal", "tokens"])
ANY = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=9),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
WORDS = some.text(max_size=12)
REASONS = some.sampled_from(["stop", "length", "content_filter", "eos", "", None])
INNER = some.fixed_dictionaries(
    {},
    optional={"content": WORDS | ANY, "reasoning_content": WORDS | ANY, "refusal": WORDS | ANY, "role": ANY},
)
CHOICE = some.fixed_dictionaries(
    {},
    optional={
        "delta": INNER | ANY,
        "message": INNER | ANY,
        "text": WORDS | ANY,
        "finish_reason": REASONS | ANY,
        "usage": ANY,
    },
)
COUNT = some.integers(-2, 2**70) | ANY
USAGE = some.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "total_tokens": COUNT,
        "prompt_tokens_details": some.fixed_dictionaries({}, optional={"cached_tokens": COUNT}) | ANY,
        "completion_tokens_details": some.fixed_dictionaries({}, optional={"reasoning_tokens": COUNT}) | ANY,
    },
)
EVENT = some.fixed_dictionaries(
    {},
    optional={
        "choices": some.lists(CHOICE, max_size=2) | ANY,
        "usage": USAGE | ANY,
        "error": ANY,
        "object": some.sampled_from(["error", "chat.completion.chunk"]) | ANY,
    },
)
LINES = some.one_of(
    EVENT.map(lambda event: b"data: " + json.dumps(event).encode()),
    ANY.map(lambda event: b"data: " + json.dumps(event, ensure_ascii=True).encode()),
    some.sampled_from([b"data: [DONE]", b"data:", b": keep-alive", b"", b"event: ping", b"{}", b"data: {"]),
    some.binary(max_size=20).map(lambda junk: b"data: " + junk),
)
ENDS = some.sampled_from([b"\n\n", b"\r\n\r\n", b"\n", b"\r"])
CUTS = some.lists(some.integers(0, 2_000), max_size=6)


@some.composite
def streams(draw: some.DrawFn) -> list[bytes]:
    """An event stream of any lines, cut into pieces anywhere, also within a character."""
    whole = b"".join(line + draw(ENDS) for line in draw(some.lists(LINES, max_size=8)))
    return cut(whole, draw(CUTS))


@some.composite
def bodies(draw: some.DrawFn) -> list[bytes]:
    """A whole answer of any kind."""
    whole = draw(EVENT.map(json.dumps).map(str.encode) | some.binary(max_size=40))
    return cut(whole, draw(CUTS))


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place for place in places if place < len(whole)), len(whole)]
    return [whole[start:end] for start, end in pairwise(marks) if start < end]


def sending(pieces: list[bytes]) -> Any:
    def raw(call: Call) -> list[bytes] | None:
        return pieces if ODD in str(call.body) else None

    return raw


def check_ended(story: Story) -> None:
    """It ended, and its call costs its reservation at most."""
    story.refresh_from_db()
    assert story.has_ended, story.state
    assert story.length == len(story.text)
    assert (story.state == "failed") == (story.text == "")
    attempt = story.attempts.get()
    assert attempt.state not in Attempt.OPEN
    assert attempt.price is not None and 0 <= attempt.price <= attempt.reserved


@arbitrary
@given(pieces=streams())
@example(
    pieces=[
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\ndata: {"usage":{"completion_tokens":-1}}'
    ]
)
@example(pieces=[b'data: {"choices":[{"delta":{"content":"\xe5', b'\xae\x8b\xe6\x9c"}}]}\n\n'])
def test_any_stream_beside_others(provider: Provider, pieces: list[bytes]) -> None:
    model = make_serving_model(**PRICED)
    combos = [make_combo(dynasty) for dynasty in ("唐", ODD, "宋")]
    first, odd, last = [make_story(state="queued", combo=combo, language_model=model) for combo in combos]
    provider.script = sending(pieces)
    threads = [threading.Thread(target=streaming.write, args=(story,)) for story in (first, odd, last)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    check_ended(odd)
    for story in (first, last):
        story.refresh_from_db()
        assert (story.state, story.end_reason, story.text) == ("written", "stop", provider.text)
        assert story.attempts.get().price < story.attempts.get().reserved


@arbitrary
@given(pieces=bodies())
@example(
    pieces=[
        b'{"choices":[{"message":{"content":null}}],"usage":{"prompt_tokens":1e999,"completion_tokens":"7"}}'
    ]
)
def test_any_whole_answer_in_a_run(provider: Provider, pieces: list[bytes]) -> None:
    run = make_run(language_model=make_model(**PRICED))
    combos = [make_combo(dynasty) for dynasty in ("唐", ODD, "宋")]
    first, odd, last = [make_story(run=run, state="queued", combo=combo) for combo in combos]
    provider.script = sending(pieces)
    for story in (first, odd, last):
        completion.fill(Story.objects.select_related("run", "language_model", "template").get(pk=story.pk))
    check_ended(odd)
    for story in (first, last):
        story.refresh_from_db()
        assert (story.state, story.end_reason, story.text) == ("written", "stop", provider.text)
    run.refresh_from_db()
    assert (run.state, run.reserved, run.failures_in_row) == (Run.State.DONE, 0, 0)


def test_without_the_fallback_one_story_spoils_the_commit_of_all(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a number that no column holds, with the guards of the edge and the ledger turned off."""
    monkeypatch.setattr("stories.generation.attempts._count", lambda value: value)
    model = make_serving_model(**PRICED)
    sessions = [open_session(make_story(state="queued", language_model=model)) for _ in range(3)]
    sessions[1].prompt_tokens = sessions[1].completion_tokens = 10**30
    chunks = [session.pending_chunk() for session in sessions]
    with pytest.raises((OverflowError, Error)):
        commits._commit_together(chunks)
    assert set(Story.objects.values_list("state", "text")) == {("writing", "")}
    tries = [
        commits.commit(chunks if turn == 0 else chunks[1:2]) for turn in range(commits.MAX_FAILED_COMMITS)
    ]
    assert [len(done) for done in tries] == [2, 0, 1]
    assert set(Story.objects.values_list("state", "text")) == {("written", "从前有座山。")}


def open_session(story: Story) -> Session:
    """A story whose whole answer has come and is not committed yet."""
    session = engine._open(Story.objects.select_related("language_model", "template").get(pk=story.pk))
    assert session is not None
    session.pending, session.outcome = "从前有座山。", outcomes.of_answer("stop")
    return session
