"""An account that is out of money is asked nothing, until a person says that it was paid or a probe is answered.

    a call is refused: no money ──► empty since …, next probe in `PROBE_EVERY`
                                       │  every call to come ends before it is made (`AccountEmpty`)
                                       │  at `next_probe_at` one call goes on as the probe, an ordinary call
                                       ▼
    a person says so (`say_paid`), or the probe is answered ──► asked as before

Accounts are told apart by the address of their endpoint. A row changes by compare-and-set, so among all processes one
call is the probe.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from llm.errors import OutOfMoney
from sentences import sentence_of
from stories.errors import AccountEmpty
from stories.models import AuditEntry, LanguageModel, ProviderAccount
from stories.operations.audit import Actor, record

PROBE_EVERY = timedelta(minutes=12)


def let_through(model: LanguageModel, *, may_probe: bool = True) -> bool:
    """Whether a call to come is the probe of an empty account; False if the account is not known to be empty.

    Raises `AccountEmpty` where it is, and the call must not be made.
    """
    empty = ProviderAccount.objects.filter(base_url=model.base_url, out_of_money_since__isnull=False)
    account = empty.first()
    if account is None:
        return False
    now = timezone.now()
    due = empty.filter(next_probe_at=account.next_probe_at, next_probe_at__lte=now)
    if may_probe and due.update(next_probe_at=now + PROBE_EVERY):
        return True
    raise AccountEmpty(account.words)


def note_refusal(model: LanguageModel, error: Exception | None, *, asked_at: datetime) -> None:
    """Writes down that the account is empty, if that is what the error of a call says that was made at `asked_at`.

    A call from before the account was paid says nothing about it.
    """
    if not isinstance(error, OutOfMoney):
        return
    now, words = timezone.now(), sentence_of(error)
    ProviderAccount.objects.bulk_create([ProviderAccount(base_url=model.base_url)], ignore_conflicts=True)
    unpaid = Q(paid_at__isnull=True) | Q(paid_at__lte=asked_at)
    account = ProviderAccount.objects.filter(unpaid, base_url=model.base_url)
    empty = {"out_of_money_since": now, "next_probe_at": now + PROBE_EVERY, "words": words}
    if not account.filter(out_of_money_since__isnull=True).update(**empty):
        account.update(words=words)


def note_answer(model: LanguageModel) -> None:
    """The probe was answered: the account is asked as before."""
    _reopen(model.base_url)


def say_paid(base_url: str, *, by: Actor) -> bool:
    """A person says that the account was paid, or to be asked all the same; False if it was not known to be empty."""
    with transaction.atomic():
        account = ProviderAccount.objects.filter(base_url=base_url).first()
        if account is None or not _reopen(base_url):
            return False
        before = {
            "out_of_money_since": account.out_of_money_since.isoformat() if account.out_of_money_since else ""
        }
        record(
            AuditEntry.Action.ACCOUNT_PAID, account, by=by, before=before, after={"out_of_money_since": None}
        )
    return True


def _reopen(base_url: str) -> bool:
    empty = ProviderAccount.objects.filter(base_url=base_url, out_of_money_since__isnull=False)
    return bool(empty.update(out_of_money_since=None, next_probe_at=None, paid_at=timezone.now()))


def empty_accounts() -> list[ProviderAccount]:
    """Those that wait for money, the one that has waited longest first."""
    return list(
        ProviderAccount.objects.filter(out_of_money_since__isnull=False).order_by("out_of_money_since")
    )
