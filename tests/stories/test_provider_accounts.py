"""An account that is out of money: heard of at once, asked nothing, asked again when a person or a probe says so."""

import json
import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from llm.endpoints import Endpoint
from llm.errors import OutOfMoney
from stories import provider_accounts
from stories.errors import AccountEmpty, UnknownModel
from stories.generation import completion, streaming
from stories.models import Attempt, AuditEntry, EndReason, ProviderAccount, Run, Story
from stories.promotion import promote
from stories.runs.lifecycle import resume_run, retry_run
from tests.factories import make_model, make_run, make_serving_model, make_story
from tests.provider import CHAT, Fault, Provider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]
WORDS = "模型服务的额度已用完（402：Insufficient Balance）。"
BODY = json.dumps(
    {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}}
)


@pytest.fixture
def broke(provider: Provider) -> Provider:
    """DeepSeek: HTTP 402 with a type and a code that do not say "quota"."""
    provider.always(Fault.REFUSAL, status=402, body=BODY)
    return provider


def load(story: Story) -> Story:
    return Story.objects.select_related("run", "language_model", "template").get(pk=story.pk)


def tell() -> Story:
    """A reader's story, as far as it comes."""
    story = make_story(state=Story.State.QUEUED)
    streaming.write(load(story))
    return load(story)


def order(stories: int = 3, **kw: Any) -> Run:
    run = make_run(**kw)
    for _ in range(stories):
        make_story(run=run, state=Story.State.QUEUED)
    return run


def fill(story: Story) -> Story:
    completion.fill(load(story))
    return load(story)


def account() -> ProviderAccount:
    return ProviderAccount.objects.get()


def let_the_probe_come() -> None:
    ProviderAccount.objects.update(next_probe_at=timezone.now() - timedelta(seconds=1))


# --- nothing is asked -----------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_a_reader_hears_it_at_once_and_the_next_one_without_a_call(broke: Provider) -> None:
    make_serving_model()
    first, second = tell(), tell()
    for story in (first, second):
        assert (story.state, story.end_reason, str(story.error)) == ("failed", EndReason.QUOTA, WORDS)
    assert len(broke.posts(CHAT)) == 1
    assert (first.attempts.get().state, first.attempts.get().price) == (Attempt.State.REFUSED, 0)
    assert not second.attempts.exists()
    assert str(account().words) == WORDS
    assert account().out_of_money_since is not None


@pytest.mark.both_databases
def test_a_run_pauses_and_says_so_and_so_does_the_next_one_without_a_call(broke: Provider) -> None:
    model = make_model()
    runs = [order(language_model=model), order(language_model=model)]
    for run in runs:
        for story in run.stories.all():
            assert fill(story).state == Story.State.QUEUED
        run.refresh_from_db()
        assert (run.state, str(run.pause_reason)) == (Run.State.PAUSED, f"已自动暂停：{WORDS}")
        assert (run.reserved, run.spent) == (0, 0)
    assert len(broke.posts(CHAT)) == 1


def test_a_readers_order_after_a_runs_refusal_asks_nothing(broke: Provider) -> None:
    run = order(language_model=make_serving_model())
    fill(run.stories.first())
    assert tell().end_reason == EndReason.QUOTA
    assert len(broke.posts(CHAT)) == 1


def test_other_accounts_are_asked_as_before(broke: Provider, settings: Any) -> None:
    make_serving_model()
    tell()
    broke.well()
    settings.LLM_ENDPOINTS |= {"other": Endpoint("other", f"{broke.base_url}/../v1", "none")}
    other = make_serving_model("other", endpoint="other", base_url=f"{broke.base_url}/../v1")
    story = make_story(state=Story.State.QUEUED, language_model=other)
    streaming.write(load(story))
    assert len(broke.posts()) == 2


@pytest.mark.parametrize("is_run", [True, False])
def test_an_error_inside_a_200_is_heard_too(provider: Provider, is_run: bool) -> None:
    error = {"error": {"message": "This request requires more credits", "code": 402}}
    event = json.dumps(error).encode()
    provider.script = lambda _call: [event if is_run else b"data: " + event + b"\n\n"]
    run = order(language_model=make_serving_model())
    story = fill(run.stories.first()) if is_run else tell()
    assert (story.state, story.end_reason) == (("queued", "") if is_run else ("failed", "quota"))
    assert "requires more credits" in str(account().words)
    assert len(provider.posts(CHAT)) == 1


def test_an_ordinary_limit_empties_no_account(provider: Provider) -> None:
    make_serving_model()
    provider.next(Fault.RATE_LIMIT, retry_after=0)
    assert tell().state == Story.State.QUEUED
    assert not ProviderAccount.objects.exists()


# --- the probe ------------------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_of_many_orders_at_its_time_one_is_the_probe(broke: Provider) -> None:
    make_serving_model()
    tell()
    let_the_probe_come()
    threads = [threading.Thread(target=_tell_in_thread) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(broke.posts(CHAT)) == 2
    assert Story.objects.filter(end_reason=EndReason.QUOTA).count() == 9
    assert list(Attempt.objects.order_by("pk").values_list("is_probe", flat=True)) == [False, True]
    assert account().next_probe_at > timezone.now() + timedelta(minutes=10)


def _tell_in_thread() -> None:
    try:
        tell()
    finally:
        connection.close()


@pytest.mark.both_databases
def test_a_probe_that_is_answered_reopens_the_account(broke: Provider) -> None:
    make_serving_model()
    tell()
    broke.well()
    let_the_probe_come()
    stories = [tell(), tell()]
    assert [story.state for story in stories] == ["written", "written"]
    assert account().out_of_money_since is None
    assert [story.attempts.get().is_probe for story in stories] == [True, False]


def test_a_story_of_a_run_is_a_probe_too(broke: Provider) -> None:
    model = make_model()
    fill(order(language_model=model).stories.first())
    broke.well()
    let_the_probe_come()
    run = order(language_model=model)
    assert [fill(story).state for story in run.stories.all()] == ["written"] * 3
    assert account().out_of_money_since is None


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.BAD_REQUEST, Fault.HTML])
def test_a_probe_that_is_not_answered_reopens_nothing(broke: Provider, fault: Fault) -> None:
    model = make_serving_model()
    tell()
    broke.well()
    broke.next(fault)
    let_the_probe_come()
    tell()
    with pytest.raises(AccountEmpty):
        provider_accounts.let_through(model)


def test_a_probe_without_money_of_ours_is_still_to_come(broke: Provider, settings: Any) -> None:
    model = make_serving_model(input_price=Decimal(1), output_price=Decimal(1))
    tell()
    let_the_probe_come()
    settings.DAILY_SPEND_LIMIT_USD = Decimal("0.000001")
    assert "每日上限" in str(tell().error)
    settings.DAILY_SPEND_LIMIT_USD = None
    assert provider_accounts.let_through(model) is True


# --- a person says so -----------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_who_resumes_a_run_says_that_the_account_was_paid(broke: Provider, tom: User) -> None:
    run = order(language_model=make_model())
    fill(run.stories.first())
    broke.well()
    run.refresh_from_db()
    resume_run(run, by=tom)
    assert [fill(story).state for story in run.stories.all()] == ["written"] * 3
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.by, entry.subject_label) == ("account_paid", tom, broke.base_url)


def test_who_retries_a_run_says_so_too(broke: Provider, tom: User) -> None:
    run = order(language_model=make_model())
    fill(run.stories.first())
    make_story(run=run, state=Story.State.FAILED)
    run.refresh_from_db()
    assert retry_run(run, by=tom) == 1
    assert account().out_of_money_since is None


def test_trying_a_model_before_it_is_put_in_use_says_so_too(broke: Provider, tom: User) -> None:
    model = make_serving_model()
    tell()
    other = make_model("other")
    with pytest.raises(UnknownModel, match="Insufficient Balance"):
        promote(other, by=tom)
    assert len(broke.posts(CHAT)) == 2
    assert account().out_of_money_since is not None, "it is empty still"
    broke.well()
    assert promote(other, by=tom).previous == model
    assert account().out_of_money_since is None


def test_a_refusal_of_a_call_from_before_says_nothing_about_an_account_that_was_paid(broke: Provider) -> None:
    model = make_serving_model()
    before = timezone.now()
    tell()
    assert provider_accounts.say_paid(model.base_url, by="tom")
    error = OutOfMoney(WORDS, status=402)
    provider_accounts.note_refusal(model, error, asked_at=before)
    assert account().out_of_money_since is None
    provider_accounts.note_refusal(model, error, asked_at=timezone.now())
    assert account().out_of_money_since is not None


def test_saying_it_of_an_account_that_is_not_empty_changes_and_records_nothing(provider: Provider) -> None:
    assert not provider_accounts.say_paid(provider.base_url, by="tom")
    assert not AuditEntry.objects.exists()


# --- the dashboard --------------------------------------------------------------------------------------


def page(client: Client) -> str:
    return client.get("/admin/").content.decode()


def test_staff_read_the_sentence_and_a_trainer_has_the_button(
    broke: Provider, alice: User, tom: User, client: Client
) -> None:
    make_serving_model()
    tell()
    path = f"/admin/stories/provideraccount/{account().pk}/paid/"
    client.force_login(alice)
    assert WORDS in page(client)
    assert path not in page(client)
    assert client.post(path).status_code == 403
    client.force_login(tom)
    assert f'action="{path}"' in page(client)
    assert client.get(path).status_code == 405
    assert "暂停的批次请按「接着写」" in client.post(path, follow=True).content.decode()
    assert WORDS not in page(client)
    broke.well()
    assert tell().state == Story.State.WRITTEN
    assert "已经可以问了" in client.post(path, follow=True).content.decode()
    assert client.get("/admin/stories/provideraccount/").status_code == 200
