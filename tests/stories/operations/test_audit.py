"""What was decided about money and the serving model stays written down, for those who may read it."""

import pytest
from django.contrib.auth.models import User
from django.db.models import ProtectedError
from django.test import Client

from stories.models import AuditEntry
from stories.operations import audit
from stories.runs.unknown_calls import resolve_attempt
from tests.factories import make_attempt, make_model, make_person, make_story

pytestmark = pytest.mark.django_db
LIST = "/admin/stories/auditentry/"


@pytest.fixture
def entry(alice: User) -> AuditEntry:
    return audit.record(
        AuditEntry.Action.PRICE_CORRECTED,
        make_attempt(make_story(), language_model=make_model("m"), fence=4),
        by=alice,
        before={"price": 1_000_000},
        after={"price": 20},
        reason="账单 <i>",
    )


def test_nothing_changes_or_removes_an_entry(entry: AuditEntry, alice: User) -> None:
    entry.reason = "another"
    for change in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(reason="x"),
    ):
        with pytest.raises(TypeError):
            change()
    with pytest.raises(ProtectedError):
        alice.delete()
    assert AuditEntry.objects.get().reason == "账单 <i>"


def test_staff_reads_and_nobody_writes(client: Client, entry: AuditEntry, alice: User) -> None:
    client.force_login(alice)
    page = client.get(LIST).content.decode()
    assert "更正费用" in page and "账单 &lt;i&gt;" in page and "alice" in page
    one = client.get(f"{LIST}{entry.pk}/change/").content.decode()
    assert "$1.0000" in one and "账单 &lt;i&gt;" in one
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{entry.pk}/change/", {"reason": "x"}).status_code == 403
    assert client.post(f"{LIST}{entry.pk}/delete/", {"post": "yes"}).status_code == 403


def test_an_account_of_the_staff_alone_does_not_read(client: Client, entry: AuditEntry) -> None:
    looker = make_person("looker")
    User.objects.filter(pk=looker.pk).update(is_staff=True)
    client.force_login(looker)
    assert client.get(LIST).status_code == 403


@pytest.mark.parametrize(("billed", "after"), [(True, {"state": "interrupted", "price": 9}), (False, None)])
def test_whoever_resolves_an_unknown_outcome_is_written_down(
    alice: User, billed: bool, after: dict[str, object] | None
) -> None:
    attempt = make_attempt(make_story(), state="unknown", price=9)
    resolve_attempt(attempt, billed=billed, by=alice)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.by) == ("outcome_resolved", alice)
    assert entry.before == {"state": "unknown", "price": 9}
    assert entry.after == (after or {"state": "refused", "price": 0})
