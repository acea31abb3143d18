"""A job from order to model, over real HTTP against the suite's provider."""

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from finetuning import training
from finetuning.datasets import build_dataset, full_path
from finetuning.errors import BadJob
from finetuning.exports import curves, results_csv
from finetuning.models import Dataset, Job
from finetuning.training.remote import clean
from llm import clients
from stories.errors import OverBudget, UnknownModel
from stories.models import LanguageModel, PromptStyle, SpendDay
from tests.factories import make_dataset
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
FILES, JOBS = "/v1/files", "/v1/fine_tuning/jobs"
SAMPLES = Path(__file__).parents[1] / "samples"
TODAY = (
    b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.9,0.7,,\n2,0.5,0.8,0.6,0.75\n"
)


def make_created_job(provider: Provider, **kw: Any) -> Job:
    job = advance(make_started_job(**kw), 2)
    assert job.state == Job.State.CREATED
    return job


def spent() -> tuple[int, int]:
    day = SpendDay.objects.get()
    return day.spent, day.reserved


def test_it_works(provider: Provider) -> None:
    job = make_started_job(epochs=4, batch_size=1, learning_rate_multiplier=0.2)
    assert advance(job).state == Job.State.UPLOADED
    job = advance(job)
    assert (job.state, job.remote_id, job.remote_status) == ("created", "ftjob-1", "validating_files")
    provider.jobs.advance("ftjob-1", "running")
    provider.jobs.add_event("ftjob-1", "Step 1/2", step=1, total_steps=2, train_loss=0.95)
    job = advance(job)
    assert (job.remote_status, job.total_steps, job.events.count(), job.steps.get().training_loss) == (
        "running",
        2,
        2,
        0.95,
    )
    name = provider.jobs.succeed("ftjob-1", results=TODAY, trained_tokens=4321)
    job = advance(job)
    assert (job.state, job.remote_status, job.trained_tokens) == ("succeeded", "succeeded", 4321)
    assert job.price == 4321 * 3
    tuned = job.tuned_model
    assert tuned is not None
    assert (tuned.name, tuned.parent, tuned.base) == (name, job.language_model, "gpt-4o-mini")
    assert (tuned.prompt_style, tuned.stop, tuned.base_url) == (PromptStyle.CHAT, "", provider.base_url)
    assert (tuned.input_price, tuned.output_price, tuned.training_price) == (
        Decimal("0.30"),
        Decimal("1.20"),
        Decimal("3"),
    )
    assert list(job.steps.values_list("step", "training_loss", "validation_loss")) == [
        (1, 0.9, None),
        (2, 0.5, 0.6),
    ]
    assert spent() == (4321 * 3, 0)
    assert training.advance_job(job) is False


def test_what_is_sent(provider: Provider) -> None:
    dataset = make_built_dataset()
    job = make_created_job(provider, dataset=dataset, suffix="hero", learning_rate_multiplier=0.2)
    first, second = provider.posts(FILES)
    assert first.body["purpose"] == "fine-tune"
    assert first.body["filename"] == f"ultraman-training-{dataset.sha256}.jsonl"
    assert first.body["bytes"] == full_path(dataset.training_file).read_bytes()
    assert second.body["filename"] == f"ultraman-validation-{dataset.validation_sha256}.jsonl"
    (created,) = provider.posts(JOBS)
    assert created.body == {
        "model": "gpt-4o-mini",
        "training_file": "file-1",
        "validation_file": "file-2",
        "suffix": "hero",
        "metadata": {"ultraman_job": job.key.hex},
        "method": {
            "type": "supervised",
            "supervised": {
                "hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 0.2}
            },
        },
    }


def test_a_free_model_leaves_auto_to_the_provider(provider: Provider) -> None:
    make_created_job(provider, model=make_model("base-zh"))
    sent = provider.posts(JOBS)[0].body["method"]["supervised"]["hyperparameters"]
    assert sent == {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}


def test_without_validation_rows_no_validation_file_is_sent(provider: Provider) -> None:
    for number in range(10):
        make_approved_story(text=f"第{number}篇")
    make_created_job(provider, dataset=build_dataset("a"))
    assert len(provider.posts(FILES)) == 1
    assert "validation_file" not in provider.posts(JOBS)[0].body


@pytest.mark.parametrize("base64", [False, True])
@pytest.mark.parametrize(
    ("sample", "steps", "last"),
    [
        ("step_metrics_today.csv", 4, [1857, None, None, 0.1405, None, 0.95567, 0.29874, 0.9012]),
        (
            "results_2023.csv",
            None,
            [1857, 1229945, 1857, 0.14050147435694596, 0.0, 0.9556650246305419, None, None],
        ),
    ],
)
def test_results_in_four_shapes(
    provider: Provider, base64: bool, sample: str, steps: int | None, last: list
) -> None:
    job = make_created_job(provider)
    content = (SAMPLES / sample).read_bytes()
    provider.jobs.succeed("ftjob-1", results=content, base64=base64)
    job = advance(job)
    assert (job.state, str(job.error)) == ("succeeded", "")
    lines = results_csv(job).splitlines()
    assert lines[0] == (
        "step,elapsed_tokens,elapsed_examples,training_loss,training_sequence_accuracy,"
        "training_token_accuracy,validation_loss,validation_token_accuracy"
    )
    assert len(lines) - 1 == (steps or len(content.splitlines()) - 1)
    assert lines[-1] == ",".join("" if value is None else str(value) for value in last)


def test_a_completion_dataset_makes_a_model_that_is_asked_the_notebooks_way(provider: Provider) -> None:
    make_approved()
    job = make_created_job(provider, dataset=build_dataset("a", format="completion"))
    provider.jobs.succeed("ftjob-1", results=TODAY)
    tuned = advance(job).tuned_model
    assert (tuned.prompt_style, tuned.stop, tuned.system_message) == (PromptStyle.COMPLETION, ".", "")


def test_training_further_names_its_parent_and_its_base(provider: Provider) -> None:
    parent = make_model("ft:gpt-4o-mini:org:ultraman:1", base="gpt-4o-mini", training_price=3)
    job = make_created_job(provider, model=parent, learning_rate_multiplier=0.2)
    provider.jobs.succeed("ftjob-1", results=TODAY, model="ft:gpt-4o-mini:org:ultraman:2")
    tuned = advance(job).tuned_model
    assert (tuned.parent, tuned.base) == (parent, "gpt-4o-mini")


def test_events_are_kept_once_over_many_pages(provider: Provider) -> None:
    job = make_created_job(provider)
    for number in range(1, 251):
        provider.jobs.add_event("ftjob-1", f"Step {number}", step=number, train_loss=1 / number)
    job = advance(job, 2)
    assert (job.events.count(), job.steps.count()) == (251, 250)
    assert job.events.first().message == "Step 250"
    before = len(provider.calls)
    provider.jobs.add_event("ftjob-1", "one more")
    assert advance(job).events.first().message == "one more"
    assert [call.path for call in provider.calls[before:]] == [f"{JOBS}/ftjob-1", f"{JOBS}/ftjob-1/events"]


def test_unknown_words_of_the_provider_pass_through(provider: Provider) -> None:
    job = make_created_job(provider)
    provider.jobs.advance("ftjob-1", "pausing")
    job = advance(job)
    assert (job.state, job.remote_status) == ("created", "pausing")


def test_a_failed_training_costs_nothing_and_says_why(provider: Provider) -> None:
    job = make_created_job(provider)
    provider.jobs.fail("ftjob-1", "The file has 3 lines, 10 are needed.")
    job = advance(job)
    assert (job.state, str(job.error), job.price) == ("failed", "The file has 3 lines, 10 are needed.", 0)
    assert spent() == (0, 0)


def test_refused_for_good(provider: Provider) -> None:
    provider.next(Fault.NOT_FOUND, path=JOBS, message="The model `gpt-9` does not exist")
    job = advance(make_started_job(), 2)
    assert job.state == Job.State.REFUSED
    assert "The model `gpt-9` does not exist" in str(job.error)
    assert spent() == (0, 0)
    assert job.price == 0


def test_shut_out_of_fine_tuning_names_the_other_endpoints(provider: Provider, settings: Any) -> None:
    provider.next(Fault.FORBIDDEN, path=JOBS, message="Fine-tuning is closed to your organization.")
    other = settings.LLM_ENDPOINTS["default"]
    settings.LLM_ENDPOINTS = settings.LLM_ENDPOINTS | {"nebius": other}
    job = advance(make_started_job(), 2)
    assert job.state == Job.State.REFUSED
    assert str(job.error).startswith("这个接入点不让本站的账号做微调。对方说：模型服务拒绝了（403：")
    assert "Fine-tuning is closed to your organization." in str(job.error)
    assert str(job.error).endswith("可以改用别的接入点：nebius。")


def test_shut_out_without_another_endpoint_says_how_to_set_one(provider: Provider) -> None:
    provider.next(Fault.FORBIDDEN, path=JOBS)
    assert "LLM_ENDPOINT_<名称>" in str(advance(make_started_job(), 2).error)


def test_out_of_money_is_refused(provider: Provider) -> None:
    provider.next(Fault.QUOTA, path=JOBS)
    job = advance(make_started_job(), 2)
    assert (job.state, spent()) == (Job.State.REFUSED, (0, 0))


def test_rate_limits_wait_as_asked_and_use_up_no_try(provider: Provider) -> None:
    provider.next(Fault.RATE_LIMIT, path=FILES, retry_after=40)
    provider.next(Fault.RATE_LIMIT, path=JOBS, retry_after=70)
    job = advance(make_started_job())
    assert (job.state, job.tries) == (Job.State.DRAFT, 0)
    assert timedelta(seconds=38) < job.next_poll_at - timezone.now() <= timedelta(seconds=40)
    assert training.advance_job(job) is False
    assert fresh(job).state == Job.State.DRAFT
    job = advance(job, 2)
    assert job.state == Job.State.UPLOADED
    assert timedelta(seconds=68) < job.next_poll_at - timezone.now() <= timedelta(seconds=70)
    assert advance(job).state == Job.State.CREATED
    assert len(provider.jobs.jobs) == 1


def test_an_endpoint_that_is_down_is_tried_ten_times(settings: Any, provider: Provider) -> None:
    job = make_started_job()
    dead = settings.LLM_ENDPOINTS["default"].__class__("default", "http://127.0.0.1:9/v1", "none")
    settings.LLM_ENDPOINTS = {"default": dead}
    LanguageModel.objects.update(base_url=dead.base_url)
    clients.client.cache_clear()
    job = advance(job, 9)
    assert (job.state, job.tries) == (Job.State.DRAFT, 9)
    job = advance(job)
    assert job.state == Job.State.REFUSED
    assert str(job.error) == "连不上模型服务（127.0.0.1:9）。"


def test_a_look_that_fails_is_repeated(provider: Provider) -> None:
    job = make_created_job(provider)
    provider.next(Fault.SERVER_ERROR, path=JOBS, method="GET")
    job = advance(job)
    assert (job.state, "500" in str(job.error)) == (Job.State.CREATED, True)
    assert job.next_poll_at - timezone.now() <= timedelta(seconds=15)
    provider.jobs.succeed("ftjob-1", results=TODAY)
    job = advance(job)
    assert (job.state, str(job.error)) == (Job.State.SUCCEEDED, "")


def test_polling_is_slower_after_the_first_minute(provider: Provider) -> None:
    job = make_created_job(provider)
    job = advance(job)
    assert job.next_poll_at - timezone.now() <= timedelta(seconds=2)
    Job.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    job = advance(job)
    assert timedelta(seconds=13) < job.next_poll_at - timezone.now() <= timedelta(seconds=15)


def test_results_that_are_late_are_waited_for(provider: Provider) -> None:
    job = make_created_job(provider)
    provider.jobs.succeed("ftjob-1", results=TODAY)
    provider.next(Fault.SERVER_ERROR, path=FILES, method="GET")
    job = advance(job)
    assert (job.state, job.remote_status, job.tuned_model) == ("created", "succeeded", None)
    job = advance(job)
    assert (job.state, job.steps.count()) == ("succeeded", 2)


def test_results_that_never_come_do_not_hold_up_the_model(provider: Provider) -> None:
    job = make_created_job(provider)
    provider.jobs.succeed("ftjob-1", results=TODAY)
    provider.always(Fault.NOT_FOUND, path=FILES, method="GET")
    assert advance(job).state == Job.State.CREATED
    Job.objects.update(unknown_since=timezone.now() - timedelta(minutes=11))
    job = advance(job)
    assert (job.state, job.tuned_model.name) == ("succeeded", "ft:gpt-4o-mini:org:ultraman:1")
    assert str(job.error).startswith("结果文件取不到：")


def test_unreadable_results_do_not_hold_up_the_model(provider: Provider) -> None:
    job = make_created_job(provider)
    provider.jobs.succeed("ftjob-1", results=b"<html>")
    job = advance(job)
    assert (job.state, str(job.error)) == ("succeeded", "对方的结果文件读不懂：里面没有 step 一列。")


def test_succeeded_without_a_models_name_is_waited_for_then_failed(provider: Provider) -> None:
    job = make_created_job(provider)
    provider.jobs.succeed("ftjob-1", results=TODAY)
    provider.jobs.advance("ftjob-1", "succeeded", fine_tuned_model=None)
    assert advance(job).state == Job.State.CREATED
    Job.objects.update(unknown_since=timezone.now() - timedelta(minutes=11))
    job = advance(job)
    assert (job.state, job.price) == ("failed", job.reserved)
    assert str(job.error) == "对方说训练成功，却没有给出模型的名称。"


def test_success_is_one_transaction(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_created_job(provider)
    provider.jobs.succeed("ftjob-1", results=TODAY)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the database went away")

    monkeypatch.setattr("finetuning.training.states.settle_day", broken)
    with pytest.raises(RuntimeError):
        advance(job)
    job = fresh(job)
    assert (job.state, job.tuned_model) == ("created", None)
    assert not LanguageModel.objects.filter(name__startswith="ft:").exists()
    monkeypatch.undo()
    Job.objects.update(lease_until=timezone.now())
    assert advance(job).state == Job.State.SUCCEEDED
    assert spent() == (3000, 0)


def test_a_providers_odd_words_break_nothing(provider: Provider) -> None:
    """NULs, endless ids and numbers beyond any column."""
    job = make_created_job(provider)
    odd = provider.jobs.add_event("ftjob-1", "a\0b", step=1, train_loss=0.5, elapsed_tokens=10**40)
    odd["id"], odd["level"], odd["created_at"] = "x" * 500, "y" * 50, 10**30
    provider.jobs.advance("ftjob-1", "s" * 90, trained_tokens=10**40)
    job = advance(job)
    event = job.events.get(message="a�b")
    assert (len(event.remote_id), event.level) == (64, "y" * 19 + "…")
    assert (job.state, job.remote_status) == ("created", "s" * 39 + "…")
    assert (job.steps.get().training_loss, job.steps.get().elapsed_tokens) == (0.5, None)
    assert advance(job).events.count() == 2
    provider.jobs.fail("ftjob-1", "bad\0file")
    assert str(advance(job).error) == "bad�file"


@pytest.mark.parametrize(
    ("said", "kept"), [("a\ud83db", "a?b"), ("a\0", "a�"), (None, ""), (7, "7"), ("字" * 9, "字字…")]
)
def test_words_are_cleaned_for_every_database(said: object, kept: str) -> None:
    assert clean(said, most=3) == kept


# --- cancelling


def test_cancel_before_anything_was_ordered(provider: Provider) -> None:
    job = make_started_job()
    assert training.cancel_job(job, by="test").state == Job.State.CANCELLED
    assert spent() == (0, 0)
    assert training.advance_job(fresh(job)) is False
    assert provider.posts() == []


def test_cancel_at_the_provider(provider: Provider) -> None:
    job = make_created_job(provider)
    job = training.cancel_job(job, by="test")
    assert (job.state, job.cancel_requested) == ("created", True)
    job = advance(job)
    assert (job.state, job.remote_status, job.price) == ("cancelled", "cancelled", 0)
    assert spent() == (0, 0)


def test_a_training_cancelled_midway_is_billed(provider: Provider) -> None:
    job = make_created_job(provider, epochs=2)
    provider.jobs.add_event("ftjob-1", "Step 1", step=1, train_loss=0.9)
    job = advance(job)
    training.cancel_job(job, by="test")
    job = advance(job)
    assert (job.state, job.price) == ("cancelled", job.reserved)
    assert spent() == (job.reserved, 0)


def test_cancel_while_it_is_being_created(provider: Provider) -> None:
    job = advance(make_started_job())
    Job.objects.filter(pk=job.pk).update(
        state="creating", fence=9, lease_until=timezone.now() + timedelta(minutes=1)
    )
    assert training.cancel_job(job, by="test").state == Job.State.CREATING
    assert fresh(job).cancel_requested is True


def test_an_ended_job_cannot_be_cancelled(provider: Provider) -> None:
    job = make_started_job()
    training.cancel_job(job, by="test")
    with pytest.raises(BadJob, match="已经结束，不能取消"):
        training.cancel_job(job, by="test")


# --- money and orders


def test_the_price_is_tokens_times_epochs_times_rate() -> None:
    dataset = make_dataset(tokens=1000, training_rows=100)
    model = make_model(training_price=Decimal("25"))
    assert training.estimate_price(dataset, model, 4) == 100_000
    assert training.estimate_price(dataset, model, None) == 75_000
    assert training.estimate_price(dataset, make_model(training_price=0), None) == 0
    assert training.estimate_price(dataset, make_model(training_price=None), 4) is None


def test_more_than_the_estimate_is_reserved_so_that_a_bill_stays_below_it() -> None:
    assert training.reservation(100_001) == 160_002
    assert training.reservation(0) == 0
    assert training.reservation(None) is None


def test_over_the_daily_limit_nothing_is_ordered(provider: Provider, settings: Any) -> None:
    dataset = make_built_dataset()
    model = make_model("gpt-4o-mini", training_price=Decimal("25"))
    price = training.reservation(training.estimate_price(dataset, model, 4))
    settings.DAILY_SPEND_LIMIT_USD = Decimal(price - 1) / 1_000_000
    with pytest.raises(OverBudget):
        order_job(dataset, model=model, epochs=4)
    assert Job.objects.count() == 0
    settings.DAILY_SPEND_LIMIT_USD = Decimal(price) / 1_000_000
    job = order_job(dataset, model=model, epochs=4)
    assert (job.reserved, spent()) == (price, (0, price))


def test_an_unknown_price_is_refused_only_under_a_limit(provider: Provider, settings: Any) -> None:
    dataset, model = make_built_dataset(), make_model("mystery", training_price=None)
    settings.DAILY_SPEND_LIMIT_USD = Decimal(5)
    with pytest.raises(UnknownModel, match="价格未知"):
        order_job(dataset, model=model)
    assert Job.objects.count() == 0
    settings.DAILY_SPEND_LIMIT_USD = None
    assert order_job(dataset, model=model).reserved is None


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"epochs": 0}, "轮数要在 1 到 50 之间"),
        ({"epochs": 51}, "轮数要在 1 到 50 之间"),
        ({"batch_size": 257}, "批大小要在 1 到 256 之间"),
        ({"learning_rate_multiplier": 0.0}, "学习率倍数要大于 0"),
        ({"learning_rate_multiplier": float("nan")}, "学习率倍数要大于 0"),
        ({"learning_rate_multiplier": float("inf")}, "学习率倍数要大于 0"),
        ({"suffix": ""}, "后缀只能用"),
        ({"suffix": "a" * 65}, "后缀只能用"),
        ({"suffix": "奥特曼"}, "后缀只能用"),
        ({"suffix": "a:b"}, "后缀只能用"),
    ],
)
def test_bad_hyperparameters_are_refused(provider: Provider, asked: dict, sentence: str) -> None:
    with pytest.raises(BadJob, match=sentence):
        order_job(make_dataset(), model=make_model(), **asked)
    assert Job.objects.count() == 0


def test_a_model_at_another_address_is_refused(provider: Provider) -> None:
    model = make_model("elsewhere", base_url="http://other.example/v1")
    with pytest.raises(UnknownModel, match=r"http://other\.example/v1"):
        order_job(make_dataset(), model=model)


def test_a_retired_model_is_refused_and_a_retiring_one_warned_of(provider: Provider) -> None:
    today = timezone.localdate()
    dataset, asked = make_dataset(training_rows=100, validation_rows=10), training.Hyperparameters()
    with pytest.raises(BadJob, match="已停用"):
        order_job(dataset, model=make_model(shutdown_date=today))
    retiring = make_model("gpt-4o", shutdown_date=today + timedelta(days=10))
    assert training.list_warnings(dataset, retiring, asked) == [
        f"模型「gpt-4o」和由它训练出的模型将于 {today + timedelta(days=10)} 停用。"
    ]
    assert training.list_warnings(dataset, make_model(), asked) == []


def test_warnings_of_a_small_dataset_and_of_training_further(provider: Provider) -> None:
    dataset = make_dataset(training_rows=12)
    child = make_model("child", parent=make_model("parent"))
    assert len(training.list_warnings(dataset, child, training.Hyperparameters())) == 3
    asked = training.Hyperparameters(learning_rate_multiplier=0.2)
    assert len(training.list_warnings(dataset, child, asked)) == 2


def test_an_identical_order_gets_the_unfinished_job(provider: Provider) -> None:
    job = make_started_job(epochs=4)
    again = order_job(job.dataset, model=job.language_model, epochs=4, suffix="other")
    assert again.pk == job.pk
    assert order_job(job.dataset, model=job.language_model, epochs=3).pk != job.pk
    training.cancel_job(job, by="test")
    assert order_job(job.dataset, model=job.language_model, epochs=4).pk != job.pk


def test_a_changed_dataset_file_is_not_trained_on(provider: Provider) -> None:
    job = make_started_job()
    path = full_path(job.dataset.training_file)
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    try:
        job = advance(job)
    finally:
        path.write_bytes(content)
    assert job.state == Job.State.REFUSED
    assert "被改动过" in str(job.error)
    assert provider.posts() == []


def test_jobs_are_found_by_either_number(provider: Provider) -> None:
    job = make_created_job(provider)
    assert training.find_job(str(job.pk)) == training.find_job(f"#{job.pk}") == job
    assert training.find_job("ftjob-1") == job
    for missing in ("", "0", "ftjob-2", "9" * 30):
        with pytest.raises(BadJob, match="没有编号为"):
            training.find_job(missing)


def test_curves_are_thinned_but_keep_their_ends_and_validation(provider: Provider) -> None:
    job = make_created_job(provider)
    rows = "".join(f"{n},{1 / n},0.5,{0.5 if n == 1504 else ''},\n" for n in range(1, 3001))
    provider.jobs.succeed(
        "ftjob-1",
        results=b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n" + rows.encode(),
    )
    job = advance(job)
    columns = curves(job)
    assert {len(column) for column in columns.values()} == {602}
    assert (columns["step"][0], columns["step"][-1]) == (1, 3000)
    assert columns["validation_loss"][columns["step"].index(1504)] == 0.5
    assert json.dumps(columns, allow_nan=False)
    assert Dataset.objects.count() == 1
