"""What an endpoint can do is found by asking, kept, and believed by the pages."""

import json
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from llm.capabilities import NAMES
from stories.endpoint_checks import check_endpoint, price_of, trial_model, why_not
from stories.errors import OverBudget, StoryError
from stories.models import Attempt, AuditEntry, EndpointCheck, LanguageModel
from stories.provider_accounts import note_refusal
from tests.factories import make_model, make_person, make_template
from tests.provider import CHAT, MODERATIONS, Fault, Provider

pytestmark = pytest.mark.django_db(transaction=True)
MODELS, FILES, JOBS, BATCHES = "/v1/models", "/v1/files", "/v1/fine_tuning/jobs", "/v1/batches"


@pytest.fixture
def model(provider: Provider) -> LanguageModel:
    make_template()
    return make_model("gpt-4o-mini", input_price=Decimal("0.3"), output_price=Decimal("1.2"))


def found(check: EndpointCheck) -> dict[str, str]:
    return {finding["name"]: finding["verdict"] for finding in check.findings}


def refuse(provider: Provider, path: str, status: int, body: Any, method: str = "GET") -> None:
    provider.always(Fault.REFUSAL, path=path, method=method, status=status, body=json.dumps(body))


def test_all_that_there_is_is_found_and_nothing_is_created(provider: Provider, model: LanguageModel) -> None:
    verdicts = found(check_endpoint("default", by="tom", model=model))
    assert list(verdicts) == list(NAMES)
    able = {"chat", "system_role", "stream", "stream_usage", "moderation", "files", "fine_tuning", "batches"}
    assert {name for name, verdict in verdicts.items() if verdict == "yes"} >= able
    assert {call.path for call in provider.posts()} == {CHAT}
    assert len(provider.posts(MODERATIONS)) == 1


def test_each_paid_question_has_its_row_and_costs_a_few_tokens(
    provider: Provider, model: LanguageModel
) -> None:
    most = price_of(model)
    check_endpoint("default", by="tom", model=model)
    attempts = Attempt.objects.filter(purpose=Attempt.Purpose.CHECK)
    assert [attempt.state for attempt in attempts] == ["complete", "complete"]
    assert all(call.body["max_tokens"] == 16 for call in provider.posts(CHAT))
    assert sum(attempt.price or 0 for attempt in attempts) <= (most or 0)


def test_no_row_no_question(provider: Provider, model: LanguageModel, settings: Any) -> None:
    settings.DAILY_SPEND_LIMIT_USD = Decimal("0.000001")
    with pytest.raises(OverBudget):
        check_endpoint("default", by="tom", model=model)
    assert not provider.posts(CHAT)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (404, {"detail": "Not Found"}, "no"),
        (403, {"error": {"message": "closed to you"}}, "no"),
        (501, {"error": {"message": "not implemented"}}, "no"),
        (200, {"error": "Unexpected endpoint or method."}, "no"),
        (200, "It works!", "no"),
        (200, {"data": None}, "no"),
        (500, {"error": {"message": "oops"}}, "unknown"),
        (429, {"error": {"message": "later"}}, "unknown"),
    ],
)
def test_whatever_is_answered_is_a_finding(
    provider: Provider, model: LanguageModel, status: int, body: Any, verdict: str
) -> None:
    for path in (MODELS, FILES, JOBS, BATCHES):
        refuse(provider, path, status, body)
    verdicts = found(check_endpoint("default", by="tom", model=model))
    assert {verdicts[name] for name in ("models", "files", "fine_tuning", "batches")} == {verdict}
    assert verdicts["chat"] == "yes"


def test_a_broken_connection_says_nothing(provider: Provider, model: LanguageModel) -> None:
    for path in (MODELS, FILES, JOBS, BATCHES):
        provider.always(Fault.RESET, path=path, method="GET")
    verdicts = found(check_endpoint("default", by="tom", model=model))
    assert {verdicts[name] for name in ("models", "files", "fine_tuning", "batches")} == {"unknown"}


def test_a_model_that_cannot_be_asked_is_a_finding_and_its_calls_are_settled(
    provider: Provider, model: LanguageModel
) -> None:
    provider.always(Fault.NOT_FOUND, path=CHAT)
    verdicts = found(check_endpoint("default", by="tom", model=model))
    assert (verdicts["chat"], verdicts["stream"]) == ("no", "no")
    assert set(Attempt.objects.values_list("state", "price")) == {("refused", 0)}


def test_the_dialect_is_learnt_on_the_way(provider: Provider, model: LanguageModel) -> None:
    provider.refuse = lambda call: (
        (400, {"object": "error", "message": "System role not supported", "code": 400})
        if any(message["role"] == "system" for message in call.body["messages"])
        else None
    )
    verdicts = found(check_endpoint("default", by="tom", model=model))
    assert (verdicts["system_role"], verdicts["chat"], verdicts["stream"]) == ("no", "yes", "yes")
    model.refresh_from_db()
    assert model.dialect.system == "user"
    assert len(provider.posts(CHAT)) == 3  # the streamed question already goes out in the learnt dialect


def test_dates_of_retirement_are_kept_where_there_is_none(provider: Provider, model: LanguageModel) -> None:
    dated = {"id": model.name, "object": "model", "shutdown_date": "2027-01-14"}
    odd = {"id": "other", "object": "model", "shutdown_date": 7}
    refuse(provider, MODELS, 200, {"object": "list", "data": [dated, odd]})
    check = check_endpoint("default", by="tom", model=None)
    model.refresh_from_db()
    assert str(model.shutdown_date) == "2027-01-14"
    assert found(check)["retirement"] == "yes"


def test_an_empty_account_is_asked_again(provider: Provider, model: LanguageModel) -> None:
    provider.next(Fault.QUOTA, path=CHAT)
    check_endpoint("default", by="tom", model=model)
    assert found(check_endpoint("default", by="tom", model=model))["chat"] == "yes"
    assert AuditEntry.objects.filter(action=AuditEntry.Action.ACCOUNT_PAID).exists()
    assert note_refusal(model, None, asked_at=model.created_at) is None


def test_an_alias_that_does_not_exist_is_one_sentence(provider: Provider, model: LanguageModel) -> None:
    with pytest.raises(StoryError, match=r"^没有接入点「nobody」。设置里有：default。$"):
        check_endpoint("nobody", by="tom", model=model)
    with pytest.raises(StoryError, match="没有名为「ghost」的模型"):
        trial_model("default", "ghost")
    assert not EndpointCheck.objects.exists()
    assert not provider.calls


# --- the command and the page ---------------------------------------------------------------------------


def test_the_command_says_the_price_first(
    provider: Provider, model: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("check_endpoint", "default", "--json")
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (said["model"], said["findings"]) == ("gpt-4o-mini", None)
    assert 0 < float(said["price"]) < 0.01
    assert not provider.calls
    call_command("check_endpoint", "default", "--yes", "--json")
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert len(said["findings"]) == len(NAMES)


def test_the_command_knows_no_other_alias(provider: Provider, model: LanguageModel) -> None:
    with pytest.raises(CommandError, match="没有接入点「nobody」"):
        call_command("check_endpoint", "nobody", "--yes")


def test_a_trainer_is_told_the_price_and_then_the_findings(
    client: Client, provider: Provider, model: LanguageModel
) -> None:
    client.force_login(make_person("tina", group="trainers"))
    page = "/admin/stories/endpointcheck/add/"
    priced = client.post(page, {"alias": "default"})
    confirm = f"default {priced.context['quote']['price']}"
    assert not provider.calls
    stale = client.post(page, {"alias": "default", "confirm": "default $0.0000"})
    assert stale.status_code == 200
    assert not provider.calls
    shown = client.post(page, {"alias": "default", "confirm": confirm}, follow=True)
    assert "GET /files?limit=1" in shown.content.decode()


def test_an_editor_may_not_pay_for_a_check(client: Client, provider: Provider, model: LanguageModel) -> None:
    client.force_login(make_person("eddy", group="editors"))
    assert client.post("/admin/stories/endpointcheck/add/", {"alias": "default"}).status_code == 403


def test_pages_offer_only_what_the_endpoint_can_do(
    client: Client, provider: Provider, model: LanguageModel
) -> None:
    client.force_login(make_person("tina", group="trainers"))
    run, job = "/admin/stories/run/add/", "/admin/finetuning/job/add/"
    sentences = "没有批量接口", "不能微调"
    assert sentences[0] not in client.get(run, headers={"accept-language": "zh-hans"}).content.decode()
    refuse(provider, JOBS, 404, {})
    refuse(provider, BATCHES, 404, {})
    check_endpoint("default", by="tom", model=None)
    assert set(why_not([model.base_url], "batches")) == {model.base_url}
    shown = client.get(run, headers={"accept-language": "zh-hans"})
    assert sentences[0] in shown.content.decode()
    assert shown.context["form"].fields["is_batch"].disabled
    from finetuning.admin.forms import JobOrderForm

    form = JobOrderForm({"model": model.pk})
    assert sentences[1] in str(form.errors["model"])
    assert sentences[1] in str(form.fields["model"].help_text)
    assert client.get(job).status_code == 200
