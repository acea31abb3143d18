"""Models that want to be asked otherwise: learnt from their refusals by every way of asking, kept once, told of."""

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from llm.dialects import THINKING_ALLOWANCE, Dialect
from llm.lessons import Lesson
from stories.dialects import keep_lessons, set_dialect
from stories.errors import BadState, StoryError
from stories.generation import completion
from stories.generation.batches import orders
from stories.generation.streaming import engine
from stories.models import AuditEntry, DialectLesson, LanguageModel, Story
from stories.promotion import promote
from tests.factories import make_model, make_run, make_story, make_template
from tests.provider import CHAT, Provider
from tests.provider.batches import line
from tests.stories.generation.batches.test_steps import advance, begin

OTHER_NAME = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
pytestmark = pytest.mark.django_db(transaction=True)


def error(message: str, **more: Any) -> dict[str, Any]:
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}
    }


def reasoning(call: Any) -> tuple[int, Any] | None:
    """As OpenAI's reasoning models refuse."""
    if "max_tokens" in call.body:
        return 400, error(OTHER_NAME, code="unsupported_parameter")
    for name in ("temperature", "top_p"):
        if call.body.get(name, 1) != 1:
            words = f"Unsupported value: '{name}' does not support this value with this model."
            return 400, error(words, param=name, code="unsupported_value")
    return None


def without_system(call: Any) -> tuple[int, Any] | None:
    """As vLLM refuses with Gemma's template; its error has no "error" around it."""
    if any(message["role"] == "system" for message in call.body["messages"]):
        return 400, {"object": "error", "message": "System role not supported", "param": None, "code": 400}
    return None


def without_stream_options(call: Any) -> tuple[int, Any] | None:
    """As a server that checks its bodies by pydantic refuses."""
    if "stream_options" in call.body:
        wrong = {"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
        return 422, {"detail": [wrong | {"type": "extra_forbidden"}]}
    return None


def ask_in_run(model: LanguageModel) -> Story:
    story = make_story(run=make_run(language_model=model), state=Story.State.QUEUED)
    completion.fill(Story.objects.get(pk=story.pk))
    return Story.objects.get(pk=story.pk)


def ask_for_reader(model: LanguageModel) -> Story:
    story = make_story(state=Story.State.QUEUED, language_model=model, reader_key="k" * 32)
    engine.write(Story.objects.get(pk=story.pk))
    return Story.objects.get(pk=story.pk)


ASKED = {"in a run": ask_in_run, "for a reader": ask_for_reader}
by_each = pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)


@pytest.mark.both_databases
@by_each
def test_a_reasoning_model_is_learnt_and_asked_right_from_the_next_call_on(
    provider: Provider, ask: Callable[[LanguageModel], Story]
) -> None:
    provider.refuse = reasoning
    model = make_model("brand-new-thinker")
    story = ask(model)
    assert (story.state, story.text) == ("written", provider.text)
    assert [call.status for call in provider.posts(CHAT)] == [400, 400, 200]
    assert story.attempts.get().state == "complete"

    model.refresh_from_db()
    learnt = Dialect("max_completion_tokens", allowance=THINKING_ALLOWANCE, omits=frozenset({"temperature"}))
    assert model.dialect == learnt
    assert list(DialectLesson.objects.order_by("pk").values_list("named", flat=True)) == [
        "max_tokens",
        "temperature",
    ]
    assert "max_completion_tokens" in DialectLesson.objects.earliest("pk").words

    provider.calls.clear()
    assert ask(model).state == "written"
    assert [call.status for call in provider.posts(CHAT)] == [200]
    assert provider.posts(CHAT)[0].body["max_completion_tokens"] > THINKING_ALLOWANCE


@by_each
def test_a_known_family_is_asked_right_at_once(
    provider: Provider, ask: Callable[[LanguageModel], Story]
) -> None:
    provider.refuse = reasoning
    assert ask(make_model("gpt-5-mini", base="gpt-5-mini")).state == "written"
    assert [call.status for call in provider.posts(CHAT)] == [200]
    assert not DialectLesson.objects.exists()


@by_each
def test_without_a_system_role_its_message_goes_in_front_of_the_users(
    provider: Provider, ask: Callable[[LanguageModel], Story]
) -> None:
    provider.refuse = without_system
    assert ask(make_model()).state == "written"
    refused, asked = provider.posts(CHAT)
    (message,) = asked.body["messages"]
    assert message["content"].startswith(refused.body["messages"][0]["content"])
    assert message["content"].endswith(refused.body["messages"][1]["content"])


def test_a_stream_whose_options_are_refused_is_asked_without_them(provider: Provider) -> None:
    provider.refuse = without_stream_options
    model = make_model()
    assert ask_for_reader(model).state == "written"
    model.refresh_from_db()
    assert model.dialect.omits == {"stream_options"}


@by_each
def test_what_is_refused_however_it_is_asked_ends_in_bounded_time(
    provider: Provider, ask: Callable[[LanguageModel], Story]
) -> None:
    def refuse(call: Any) -> tuple[int, Any]:
        name = next(
            (name for name in ("max_tokens", "max_completion_tokens", "temperature") if name in call.body),
            "top_p",
        )
        return 400, error(f"Unsupported parameter: '{name}'")

    provider.refuse = refuse
    story = ask(make_model())
    assert (story.state, story.end_reason) == ("failed", "refused")
    assert len(provider.posts(CHAT)) <= 7


def test_a_refusal_that_teaches_nothing_is_asked_once(provider: Provider) -> None:
    provider.refuse = lambda call: (400, error("Invalid 'messages[1].content'", param="messages[1].content"))
    assert ask_in_run(make_model()).end_reason == "refused"
    assert len(provider.posts(CHAT)) == 1


def test_the_trial_of_a_promotion_learns_too(provider: Provider) -> None:
    make_template()
    provider.refuse = reasoning
    model = make_model()
    assert promote(model, by="test").answer
    model.refresh_from_db()
    assert model.dialect.length_name == "max_completion_tokens"


@pytest.mark.both_databases
def test_a_batch_line_teaches_and_its_story_is_ordered_again(provider: Provider) -> None:
    run = begin()
    advance()
    batch = provider.batches.only()
    lines = [line(one, 400, error(OTHER_NAME)) for one in provider.batches.requests(batch["id"])]
    provider.batches.end(batch["id"], "completed", output=[], errors=lines)
    advance(steps=1)
    assert set(run.stories.values_list("state", "tries")) == {("queued", 1)}
    assert DialectLesson.objects.count() == 1
    story = run.stories.select_related("run", "language_model", "template").first()
    body = orders.ask_of(story).body()
    assert "max_completion_tokens" in body
    assert "max_tokens" not in body


def lesson(**more: Any) -> Lesson:
    return Lesson(Dialect(**more), "max_tokens", "no")


@pytest.mark.both_databases
def test_two_workers_that_learn_at_once_write_it_once(db: None) -> None:
    model = make_model()
    rows = [LanguageModel.objects.get(pk=model.pk) for _ in range(4)]

    def keep(row: LanguageModel) -> None:
        try:
            keep_lessons(row, [lesson(length_name="max_completion_tokens")])
        finally:
            connection.close()

    threads = [Thread(target=keep, args=(row,)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert DialectLesson.objects.count() == 1
    model.refresh_from_db()
    assert model.dialect_version == 1


def test_what_was_learnt_from_an_older_dialect_never_overwrites_a_trainers_decision(db: None) -> None:
    model = make_model()
    asked = LanguageModel.objects.get(pk=model.pk)
    set_dialect(model, {"allowance": 500}, by="trainer")
    assert not keep_lessons(asked, [lesson(length_name="max_completion_tokens")])
    model.refresh_from_db()
    assert model.dialect == Dialect(allowance=500)
    with pytest.raises(BadState):
        set_dialect(asked, {"allowance": 1}, by="trainer")
    entry = AuditEntry.objects.get(action=AuditEntry.Action.MODEL_DIALECT_CHANGED)
    assert (entry.before, entry.after) == ({"dialect": None}, {"dialect": {"allowance": 500}})


def test_what_is_no_dialect_changes_nothing(db: None) -> None:
    model = make_model()
    with pytest.raises(StoryError, match="JSON 对象"):
        set_dialect(model, [1], by="trainer")
    model.refresh_from_db()
    assert (model.dialect_settings, model.dialect_version) == (None, 0)


# --- its page -----------------------------------------------------------------------------------------------


def form(model: LanguageModel, **more: Any) -> dict[str, Any]:
    """What the page sends where nothing is changed."""
    prices = dict.fromkeys(("input_price", "output_price", "training_price", "cached_input_price"), "0")
    plain = {
        "length_name": "max_tokens",
        "allowance": 0,
        "system": "system",
        "seen_version": model.dialect_version,
    }
    return prices | plain | more


def page_of(model: LanguageModel) -> str:
    return reverse("admin:stories_languagemodel_change", args=[model.pk])


def test_a_trainer_edits_the_dialect_and_takes_it_back(client: Client, tom: User) -> None:
    client.force_login(tom)
    model = make_model()
    client.post(page_of(model), form(model))
    model.refresh_from_db()
    assert model.dialect_settings is None  # nothing was changed, so nothing is written
    changed = form(
        model, omits=["stop", "top_p"], system="user", max_length="4096", extra='{"enable_thinking": false}'
    )
    client.post(page_of(model), changed)
    model.refresh_from_db()
    wanted = Dialect(
        max_length=4096, omits=frozenset({"stop", "top_p"}), system="user", extra={"enable_thinking": False}
    )
    assert model.dialect == wanted
    client.post(page_of(model), form(model, by_family="on"))
    model.refresh_from_db()
    assert model.dialect_settings is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"extra": "[1]"}, "要是一个 JSON 对象"),
        ({"extra": "{"}, "这不是 JSON"),
        ({"extra": '{"messages": []}'}, "由本站自己来发"),
        ({"max_length": "-5"}, "1"),
        ({"allowance": "99999999999"}, "1000000"),
        ({"max_length": "10", "allowance": "10"}, "思考余量要小于长度上限"),
    ],
)
def test_a_page_refuses_what_is_no_dialect_and_changes_nothing(
    client: Client, tom: User, more: dict[str, str], words: str
) -> None:
    client.force_login(tom)
    model = make_model()
    page = client.post(page_of(model), form(model, **more), headers={"accept-language": "zh-hans"})
    assert page.status_code == 200
    assert words in page.content.decode()
    model.refresh_from_db()
    assert (model.dialect_settings, model.dialect_version) == (None, 0)


def test_a_page_that_was_open_while_something_was_learnt_overwrites_nothing(
    client: Client, tom: User
) -> None:
    client.force_login(tom)
    model = make_model()
    sent = form(model, allowance="700")
    keep_lessons(LanguageModel.objects.get(pk=model.pk), [lesson(length_name="max_completion_tokens")])
    client.post(page_of(model), sent)
    model.refresh_from_db()
    assert model.dialect == Dialect("max_completion_tokens")


def test_the_page_says_what_was_learnt_and_from_which_words(client: Client, tom: User) -> None:
    client.force_login(tom)
    model = make_model()
    keep_lessons(model, [Lesson(Dialect(system="user"), "system", "<b>System role</b> not supported")])
    page = client.get(page_of(model)).content.decode()
    assert "&lt;b&gt;System role&lt;/b&gt; not supported" in page
