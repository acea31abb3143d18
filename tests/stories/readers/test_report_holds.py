"""Which reports hold a story at once, and that no one reader empties a shelf with them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.test import Client
from django.utils import timezone

from stories.errors import BadState
from stories.models import Reaction, Story
from stories.readers import reactions, report_holds, sharing
from stories.readers.identity import Reader, keep_stories
from stories.readers.report_holds import Claim, Ground
from stories.review import decisions
from stories.values import addresses
from tests.factories import make_approved_story, make_person, make_run, make_story

pytestmark = pytest.mark.django_db
KEYS = [f"{number:032x}" for number in range(1, 40)]


def visitor(number: int = 0, *, address: str = "203.0.113.7") -> Reader:
    return Reader(AnonymousUser(), KEYS[number], address)


def elsewhere(number: int) -> Reader:
    """A visitor with a cookie and an address of their own."""
    return visitor(number, address=f"198.51.100.{number + 1}")


def member(name: str, *, days: int, address: str = "192.0.2.1") -> Reader:
    """Who signed up so many days ago."""
    user = make_person(name)
    User.objects.filter(pk=user.pk).update(date_joined=timezone.now() - timedelta(days=days))
    return Reader(User.objects.get(pk=user.pk), "", address)


def report(story: Story, reader: Reader, cause: str = "other") -> bool:
    """Reports it; whether it is held now."""
    reactions.report(Story.objects.get(pk=story.pk), reader=reader, cause=cause)
    return is_held(story)


def is_held(story: Story) -> bool:
    return fresh(story).held_at is not None


def fresh(story: Story) -> Story:
    return Story.objects.get(pk=story.pk)


def held() -> int:
    return Story.objects.filter(held_at__isnull=False).count()


def waiting() -> int:
    return Story.objects.reported().count()


# --- the rule -------------------------------------------------------------------------------------------

CLAIM = Claim(vouched=True, grave=False, answered=False, addresses=1, sound=True, known=False)


@pytest.mark.parametrize(
    ("changes", "ground"),
    [
        ({}, None),
        ({"vouched": False}, Ground.UNVOUCHED),
        ({"vouched": False, "sound": False, "answered": True}, Ground.UNVOUCHED),
        ({"addresses": report_holds.SEVERAL - 1}, None),
        ({"addresses": report_holds.SEVERAL}, Ground.SEVERAL),
        ({"addresses": report_holds.SEVERAL, "sound": False, "answered": True}, Ground.SEVERAL),
        ({"grave": True}, Ground.GRAVE),
        ({"grave": True, "sound": False}, None),
        ({"grave": True, "answered": True}, None),
        ({"known": True}, Ground.STANDING),
        ({"known": True, "sound": False}, None),
        ({"known": True, "answered": True}, None),
        ({"known": True, "grave": True}, Ground.GRAVE),
    ],
)
def test_the_first_ground_holds(changes: dict[str, Any], ground: Ground | None) -> None:
    assert report_holds.ground(replace(CLAIM, **changes)) == ground


@pytest.mark.parametrize(
    ("upheld", "wrong", "sound"), [(0, 0, True), (0, 1, False), (2, 1, False), (3, 1, True), (5, 2, False)]
)
def test_who_was_mostly_right_is_believed(upheld: int, wrong: int, sound: bool) -> None:
    assert report_holds.is_sound(upheld=upheld, wrong=wrong) is sound


# --- the attacks of the issue ---------------------------------------------------------------------------


@pytest.mark.parametrize("cause", Reaction.Cause.values)
def test_one_cookie_does_not_empty_a_shelf(client: Client, cause: str) -> None:
    stories = [make_approved_story() for _ in range(6)]
    for story in stories:
        client.post(f"/stories/{story.pk}/report/", {"cause": cause})
    assert held() == (report_holds.HOLDS_PER_DAY if cause in report_holds.GRAVE else 0)
    assert waiting() == 6


@pytest.mark.parametrize("cause", ["illegal", "broken"])
def test_one_address_does_not_hide_twenty_stories(cause: str) -> None:
    stories = [make_approved_story() for _ in range(20)]
    for number, story in enumerate(stories):
        report(story, visitor(number), cause)
    assert (held(), waiting()) == (report_holds.HOLDS_PER_DAY if cause == "illegal" else 0, 20)


def test_many_cookies_of_one_address_are_one_reader() -> None:
    story = make_approved_story()
    for number in range(10):
        assert not report(story, visitor(number))
    for number in range(10, 20):  # one line of IPv6, whatever its lower half says
        assert not report(story, visitor(number, address=f"2001:db8:0:1::{number:x}"))
    assert report(story, visitor(20, address="2001:db8:0:2::1"))


def test_a_cookie_that_moves_from_address_to_address_holds_no_more() -> None:
    for number in range(6):
        report(make_approved_story(), visitor(0, address=f"198.51.100.{number + 1}"), "sexual")
    assert (held(), waiting()) == (report_holds.HOLDS_PER_DAY, 6)


def test_a_new_account_is_a_visitor() -> None:
    assert not report(make_approved_story(), member("new", days=0))
    assert not report(make_approved_story(), member("newer", days=6))


# --- what does hold -------------------------------------------------------------------------------------


def test_readers_of_different_addresses_hold_together() -> None:
    story = make_approved_story()
    assert [report(story, elsewhere(number), "broken") for number in range(3)] == [False, False, True]
    assert not Story.objects.library().exists()


@pytest.mark.parametrize("verdict", ["unreviewed", "rejected"])
def test_what_no_editor_vouched_for_is_held_by_anyone(verdict: str) -> None:
    story = make_story(reader_key=KEYS[9], visibility="link", verdict=verdict)
    assert report(story, visitor(), "broken")


def test_an_account_in_good_standing_holds_two_a_day() -> None:
    mulan = member("mulan", days=8)
    assert [report(make_approved_story(), mulan) for _ in range(3)] == [True, True, False]


def test_whose_reports_were_found_wrong_no_longer_holds_alone(alice: User) -> None:
    mulan = member("mulan", days=8)
    story = make_approved_story()
    report(story, mulan)
    decisions.restore(fresh(story), by=alice)
    assert not report(make_approved_story(), mulan)
    assert not report(make_approved_story(), mulan, "illegal")
    for decision in (decisions.reject, decisions.reject, decisions.reject):
        upheld = make_approved_story()
        report(upheld, mulan)
        decision(fresh(upheld), by=alice)
    assert report(make_approved_story(), mulan)


# --- an editor's answer ---------------------------------------------------------------------------------


def test_a_restored_story_is_not_held_again_for_the_same_cause(alice: User) -> None:
    story = make_approved_story()
    assert report(story, elsewhere(0), "sexual")
    decisions.restore(fresh(story), by=alice)
    assert not report(story, elsewhere(1), "sexual")
    assert report(story, elsewhere(2), "illegal")


def test_only_reports_after_the_restore_count(alice: User) -> None:
    story = make_approved_story()
    for number in range(3):
        report(story, elsewhere(number))
    decisions.restore(fresh(story), by=alice)
    assert [report(story, elsewhere(number)) for number in range(3, 6)] == [False, False, True]


def test_an_answer_is_about_the_text_it_was_given_for(alice: User) -> None:
    story = make_approved_story()
    report(story, elsewhere(0), "sexual")
    decisions.restore(fresh(story), by=alice)
    decisions.edit(fresh(story), by=alice, text="另一个故事。")
    assert report(story, elsewhere(1), "sexual")


def test_an_editor_who_kept_a_shared_story_vouches_for_it(alice: User) -> None:
    story = make_story(reader_key=KEYS[9], visibility="link")
    assert report(story, elsewhere(0))
    decisions.restore(fresh(story), by=alice)
    assert not report(story, elsewhere(1))
    decisions.undo(fresh(story), by=alice)
    assert is_held(story)


# --- a report that holds nothing waits for an editor ----------------------------------------------------


def test_a_report_that_holds_nothing_is_dismissed(alice: User) -> None:
    story = make_approved_story(run=make_run())
    report(story, visitor())
    assert (waiting(), list(Story.objects.library())) == (1, [story])
    review = decisions.restore(fresh(story), by=alice)
    assert Reaction.objects.get().settled_by == review
    assert (waiting(), fresh(story).verdict, is_held(story)) == (0, "approved", False)
    with pytest.raises(BadState, match="没有等着处理的举报"):
        decisions.restore(fresh(story), by=alice)
    decisions.undo(fresh(story), by=alice)
    assert (waiting(), is_held(story), list(Story.objects.library())) == (1, False, [story])


def test_a_report_that_held_nothing_and_was_right_takes_the_story_off(alice: User) -> None:
    story = make_approved_story(reader_key=KEYS[9])
    report(story, visitor())
    decisions.reject(fresh(story), by=alice)
    row = fresh(story)
    assert (waiting(), row.verdict, row.visibility, is_held(story)) == (0, "rejected", "private", True)
    with pytest.raises(BadState, match="不能分享"):
        sharing.share(row, reader=visitor(9))
    decisions.undo(row, by=alice)
    assert (waiting(), is_held(story), fresh(story).visibility) == (1, False, "library")


def test_a_report_on_a_rejected_story_is_decided_too(alice: User) -> None:
    story = make_story(reader_key=KEYS[9], visibility="link", verdict="rejected")
    report(story, visitor())
    decisions.reject(fresh(story), by=alice)
    assert (waiting(), is_held(story)) == (0, True)


def test_a_report_that_comes_after_the_decision_keeps_its_hold_when_that_is_undone(alice: User) -> None:
    story = make_approved_story()
    report(story, visitor())
    decisions.restore(fresh(story), by=alice)
    report(story, elsewhere(1), "illegal")
    decisions.undo(fresh(story), by=alice)
    assert (is_held(story), Reaction.objects.open_reports().count()) == (True, 2)


def test_a_report_while_an_editor_reads_is_not_decided_over_though_it_holds_nothing(alice: User) -> None:
    story = make_approved_story()
    report(story, visitor(0))
    seen = fresh(story)
    report(story, visitor(1))
    for decide in (decisions.restore, decisions.reject):
        with pytest.raises(BadState, match="刚刚被别人改动过"):
            decide(seen, by=alice)
    assert Reaction.objects.open_reports().count() == 2


def test_bulk_leaves_a_story_with_an_open_report_alone(alice: User) -> None:
    story = make_approved_story(run=make_run())
    report(story, visitor())
    Story.objects.filter(pk=story.pk).update(verdict="unreviewed", visibility="private")
    assert decisions.approve_all(Story.objects.all(), by=alice) == 0
    assert not Story.objects.reviewable().exists()


# --- what is kept of the address ------------------------------------------------------------------------


def test_the_address_is_kept_as_a_keyed_hash_until_the_decision(alice: User, settings: Any) -> None:
    story = make_approved_story()
    report(story, visitor())
    kept = Reaction.objects.get().address_hash
    assert (kept, "203.0.113.7" in kept) == (addresses.hash_address("203.0.113.7"), False)
    settings.SECRET_KEY = "another"
    assert addresses.hash_address("203.0.113.7") != kept
    decisions.restore(fresh(story), by=alice)
    assert Reaction.objects.get().address_hash == ""


def test_an_address_is_forgotten_after_thirty_days(time_machine: Any) -> None:
    story = make_approved_story()
    for number in range(2):
        report(story, elsewhere(number))
    time_machine.move_to(timezone.now() + timedelta(days=31))
    assert reactions.forget_old_addresses() == 2
    assert not report(story, elsewhere(2))
    assert (waiting(), Reaction.objects.open_reports().count()) == (1, 3)


def test_signing_in_drops_no_report(alice: User) -> None:
    """Who reported a story with an account, and again without: both reports reach the editors."""
    story, user = make_approved_story(), make_person("mulan")
    report(story, Reader(user, "", "192.0.2.1"))
    decisions.restore(fresh(story), by=alice)
    assert report(story, visitor(), "illegal")
    keep_stories(KEYS[0], user=user)
    assert (waiting(), Reaction.objects.open_reports().count()) == (1, 1)


# --- at the same time -----------------------------------------------------------------------------------


def report_at_once(pairs: list[tuple[Story, Reader]], cause: str) -> None:
    def one(pair: tuple[Story, Reader]) -> None:
        try:
            report(*pair, cause)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(pairs)) as pool:
        list(pool.map(one, pairs))


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_readers_who_report_at_once_hold_together() -> None:
    for turn in range(5):
        story = make_approved_story()
        readers = [
            visitor(number, address=f"198.51.{turn}.{number}") for number in range(report_holds.SEVERAL)
        ]
        report_at_once([(story, reader) for reader in readers], "broken")
        assert (is_held(story), story.reactions.count()) == (True, report_holds.SEVERAL)


def overlap(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Two readers, the second and the third, count before either has committed, if they can; whether it is held."""
    story = make_approved_story()
    report(story, elsewhere(0), "broken")

    def then_wait(act: Callable[..., Any]) -> Callable[..., Any]:
        both = threading.Barrier(2)

        def act_and_wait(*arguments: Any, **values: Any) -> Any:
            found = act(*arguments, **values)
            with suppress(threading.BrokenBarrierError):
                both.wait(timeout=1)
            return found

        return act_and_wait

    monkeypatch.setattr(reactions, "_make", then_wait(reactions._make))
    monkeypatch.setattr(report_holds, "holds", then_wait(report_holds.holds))
    report_at_once([(story, elsewhere(1)), (story, elsewhere(2))], "broken")
    return is_held(story)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_the_last_of_two_at_once_counts_both(monkeypatch: pytest.MonkeyPatch) -> None:
    assert overlap(monkeypatch)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_without_the_lock_neither_would_see_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    queryset = type(Story.objects.all())
    monkeypatch.setattr(queryset, "select_for_update", lambda self, **_: self)
    # On SQLite the transaction itself is the lock: there is one writer.
    assert overlap(monkeypatch) is (connection.vendor == "sqlite")


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_one_address_holds_no_more_by_reporting_at_once() -> None:
    report_at_once([(make_approved_story(), visitor(number)) for number in range(8)], "illegal")
    assert (held(), waiting()) == (report_holds.HOLDS_PER_DAY, 8)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_without_the_count_it_would_hold_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_holds, "_count_hold", lambda reader: True)
    report_at_once([(make_approved_story(), visitor(number)) for number in range(8)], "illegal")
    assert held() == 8
