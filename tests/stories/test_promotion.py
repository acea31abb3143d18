"""Putting a model in use: not after its shutdown, and not before one real call showed that it answers."""

import json
import threading
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from stories.generation.sweeper import expire_promotions
from stories.models import Attempt, AuditEntry, LanguageModel, PromptStyle, SpendDay
from tests.factories import make_model, make_serving_model, make_template
from tests.provider import Fault, Provider
from tests.provider.scripts import raw, whole

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _a_site_that_can_ask(provider: Provider) -> None:
    make_template()
    make_serving_model("old")


def serving() -> str:
    model = LanguageModel.objects.promoted().first()
    return model.name if model else ""


def press(client: Client, model: LanguageModel) -> str:
    """The page that a trainer sees after the button."""
    return client.post(f"/admin/stories/languagemodel/{model.pk}/promote/", follow=True).content.decode()


@pytest.fixture
def trainer(client: Client, tom: User) -> Client:
    client.force_login(tom)
    return client


def promote(name: str) -> dict[str, Any]:
    out = StringIO()
    call_command("promote", name, json=True, stdout=out)
    answer: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])
    return answer


def test_it_works(trainer: Client, provider: Provider, tom: User) -> None:
    new = make_model("new", input_price=Decimal("0.15"), output_price=Decimal("0.60"))
    page = press(trainer, new)
    assert "读者的故事现在由「new」来写，之前是「old」。" in page
    assert f"它试着答了：「{provider.text[:60]}…」" in page
    assert serving() == "new"
    (call,) = provider.posts()
    assert (call.path, call.body["model"], call.body["max_tokens"]) == (CHAT, "new", 60)
    assert "唐" in call.body["messages"][-1]["content"]
    attempt = Attempt.objects.get()
    assert (attempt.purpose, attempt.story, attempt.language_model) == ("promotion", None, new)
    assert (attempt.state, attempt.finish_reason, attempt.completion_tokens) == (
        "complete",
        "stop",
        len(provider.text),
    )
    assert attempt.price == attempt.reserved > 0, "the suite's provider counts more than 60 tokens"
    assert SpendDay.objects.get().reserved == 0
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.by, entry.subject_label) == ("model_promoted", tom, "new")
    assert (entry.before, entry.after["serving"]) == ({"serving": "old"}, "new")


@pytest.mark.parametrize(
    ("style", "path", "asked"),
    [(PromptStyle.CHAT, CHAT, "唐,隐形,轻松"), (PromptStyle.COMPLETION, COMPLETIONS, "唐,隐形,轻松 ->")],
)
def test_a_model_is_tried_the_way_it_is_asked(
    provider: Provider, style: PromptStyle, path: str, asked: str
) -> None:
    make_model("tuned", prompt_style=style, stop=" END")
    promote("tuned")
    (call,) = provider.posts()
    assert call.path == path
    assert call.body.get("prompt", call.body.get("messages", [{}])[-1].get("content")) == asked
    assert call.body["stop"] == [" END"]


def test_an_answer_that_was_cut_by_its_length_is_an_answer(provider: Provider) -> None:
    make_model("new")
    provider.next(Fault.LENGTH)
    assert promote("new")["model"] == "new"
    assert Attempt.objects.get().finish_reason == "length"


def test_what_the_model_answers_is_text_and_nothing_else(trainer: Client, provider: Provider) -> None:
    provider.text = "<script>alert(1)</script>\0"
    page = press(trainer, make_model("new"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page


# --- what is refused ----------------------------------------------------------------------------------------

DEAD = [
    (Fault.NOT_FOUND, {}, "The model does not exist"),
    (Fault.BAD_REQUEST, {"message": "not &lt;b&gt; today"}, "not &amp;lt;b&amp;gt; today"),
    (Fault.UNAUTHORIZED, {}, "Incorrect API key provided"),
    (Fault.QUOTA, {}, "You exceeded your current quota"),
    (Fault.RATE_LIMIT, {}, "Rate limit reached"),
    (Fault.SERVER_ERROR, {}, "The server had an error"),
    (Fault.RESET, {}, "结果不明"),
    (Fault.DONE_BUT_HTML, {}, "Bad gateway"),
    (Fault.GARBAGE, {}, "结果不明"),
]


@pytest.mark.parametrize(("fault", "options", "words"), DEAD, ids=[fault.name for fault, *_ in DEAD])
def test_a_model_that_does_not_answer_stays_out(
    trainer: Client, provider: Provider, fault: Fault, options: dict[str, Any], words: str
) -> None:
    new = make_model("new", input_price=Decimal("0.15"), output_price=Decimal("0.60"))
    provider.always(fault, **options)
    page = press(trainer, new)
    assert words in page
    assert "「new」没有启用" in page
    assert (serving(), len(provider.posts()), AuditEntry.objects.count()) == ("old", 1, 0)
    attempt = Attempt.objects.get()
    unknown = fault in (Fault.RESET, Fault.DONE_BUT_HTML, Fault.GARBAGE)
    assert attempt.state == ("unknown" if unknown else "refused")
    assert attempt.price == (attempt.reserved if unknown else 0)
    assert (SpendDay.objects.get().spent, SpendDay.objects.get().reserved) == (attempt.price, 0)


def test_a_model_that_answers_nothing_stays_out(trainer: Client, provider: Provider) -> None:
    provider.text = " \n"
    assert "什么也没有答" in press(trainer, make_model("new"))
    assert (serving(), Attempt.objects.get().state) == ("old", "complete")


def test_a_model_that_declines_stays_out_with_its_words(trainer: Client, provider: Provider) -> None:
    provider.script = lambda _call: [raw(whole(None, refusal="这个我不写。"))]
    assert "模型不肯写：这个我不写。" in press(trainer, make_model("new"))
    assert (serving(), Attempt.objects.get().state) == ("old", "complete")


@pytest.mark.parametrize(("days", "refused"), [(-400, True), (-1, True), (0, True), (1, False)])
def test_not_after_its_shutdown(trainer: Client, provider: Provider, days: int, refused: bool) -> None:
    new = make_model("new", shutdown_date=timezone.localdate() + timedelta(days=days))
    page = press(trainer, new)
    assert ("停用，请换一个模型" in page) is refused
    assert serving() == ("old" if refused else "new")
    assert len(provider.posts()) == (0 if refused else 1)


def test_the_day_is_the_sites_and_not_greenwichs(
    trainer: Client, provider: Provider, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    assert settings.TIME_ZONE == "Asia/Shanghai"
    import time_machine

    new = make_model("new", shutdown_date=date(2026, 12, 1))
    with time_machine.travel("2026-11-30T16:30:00Z", tick=True):
        assert "停用，请换一个模型" in press(trainer, new)
    with time_machine.travel("2026-11-30T15:30:00Z", tick=True):
        press(trainer, new)
    assert serving() == "new"


@pytest.mark.parametrize(("days", "warned"), [(1, True), (30, True), (31, False)])
def test_a_shutdown_within_thirty_days_is_warned_of(trainer: Client, days: int, warned: bool) -> None:
    new = make_model("new", shutdown_date=timezone.localdate() + timedelta(days=days))
    asked = trainer.get(f"/admin/stories/languagemodel/{new.pk}/promote/").content.decode()
    done = press(trainer, new)
    assert [("天后停用" in page) for page in (asked, done)] == [warned, warned]


def test_going_back_is_checked_like_going_forward(trainer: Client, provider: Provider) -> None:
    old, new = LanguageModel.objects.get(name="old"), make_model("new")
    press(trainer, new)
    provider.models = {"new"}
    assert "The model `old` does not exist" in press(trainer, old)
    assert serving() == "new"
    provider.models = None
    press(trainer, old)
    assert serving() == "old"


def test_without_money_no_call_is_made(trainer: Client, provider: Provider, settings: Any) -> None:
    settings.DAILY_SPEND_LIMIT_USD = Decimal("0.000001")
    new = make_model("new", input_price=Decimal(1), output_price=Decimal(1))
    assert "今天的花费会超过每日上限" in press(trainer, new)
    unpriced = make_model("unpriced", output_price=None)
    assert "的价格未知" in press(trainer, unpriced)
    assert (serving(), provider.posts(), Attempt.objects.count()) == ("old", [], 0)


# --- the command --------------------------------------------------------------------------------------------


def test_the_command_says_what_the_model_answered(provider: Provider) -> None:
    make_model("new", shutdown_date=timezone.localdate() + timedelta(days=9))
    out = StringIO()
    call_command("promote", "new", json=True, stdout=out)
    said = out.getvalue()
    assert "在用模型现在是 new，之前是 old。" in said
    assert f"「{provider.text[:60]}…」" in said
    assert "9 天后停用" in said
    assert json.loads(said.splitlines()[-1]) == {
        "model": "new",
        "previous": "old",
        "answer": provider.text[:60] + "…",
    }
    entry = AuditEntry.objects.get()
    assert (entry.by, "@" in entry.actor) == (None, True)


def test_the_command_refuses_like_the_page(provider: Provider) -> None:
    make_model("new")
    provider.models = {"old"}
    with pytest.raises(CommandError, match="The model `new` does not exist"):
        call_command("promote", "new")
    assert serving() == "old"


# --- twice, and never learnt --------------------------------------------------------------------------------


def test_a_second_press_finds_it_done(trainer: Client, provider: Provider) -> None:
    new = make_model("new")
    press(trainer, new)
    assert "「new」已经在用" in press(trainer, new)
    assert (len(provider.posts()), AuditEntry.objects.count()) == (1, 1)


def together(presses: int, act: Callable[[], object]) -> None:
    def run() -> None:
        try:
            act()
        except CommandError:
            return
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _press in range(presses)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_five_presses_at_once_are_one_call_and_one_promotion(provider: Provider) -> None:
    make_model("new")
    provider.answer_after = 1.0
    together(5, lambda: promote("new"))
    assert (serving(), len(provider.posts()), AuditEntry.objects.count()) == ("new", 1, 1)
    assert Attempt.objects.get().state == Attempt.State.COMPLETE


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_without_the_constraint_they_would_be_several_calls(provider: Provider) -> None:
    """The negative control: without `attempt_one_open_promotion` each press asks, and pays."""
    make_model("new")
    provider.answer_after = 4.0  # the others have that long to come, on a busy machine too
    (guard,) = [one for one in Attempt._meta.constraints if one.name == "attempt_one_open_promotion"]
    with connection.schema_editor() as editor:
        editor.remove_constraint(Attempt, guard)
    try:
        together(5, lambda: promote("new"))
        assert len(provider.posts()) > 1
    finally:
        with connection.schema_editor() as editor:
            editor.add_constraint(Attempt, guard)


def test_no_transaction_is_open_while_the_model_thinks(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stories import promotion

    make_model("new")
    depth = len(connection.savepoint_ids)
    seen: list[int] = []
    complete = promotion.calls.complete

    def watched(alias: str, ask: Any, **more: Any) -> Any:
        seen.append(len(connection.savepoint_ids))
        return complete(alias, ask, **more)

    monkeypatch.setattr(promotion.calls, "complete", watched)
    promote("new")
    assert seen == [depth]


def test_a_call_that_was_never_settled_is_given_up_and_the_model_can_be_tried_again(
    provider: Provider,
) -> None:
    new = make_model("new", input_price=Decimal(1), output_price=Decimal(1))
    promote("new")
    Attempt.objects.update(state=Attempt.State.SUBMITTING, price=None)
    promote("old")
    with pytest.raises(CommandError, match="有人正在试问"):
        promote("new")
    assert expire_promotions() == 0
    Attempt.objects.filter(language_model=new).update(started_at=timezone.now() - timedelta(minutes=6))
    assert expire_promotions() == 1
    lost = Attempt.objects.get(language_model=new)
    assert (lost.state, lost.price) == ("unknown", lost.reserved)
    assert promote("new")["model"] == "new"
