"""The trainers' pages, as a trainer, an editor and a stranger meet them."""

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from finetuning.datasets import full_path
from finetuning.models import Dataset, Job
from stories.models import AuditEntry
from stories.promotion import promote
from tests.factories import make_run
from tests.finetuning.factories import (
    advance,
    fresh,
    make_approved,
    make_approved_story,
    make_built_dataset,
    make_model,
    make_started_job,
    order_job,
)
from tests.provider import Fault, Provider

pytestmark = pytest.mark.django_db
RESULTS = (
    b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.9,0.7,,\n2,0.5,0.8,0.6,0.7\n"
)
BUILD, ORDER = "/admin/finetuning/dataset/add/", "/admin/finetuning/job/add/"


@pytest.fixture(autouse=True)
def _no_redis(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    enqueued: list[Any] = []
    monkeypatch.setattr("finetuning.admin.jobs.enqueue", lambda task, pk: enqueued.append(pk))
    return enqueued


@pytest.fixture
def trainer(client: Client, tom: User) -> Client:
    client.force_login(tom)
    return client


def mark_of(page: str) -> str:
    return re.search(r'name="mark" value="([^"]+)"', page)[1]


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return response.content.decode()


def pages_of(job: Job) -> list[str]:
    here = f"/admin/finetuning/job/{job.pk}"
    return [
        "/admin/finetuning/dataset/",
        BUILD,
        f"/admin/finetuning/dataset/{job.dataset.pk}/change/",
        f"/admin/finetuning/dataset/{job.dataset.pk}/download/training/",
        "/admin/finetuning/job/",
        ORDER,
        f"{here}/change/",
        f"{here}/progress/",
        f"{here}/curves/",
        f"{here}/decide/cancel/",
    ]


def test_every_page_works_for_a_trainer_and_for_no_one_else(
    provider: Provider, trainer: Client, alice: User, reader: User
) -> None:
    job = make_started_job()
    for address in pages_of(job):
        response = trainer.get(address)
        if response.streaming:
            assert b"".join(response.streaming_content)  # read to its end, the file is closed
        assert response.status_code == 200, address
    editor, stranger, anonymous = Client(), Client(), Client()
    editor.force_login(alice)
    stranger.force_login(reader)
    for address in pages_of(job):
        assert editor.get(address).status_code == 403, address
        assert stranger.get(address).status_code == 302, address
        assert anonymous.get(address).url.startswith("/admin/login/"), address
    assert editor.post(f"/admin/finetuning/job/{job.pk}/decide/cancel/").status_code == 403
    assert fresh(job).state == Job.State.DRAFT


def test_build_shows_first_and_freezes_then(trainer: Client, tom: User) -> None:
    make_approved(30)
    choices = {"name": "奥特曼", "format": "chat", "since": ""}
    page = text_of(trainer.post(BUILD, choices))
    assert Dataset.objects.count() == 0
    mark = mark_of(page)
    response = trainer.post(BUILD, choices | {"confirm": "yes", "mark": mark})
    dataset = Dataset.objects.get()
    assert response.url == reverse("admin:finetuning_dataset_change", args=[dataset.pk])
    assert (dataset.created_by, LogEntry.objects.get().object_id) == (tom, str(dataset.pk))
    assert f"训练 <strong>{dataset.training_rows}</strong> 行" in page


def test_a_second_press_builds_no_second_version(trainer: Client) -> None:
    make_approved(30)
    choices = {"name": "奥特曼", "format": "chat", "since": ""}
    confirmed = choices | {"confirm": "yes", "mark": mark_of(text_of(trainer.post(BUILD, choices)))}
    trainer.post(BUILD, confirmed)
    assert "请再看一遍" in text_of(trainer.post(BUILD, confirmed))
    assert Dataset.objects.count() == 1


def test_build_of_too_few_says_so_and_offers_no_button(trainer: Client) -> None:
    make_approved(3)
    page = text_of(trainer.post(BUILD, {"name": "a", "format": "chat", "since": ""}))
    assert "只有 3 篇已采纳的故事，至少要 10 篇。" in page
    assert 'name="confirm"' not in page


def test_a_bad_name_is_refused_in_words(trainer: Client) -> None:
    make_approved(10)
    choices = {"name": "a b", "format": "chat", "since": ""}
    confirmed = choices | {"confirm": "yes", "mark": mark_of(text_of(trainer.post(BUILD, choices)))}
    assert "数据集名称只能有" in text_of(trainer.post(BUILD, confirmed))
    assert Dataset.objects.count() == 0


def test_a_dataset_is_shown_and_downloaded_but_not_changed(trainer: Client) -> None:
    make_approved(30)
    make_approved_story(text="<script>alert(1)</script>")
    dataset = make_built_dataset()
    change = reverse("admin:finetuning_dataset_change", args=[dataset.pk])
    page = text_of(trainer.get(change))
    assert dataset.sha256 in page
    assert "<script>alert" not in page
    assert trainer.post(change).status_code == 405
    download = reverse("admin:finetuning_dataset_download", args=[dataset.pk, "training"])
    response = trainer.get(download)
    assert b"".join(response.streaming_content) == full_path(dataset.training_file).read_bytes()
    assert "attachment" in response["Content-Disposition"]
    label = trainer.get(download.replace("download/", "label/"))
    assert (label.json()["AIGC"]["Label"], label.json()["sha256"]) == ("1", dataset.sha256)
    assert trainer.get(download.replace("download/training/", "label/secrets/")).status_code == 404
    assert trainer.get(download.replace("training/", "secrets/")).status_code == 404


def order_of(dataset: Dataset, model: Any, **kw: Any) -> dict[str, Any]:
    return {"dataset": dataset.pk, "model": model.pk, "suffix": "ultraman", "epochs": 4} | kw


def test_order_names_the_price_first_and_starts_then(
    provider: Provider, trainer: Client, tom: User, _no_redis: list[Any]
) -> None:
    dataset, model = make_built_dataset(), make_model("gpt-4o-mini", training_price=3)
    order = order_of(dataset, model)
    page = text_of(trainer.post(ORDER, order))
    price = f"${dataset.tokens * 4 * 3 / 1_000_000:.4f}"
    assert f"花约 {price}，开始训练" in page
    assert Job.objects.count() == 0
    confirmed = order | {"confirm": "yes", "mark": mark_of(page)}
    response = trainer.post(ORDER, confirmed)
    job = Job.objects.get()
    assert response.url == reverse("admin:finetuning_job_change", args=[job.pk])
    assert (job.created_by, job.epochs, job.state, _no_redis) == (tom, 4, "draft", [job.pk])
    assert LogEntry.objects.get().user == tom
    assert trainer.post(ORDER, confirmed).url == response.url
    assert Job.objects.count() == 1


def test_a_price_that_changed_is_shown_again(provider: Provider, trainer: Client) -> None:
    dataset, model = make_built_dataset(), make_model("gpt-4o-mini", training_price=3)
    order = order_of(dataset, model)
    mark = mark_of(text_of(trainer.post(ORDER, order)))
    model.training_price = 30
    model.save()
    assert trainer.post(ORDER, order | {"confirm": "yes", "mark": mark}).status_code == 200
    assert trainer.post(ORDER, order | {"confirm": "yes", "mark": "x", "epochs": 9}).status_code == 200
    assert Job.objects.count() == 0


def test_over_the_limit_is_a_sentence(provider: Provider, trainer: Client, settings: Any) -> None:
    settings.DAILY_SPEND_LIMIT_USD = Decimal("0.001")
    order = order_of(make_built_dataset(), make_model("gpt-4o-mini", training_price=3))
    page = text_of(trainer.post(ORDER, order))
    assert "上限 $0.0010" in page
    page = text_of(trainer.post(ORDER, order | {"confirm": "yes", "mark": mark_of(page)}))
    assert "今天的花费会超过每日上限 $0.0010。" in page
    assert Job.objects.count() == 0


def test_an_unfinished_job_alike_is_pointed_to(provider: Provider, trainer: Client) -> None:
    job = make_started_job(epochs=4)
    page = text_of(trainer.post(ORDER, order_of(job.dataset, job.language_model)))
    assert f"同样的任务 #{job.pk} 还没有结束" in page
    assert 'name="confirm"' not in page


def test_a_retired_model_is_not_offered(provider: Provider, trainer: Client) -> None:
    make_built_dataset()
    make_model("gone", shutdown_date=timezone.localdate())
    make_model("here")
    page = text_of(trainer.get(ORDER))
    assert ">here</option>" in page
    assert ">gone</option>" not in page


def test_without_a_dataset_the_page_says_what_to_do(trainer: Client) -> None:
    assert "建一个数据集" in text_of(trainer.get(ORDER))


def test_a_job_shows_both_words_its_events_and_what_may_be_done(provider: Provider, trainer: Client) -> None:
    job = advance(make_started_job(), 2)
    provider.jobs.advance("ftjob-1", "pausing")
    provider.jobs.add_event("ftjob-1", "<b>Step</b> 1/9", step=1, total_steps=9, train_loss=0.9)
    advance(job)
    here = f"/admin/finetuning/job/{job.pk}"
    for address in (f"{here}/change/", f"{here}/progress/"):
        page = text_of(trainer.get(address))
        assert "训练中" in page
        assert "<code>pausing</code>" in page
        assert "第 1 / 9 步" in page
        assert "&lt;b&gt;Step&lt;/b&gt;" in page
        assert 'hx-trigger="every 2s"' in page
        assert f"{here}/decide/cancel/" in page
        assert f"{here}/decide/resend/" not in page
    assert trainer.get(f"{here}/curves/").json() == {
        "live": True,
        "state": "训练中",
        "curves": {
            "step": [1],
            "training_loss": [0.9],
            "validation_loss": [None],
            "training_token_accuracy": [None],
            "validation_token_accuracy": [None],
        },
        "table": [["1", "0.9000", "", "", ""]],
    }


def test_a_finished_job_shows_its_bill_and_leads_to_promotion(provider: Provider, trainer: Client) -> None:
    job = advance(make_started_job(), 2)
    provider.jobs.succeed("ftjob-1", results=RESULTS, trained_tokens=1000)
    job = advance(job)
    here = f"/admin/finetuning/job/{job.pk}"
    promotion = reverse("admin:stories_languagemodel_promote", args=[job.tuned_model.pk])
    page = text_of(trainer.get(f"{here}/change/"))
    assert "实际 <strong>$0.0030</strong>" in page
    assert promotion in page
    assert "hx-get" not in page
    assert trainer.get(f"{here}/curves/").json()["live"] is False
    content = trainer.get(f"{here}/results/").content.decode()
    assert content.splitlines()[2] == "2,,,0.5,,0.8,0.6,0.7"
    promote(job.tuned_model, by="test")
    assert promotion not in text_of(trainer.get(f"{here}/change/"))


def test_results_that_are_not_there_yet_are_a_sentence(provider: Provider, trainer: Client) -> None:
    job = make_started_job()
    page = trainer.get(f"/admin/finetuning/job/{job.pk}/results/", follow=True)
    assert f"任务 #{job.pk} 还没有训练结果" in text_of(page)


def test_decisions_need_a_post(provider: Provider, trainer: Client) -> None:
    job = make_started_job()
    cancel = f"/admin/finetuning/job/{job.pk}/decide/cancel/"
    assert "不花钱" in text_of(trainer.get(cancel))
    assert fresh(job).state == Job.State.DRAFT
    assert "已取消" in text_of(trainer.post(cancel, follow=True))
    assert fresh(job).state == Job.State.CANCELLED
    assert "已经结束，不能取消" in text_of(trainer.post(cancel, follow=True))


def test_a_job_in_doubt_can_be_looked_for_sent_again_and_given_up(
    provider: Provider, trainer: Client
) -> None:
    job = advance(make_started_job())
    provider.next(Fault.SERVER_ERROR, path="/v1/fine_tuning/jobs")
    job = advance(job)
    here = f"/admin/finetuning/job/{job.pk}"
    page = text_of(trainer.get(f"{here}/change/"))
    for action in ("look", "resend", "abandon"):
        assert f"{here}/decide/{action}/" in page
    trainer.post(f"{here}/decide/look/")
    assert fresh(job).state == Job.State.CREATE_UNKNOWN
    trainer.post(f"{here}/decide/resend/")
    assert fresh(job).state == Job.State.UPLOADED
    assert "不能放弃" in text_of(trainer.post(f"{here}/decide/abandon/", follow=True))
    assert "不认识的操作" in text_of(trainer.get(f"{here}/decide/explode/", follow=True))


@pytest.fixture
def asking(provider: Provider) -> Job:
    """A job of whose end only a person can say."""
    job = advance(make_started_job(), 2)
    provider.jobs.succeed("ftjob-1", results=RESULTS, model="ft:x:<b>1")
    provider.jobs.advance("ftjob-1", "finalised")
    return advance(job)


def test_a_job_that_asks_stands_on_the_first_page_in_the_list_and_on_its_own(
    trainer: Client, alice: User, asking: Job
) -> None:
    here = f"/admin/finetuning/job/{asking.pk}"
    assert "个微调任务等人决定" in text_of(trainer.get("/admin/"))
    assert f"#{asking.pk}</a>" in text_of(trainer.get("/admin/finetuning/job/?asking=yes"))
    page = text_of(trainer.get(f"{here}/change/"))
    assert "对方给出了训练好的模型「ft:x:&lt;b&gt;1」，状态却是「finalised」" in page
    for action in ("succeed", "fail", "wait"):
        assert f"{here}/decide/{action}/" in page
    editor = Client()
    editor.force_login(alice)
    assert "个微调任务等人决定" not in text_of(editor.get("/admin/"))
    assert editor.post(f"{here}/decide/succeed/", {"model": "x"}).status_code == 403


def test_a_job_that_does_not_ask_offers_no_such_decision(provider: Provider, trainer: Client) -> None:
    job = advance(make_started_job(), 3)
    here = f"/admin/finetuning/job/{job.pk}"
    assert "个微调任务等人决定" not in text_of(trainer.get("/admin/"))
    assert f"#{job.pk}</a>" not in text_of(trainer.get("/admin/finetuning/job/?asking=yes"))
    assert "decide/succeed/" not in text_of(trainer.get(f"{here}/change/"))
    for action in ("succeed", "fail", "wait"):
        page = text_of(trainer.post(f"{here}/decide/{action}/", {"model": "x"}, follow=True))
        assert "现在没有要人决定的事" in page


def test_success_is_said_with_the_models_name(trainer: Client, asking: Job, tom: User) -> None:
    succeed = f"/admin/finetuning/job/{asking.pk}/decide/succeed/"
    page = text_of(trainer.get(succeed))
    assert 'name="model" value="ft:x:&lt;b&gt;1"' in page
    assert "状态却是「finalised」" in page
    assert "请写上训练出的模型" in text_of(trainer.post(succeed, {"model": " "}, follow=True))
    assert "已记为成功" in text_of(trainer.post(succeed, {"model": "ft:x:2"}, follow=True))
    job = advance(asking)
    assert (job.state, job.tuned_model.name) == ("succeeded", "ft:x:2")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.by) == ("job_decided", tom)


@pytest.mark.parametrize(("action", "state"), [("fail", "failed"), ("wait", "created")])
def test_failure_and_waiting_are_one_press(trainer: Client, asking: Job, action: str, state: str) -> None:
    decide = f"/admin/finetuning/job/{asking.pk}/decide/{action}/"
    assert 'name="model"' not in text_of(trainer.get(decide))
    trainer.post(decide)
    job = advance(asking)
    assert (job.state, job.is_asked) == (state, False)


def test_jobs_are_listed_in_as_many_queries_for_three_as_for_one(
    provider: Provider, trainer: Client, django_assert_max_num_queries: Any
) -> None:
    dataset, model = make_built_dataset(), make_model()
    order_job(dataset, model=model, epochs=1)
    with django_assert_max_num_queries(20) as first:
        trainer.get("/admin/finetuning/job/")
    for epochs in (2, 3):
        order_job(dataset, model=model, epochs=epochs)
    with django_assert_max_num_queries(len(first)):
        trainer.get("/admin/finetuning/job/")


@pytest.mark.both_databases
def test_a_run_of_fifty_digits_is_no_run(client, tom):
    run = make_run()
    make_approved_story(run=run)
    client.force_login(tom)
    form = {"name": "奥特曼", "format": "chat", "runs": [run.pk, "9" * 50]}

    page = client.post("/admin/finetuning/dataset/add/", form)

    assert page.status_code == 200
    assert "9" * 50 in page.content.decode()
    assert Dataset.objects.count() == 0
