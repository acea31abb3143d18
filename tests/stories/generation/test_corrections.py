"""What a call really cost, said by a person who saw the bill: counters follow, and a row tells of it."""

from datetime import timedelta
from decimal import Decimal
from threading import Barrier, Thread
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from stories.errors import BadState, OverBudget, StoryError
from stories.generation import attempts, corrections
from stories.generation.corrections import correct_attempt
from stories.generation.prompts import ask_for
from stories.models import Attempt, AuditEntry, Run, SpendDay, Story
from tests.factories import make_attempt, make_model, make_person, make_run, make_story

pytestmark = pytest.mark.django_db


def make_settled(state: str = Attempt.State.COMPLETE) -> Attempt:
    """A settled call of a run, as the ledger writes it: 100 + 300 tokens, or what its state makes of it."""
    model = make_model(input_price=Decimal("0.15"), output_price=Decimal("0.60"))
    story = make_story(run=make_run(language_model=model), state=Story.State.WRITING)
    attempt = attempts.open_attempt(story, ask_for(model, story.combo, template=story.template))
    attempts.settle(attempt, state=state, prompt_tokens=100, completion_tokens=300)
    return Attempt.objects.get(pk=attempt.pk)


def money() -> tuple[int, int, int, int]:
    day, run = SpendDay.objects.get(), Run.objects.get()
    return day.spent, day.reserved, run.spent, run.reserved


@pytest.mark.both_databases
@pytest.mark.parametrize("state", ["complete", "interrupted", "refused", "unknown"])
def test_every_settled_call_can_be_corrected(alice: User, state: str) -> None:
    attempt = make_settled(state)
    before = {"price": attempt.price, "state": state}
    correct_attempt(attempt, price=5_000, by=alice, reason="账单第 3 行")
    assert money() == (5_000, 0, 5_000, 0)
    assert (attempt.price, attempt.corrected_at is not None) == (5_000, True)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.by, entry.actor, entry.reason) == (
        "price_corrected",
        alice,
        "alice",
        "账单第 3 行",
    )
    assert (entry.before, entry.after) == (before, {"price": 5_000, "state": attempt.state})
    assert (entry.subject_kind, entry.subject_id) == ("stories.attempt", str(attempt.pk))


@pytest.mark.parametrize(("price", "state"), [(7, "interrupted"), (0, "refused")])
def test_a_correction_resolves_an_unknown_outcome(alice: User, price: int, state: str) -> None:
    attempt = make_settled(Attempt.State.UNKNOWN)
    correct_attempt(attempt, price=price, by=alice, reason="账单")
    assert (attempt.state, money()[0]) == (state, price)


def test_downwards_the_day_gets_its_money_back(alice: User) -> None:
    attempt = make_settled()
    correct_attempt(attempt, price=0, by=alice, reason="没有出现在账单上")
    assert money() == (0, 0, 0, 0)


def test_an_old_days_counter_moves_and_not_todays(alice: User) -> None:
    attempt = make_settled()
    yesterday = timezone.localdate() - timedelta(days=1)
    Attempt.objects.update(day=yesterday)
    SpendDay.objects.update(day=yesterday)
    correct_attempt(Attempt.objects.get(pk=attempt.pk), price=9, by=alice, reason="账单")
    assert list(SpendDay.objects.values_list("day", "spent")) == [(yesterday, 9)]


def test_a_day_without_a_counter_gets_one_and_none_falls_below_nothing(alice: User) -> None:
    story = make_story()
    attempt = make_attempt(story, price=500)
    correct_attempt(attempt, price=0, by=alice, reason="账单")
    assert SpendDay.objects.get().spent == 0
    correct_attempt(attempt, price=40, by=alice, reason="又看了一遍")
    assert SpendDay.objects.get().spent == 40


def test_above_the_cap_it_is_what_was_billed_and_the_day_is_closed(alice: User, settings: Any) -> None:
    settings.DAILY_SPEND_LIMIT_USD = Decimal(5)
    attempt = make_settled()
    attempts.reserve_day(1, attempt.day)
    correct_attempt(attempt, price=6_170_000, by=alice, reason="账单")
    assert SpendDay.objects.get().spent == 6_170_000
    with pytest.raises(OverBudget):
        attempts.reserve_day(1, attempt.day)


def test_an_open_call_cannot_be_corrected(alice: User) -> None:
    attempt = make_attempt(make_story(), state=Attempt.State.STREAMING)
    with pytest.raises(BadState):
        correct_attempt(attempt, price=1, by=alice, reason="账单")
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(("price", "reason"), [(-1, "账单"), (10**18, "账单"), (1, "  "), (1, "长" * 501)])
def test_a_price_out_of_range_or_without_a_reason_is_refused(alice: User, price: int, reason: str) -> None:
    attempt = make_settled()
    with pytest.raises(StoryError):
        correct_attempt(attempt, price=price, by=alice, reason=reason)
    assert Attempt.objects.get().price == attempt.price


def correct_together(people: int) -> int:
    """How many of those who opened the page at the same time could correct the call by a dollar."""
    barrier, passed = Barrier(people), []
    loaded = [Attempt.objects.get() for _person in range(people)]

    def press(attempt: Attempt) -> None:
        barrier.wait()
        try:
            correct_attempt(attempt, price=1_000_000, by="tom", reason="账单")
            passed.append(1)
        except BadState:
            return
        finally:
            connection.close()

    threads = [Thread(target=press, args=(attempt,)) for attempt in loaded]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(passed)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_of_ten_who_press_together_one_corrects() -> None:
    make_settled()
    assert correct_together(10) == 1
    assert money() == (1_000_000, 0, 1_000_000, 0)
    assert AuditEntry.objects.count() == 1


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_without_the_condition_each_would_move_the_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: whoever looks no further than the key counts the same difference again."""
    make_settled()
    blind = Attempt.objects.all
    monkeypatch.setattr(corrections.Attempt.objects, "filter", lambda **kw: blind().filter(pk=kw["pk"]))
    assert correct_together(10) == 10
    assert money()[0] > 1_000_000


# --- pages --------------------------------------------------------------------------------------------------


def page_of(attempt: Attempt) -> str:
    return reverse("admin:stories_attempt_correct", args=[attempt.pk])


def fields(client: Client, attempt: Attempt, **kw: Any) -> dict[str, Any]:
    page = client.get(page_of(attempt))
    assert page.status_code == 200
    seen = page.context["form"]["seen"].value()
    return {"seen": seen, "price": "0.25", "reason": "账单 <b>3</b>", "confirm": "yes"} | kw


def test_staff_corrects_on_a_page(client: Client, alice: User) -> None:
    attempt = make_settled()
    client.force_login(alice)
    listed = reverse("admin:stories_attempt_change", args=[attempt.pk])
    assert page_of(attempt) in client.get(listed).content.decode()
    pressed = fields(client, attempt)
    shown = client.post(page_of(attempt), {name: pressed[name] for name in ("seen", "price", "reason")})
    assert "费用从 <strong>$0.0002</strong> 更正为 <strong>$0.2500</strong>？" in shown.content.decode()
    assert not AuditEntry.objects.exists(), "Enter in a text field decides nothing"
    answer = client.post(page_of(attempt), pressed, follow=True)
    assert "费用从 $0.0002 更正为 $0.2500" in answer.content.decode()
    assert Attempt.objects.get().price == 250_000
    assert money() == (250_000, 0, 250_000, 0)
    page = client.get(page_of(attempt)).content.decode()
    assert "账单 &lt;b&gt;3&lt;/b&gt;" in page and "alice" in page


def test_a_page_that_is_out_of_date_corrects_nothing(client: Client, alice: User) -> None:
    attempt = make_settled()
    client.force_login(alice)
    old = fields(client, attempt)
    correct_attempt(attempt, price=attempt.price or 0, by="tom", reason="核对过")
    answer = client.post(page_of(attempt), old)
    assert "刚刚有人改过" in answer.content.decode()
    assert AuditEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("price", value) for value in ("-1", "NaN", "Infinity", "1e30", "", "abc", "0.0000001")),
        *(("reason", value) for value in ("", " ", "长" * 501)),
    ],
)
def test_odd_input_is_said_beside_its_field(client: Client, alice: User, field: str, value: str) -> None:
    attempt = make_settled()
    client.force_login(alice)
    answer = client.post(page_of(attempt), fields(client, attempt, **{field: value}))
    assert answer.status_code == 200
    assert answer.context["form"].errors.keys() == {field}
    assert not AuditEntry.objects.exists()


def test_who_may_not_control_runs_may_not_correct(client: Client) -> None:
    attempt = make_settled()
    looker = make_person("looker")
    User.objects.filter(pk=looker.pk).update(is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_attempt"))
    client.force_login(looker)
    assert client.get(page_of(attempt)).status_code == 403
    assert client.post(page_of(attempt), {"price": "1", "reason": "x", "seen": ""}).status_code == 403
    assert page_of(attempt) not in client.get("/admin/stories/attempt/").content.decode()


def test_doubtful_calls_are_found_until_someone_looked(client: Client, alice: User) -> None:
    plain, odd = make_attempt(make_story()), make_attempt(make_story(), doubt="对方报了 2^40")
    client.force_login(alice)

    def found() -> list[int]:
        page = client.get("/admin/stories/attempt/?doubt=open")
        return [row.pk for row in page.context["cl"].result_list]

    assert found() == [odd.pk]
    assert ">存疑<" in client.get("/admin/stories/attempt/").content.decode()
    page = client.get(reverse("admin:stories_attempt_change", args=[odd.pk])).content.decode()
    assert "对方报了 2^40" in page
    correct_attempt(odd, price=3, by=alice, reason="账单")
    assert found() == []
    corrected = client.get("/admin/stories/attempt/?doubt=corrected").context["cl"].result_list
    assert [row.pk for row in corrected] == [odd.pk] != [plain.pk]
