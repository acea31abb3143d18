"""What a training costs, whatever its provider claims; and what staff say it really was."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from finetuning import training
from finetuning.errors import BadJob
from finetuning.models import Job
from stories.errors import OverBudget, StoryError
from stories.generation.attempts import reserve_day
from stories.models import AuditEntry, SpendDay
from tests.finetuning.factories import (
    advance,
    fresh,
    make_built_dataset,
    make_model,
    make_started_job,
    order_job,
)
from tests.provider import Fault, Provider

pytestmark = pytest.mark.django_db
JOBS = "/v1/fine_tuning/jobs"
RESULTS = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.9,0.7,,\n"


def counters() -> tuple[int, int]:
    day = SpendDay.objects.get()
    return day.spent, day.reserved


def finished(provider: Provider, tokens: Any, **kw: Any) -> Job:
    job = advance(make_started_job(**kw), 2)
    provider.jobs.succeed(job.remote_id, results=RESULTS, trained_tokens=tokens)
    return advance(job)


@pytest.mark.both_databases
def test_two_jobs_billed_above_their_reservation_stay_within_the_cap(
    provider: Provider, settings: Any
) -> None:
    dataset, model = make_built_dataset(), make_model("gpt-4o-mini", training_price=Decimal("25"))
    most = training.reservation(training.estimate_price(dataset, model, 4)) or 0
    settings.DAILY_SPEND_LIMIT_USD = Decimal(2 * most) / 10**6
    jobs = [
        advance(order_job(dataset, model=model, epochs=4, suffix=suffix, batch_size=size), 2)
        for suffix, size in (("one", 1), ("two", 2))
    ]
    for job in jobs:
        provider.jobs.succeed(job.remote_id, results=RESULTS, trained_tokens=10 * most)
        done = advance(job)
        assert (done.state, done.price, done.trained_tokens) == ("succeeded", job.reserved, 10 * most)
        assert str(10 * most) in str(done.doubt)
    assert counters() == (2 * most, 0)
    with pytest.raises(OverBudget):
        reserve_day(1, jobs[0].day)


@pytest.mark.parametrize("tokens", [-1, 2**62, 10**40, 1.5, "many", [7]])
def test_an_impossible_count_is_unknown_and_costs_the_reservation(provider: Provider, tokens: Any) -> None:
    job = finished(provider, tokens)
    assert (job.state, job.price, job.trained_tokens) == ("succeeded", job.reserved, None)
    assert str(job.doubt)
    assert counters() == (job.reserved, 0)


def test_an_honest_count_is_billed_as_it_is(provider: Provider) -> None:
    job = finished(provider, 1000)
    assert (job.price, str(job.doubt)) == (3000, "")


def test_a_provider_that_says_nothing_is_no_reason_for_doubt(provider: Provider) -> None:
    job = finished(provider, None)
    assert (job.price, str(job.doubt)) == (job.reserved, "")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_training_that_did_not_work_is_bounded_too(provider: Provider, status: str) -> None:
    job = advance(make_started_job(), 2)
    provider.jobs.advance(job.remote_id, status, trained_tokens=10**12)
    job = advance(job)
    assert (job.state, job.price) == (status, job.reserved)
    assert str(job.doubt)


def test_a_price_filled_in_while_it_trained_leaves_the_bill_to_a_person(provider: Provider) -> None:
    model = make_model("mystery", training_price=None)
    job = advance(make_started_job(model=model), 2)
    type(model).objects.update(training_price=Decimal(25))
    provider.jobs.succeed(job.remote_id, results=RESULTS, trained_tokens=4000)
    job = advance(job)
    assert (job.reserved, job.price, counters()) == (None, None, (0, 0))
    assert "4000" in str(job.doubt)


# --- staff ------------------------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_staff_corrects_what_a_job_cost(provider: Provider, tom: User) -> None:
    job = finished(provider, 1000)
    training.correct_job(job, price=6_170_000, by=tom, reason="发票 7")
    assert (fresh(job).price, counters()) == (6_170_000, (6_170_000, 0))
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.by, entry.reason) == ("price_corrected", tom, "发票 7")
    assert (entry.before, entry.after) == ({"price": 3000}, {"price": 6_170_000})
    assert (entry.subject_kind, entry.subject_id) == ("finetuning.job", str(job.pk))


def test_a_job_is_corrected_once_and_only_when_it_has_ended(provider: Provider, tom: User) -> None:
    job = advance(make_started_job(), 2)
    with pytest.raises(BadJob):
        training.correct_job(job, price=1, by=tom, reason="发票")
    provider.jobs.succeed(job.remote_id, results=RESULTS, trained_tokens=1000)
    job = advance(job)
    training.correct_job(fresh(job), price=5, by=tom, reason="发票")
    with pytest.raises(BadJob):
        training.correct_job(job, price=7, by=tom, reason="发票")
    with pytest.raises(StoryError):
        training.correct_job(fresh(job), price=-1, by=tom, reason="发票")
    assert (fresh(job).price, counters()) == (5, (5, 0))


def test_a_draft_that_was_cancelled_can_be_corrected_too(provider: Provider, tom: User) -> None:
    job = training.plan_job(make_built_dataset(), model=make_model("gpt-4o-mini", training_price=3))
    training.cancel_job(job, by=tom)
    training.correct_job(fresh(job), price=5, by=tom, reason="发票")
    assert counters() == (5, 0)


def test_the_page_of_a_job_shows_the_doubt_and_leads_to_the_correction(
    provider: Provider, client: Client, tom: User
) -> None:
    job = finished(provider, 10**12)
    address = reverse("admin:finetuning_job_correct", args=[job.pk])
    client.force_login(tom)
    page = client.get(f"/admin/finetuning/job/{job.pk}/change/").content.decode()
    assert address in page and "1000000000000" in page
    assert [row.pk for row in client.get("/admin/finetuning/job/?doubt=open").context["cl"].result_list] == [
        job.pk
    ]
    seen = client.get(address).context["form"]["seen"].value()
    pressed = {"seen": seen, "price": "6.17", "reason": "发票 7", "confirm": "yes"}
    page = client.post(address, pressed, follow=True).content.decode()
    assert "更正为 $6.1700" in page
    assert fresh(job).price == 6_170_000
    assert client.get("/admin/finetuning/job/?doubt=open").context["cl"].result_list.count() == 0


def test_an_editor_may_not_correct_a_job(provider: Provider, client: Client, alice: User) -> None:
    job = finished(provider, 1000)
    client.force_login(alice)
    address = reverse("admin:finetuning_job_correct", args=[job.pk])
    assert client.post(address, {"price": "1", "reason": "x", "confirm": "yes"}).status_code == 403


def test_decisions_over_a_jobs_money_are_written_down(provider: Provider, tom: User) -> None:
    job = advance(make_started_job())
    provider.next(Fault.SERVER_ERROR, path=JOBS)
    job = advance(job)
    training.send_again(job, by=tom)
    provider.next(Fault.SERVER_ERROR, path=JOBS)
    job = advance(job)
    training.cancel_job(job, by="root@here")
    training.abandon_job(fresh(job), by=tom)
    entries = AuditEntry.objects.order_by("pk")
    assert [(entry.action, entry.actor, entry.by) for entry in entries] == [
        ("job_sent_again", "tom", tom),
        ("job_cancelled", "root@here", None),
        ("job_abandoned", "tom", tom),
    ]
    assert entries[0].before == {"state": "create_unknown"}
    assert entries[0].after == {"state": "uploaded"}
    assert entries[2].after == {"state": "cancelled", "price": job.reserved}
