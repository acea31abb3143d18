"""What readers say of stories, and what follows: counts, reports that hold a story back, offers to the editors."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, connection, transaction

from finetuning.datasets.selection import approved_stories
from stories.errors import BadState, QuotaUsedUp
from stories.models import Reaction, Review, Story
from stories.readers import identity, reactions, sharing
from stories.readers.identity import Reader
from stories.review import decisions
from tests.factories import make_approved_story, make_offered_story, make_review, make_run, make_story

pytestmark = pytest.mark.django_db
KEY, OTHER = "a" * 32, "b" * 32


def visitor(key: str = KEY, *, address: str = "203.0.113.7") -> Reader:
    return Reader(AnonymousUser(), key, address)


def fresh(story: Story) -> Story:
    return Story.objects.get(pk=story.pk)


def rows(story: Story) -> list[tuple[str, str]]:
    return list(story.reactions.order_by("pk").values_list("who", "kind"))


def report(story: Story, *, by: Reader | None = None, **kw: Any) -> None:
    reactions.report(story, reader=by or visitor(), cause=kw.pop("cause", "illegal"), **kw)


# --- 👍 and 👎 ------------------------------------------------------------------------------------------


def test_a_reader_likes_or_dislikes_once_and_may_take_it_back() -> None:
    story = make_approved_story()
    for taste, kinds, likes in [
        ("liked", ["liked"], 1),
        ("liked", ["liked"], 1),
        ("disliked", ["disliked"], 0),
        ("liked", ["liked"], 1),
        ("", [], 0),
    ]:
        reactions.rate(story, reader=visitor(), taste=taste)
        assert ([kind for _who, kind in rows(story)], fresh(story).likes) == (kinds, likes)


def test_a_reaction_keeps_the_model_that_wrote_the_story(reader: User) -> None:
    story = make_approved_story()
    reactions.rate(story, reader=Reader(reader, "", ""), taste="liked")
    reactions.finish(story, reader=visitor())
    reactions.finish(story, reader=visitor())
    assert rows(story) == [(f"user:{reader.pk}", "liked"), (f"key:{KEY}", "finished")]
    assert {reaction.language_model for reaction in story.reactions.all()} == {story.language_model}
    assert reactions.own_reactions(story, reader=visitor()) == reactions.OwnReactions(
        "", finished=True, reported=False, settled=False
    )


def test_the_database_allows_one_taste_a_reader() -> None:
    story = make_approved_story()
    reactions.rate(story, reader=visitor(), taste="liked")
    with pytest.raises(IntegrityError), transaction.atomic():
        Reaction.objects.create(story=story, who=f"key:{KEY}", kind="disliked")


def test_nothing_is_said_of_a_story_that_is_not_there_yet() -> None:
    story = make_story(state="writing", text="从前", reader_key=KEY)
    for act in (
        lambda: reactions.rate(story, reader=visitor(), taste="liked"),
        lambda: reactions.finish(story, reader=visitor()),
        lambda: report(story),
    ):
        with pytest.raises(BadState, match="还没有写出来"):
            act()
    assert rows(story) == []


def test_one_address_cannot_stuff_the_ballot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactions, "REACTIONS_PER_DAY", 2)
    story = make_approved_story()
    for key in ("1" * 32, "2" * 32):
        reactions.rate(story, reader=visitor(key), taste="liked")
    with pytest.raises(QuotaUsedUp):
        reactions.rate(story, reader=visitor("3" * 32), taste="liked")
    reactions.rate(story, reader=visitor("1" * 32), taste="disliked")  # a change of mind is not a new one
    reactions.rate(story, reader=visitor("3" * 32, address="203.0.113.8"), taste="liked")
    assert fresh(story).likes == 2


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_likes_are_exact_under_many_readers_at_once() -> None:
    story = make_approved_story()

    def like(number: int) -> None:
        key = f"{number % 20:032d}"
        try:
            reactions.rate(story, reader=visitor(key), taste="liked" if number % 3 else "disliked")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(like, range(60)))
    liked = Reaction.objects.filter(kind="liked").count()
    assert Reaction.objects.count() == 20
    assert fresh(story).likes == liked


# --- reports --------------------------------------------------------------------------------------------


def test_a_reported_story_leaves_the_library_until_an_editor_restores_it(alice: User) -> None:
    story = make_approved_story(run=make_run())
    report(story, cause="person", reason="不像话", passage="从前")
    held = fresh(story)
    assert (held.verdict, held.visibility, held.held_at is not None) == ("approved", "library", True)
    assert not Story.objects.library().exists()
    assert not Story.objects.trainable().exists()
    assert not identity.may_read(visitor(OTHER), held)
    assert list(Story.objects.reported()) == [story]
    review = decisions.restore(held, by=alice, reason="没有问题")
    made = Reaction.objects.get()
    assert (made.cause, made.reason, made.passage, made.settled_by) == ("person", "不像话", "从前", review)
    assert (review.decision, review.verdict_before, review.verdict_after) == (
        "restored",
        "approved",
        "approved",
    )
    assert list(Story.objects.library()) == [story]
    assert not Story.objects.reported().exists()
    assert identity.may_read(visitor(OTHER), fresh(story))


def test_a_rejected_report_keeps_a_shared_story_back_for_good(alice: User) -> None:
    story = make_story(reader_key=KEY, visibility="link")
    report(story, by=visitor(OTHER))
    decisions.reject(fresh(story), by=alice, reason="血腥")
    row = fresh(story)
    assert (row.verdict, row.visibility, row.held_at is not None) == ("rejected", "link", True)
    assert not identity.may_read(visitor(OTHER), row)
    assert identity.may_read(visitor(KEY), row)
    assert not Story.objects.reported().exists()
    with pytest.raises(BadState, match="不能分享"):
        sharing.share(row, reader=visitor(KEY))


def test_a_reported_story_that_broke_off_can_be_kept_back_too(alice: User) -> None:
    story = make_story(state="interrupted", reader_key=KEY, visibility="link")
    report(story, by=visitor(OTHER))
    decisions.reject(fresh(story), by=alice)
    assert (fresh(story).state, fresh(story).verdict) == ("interrupted", "rejected")


@pytest.mark.parametrize("decide", [decisions.restore, decisions.reject])
def test_undoing_the_decision_opens_the_reports_again(alice: User, decide: Any) -> None:
    story = make_approved_story(run=make_run())
    report(story)
    decide(fresh(story), by=alice)
    decisions.undo(fresh(story), by=alice)
    assert list(Story.objects.reported()) == [story]
    assert not Story.objects.library().exists()
    decisions.restore(fresh(story), by=alice)
    assert list(Story.objects.library()) == [story]


def test_a_report_while_an_editor_reads_is_not_decided_over(alice: User) -> None:
    story = make_offered_story(reader_key=KEY)
    seen = fresh(story)
    report(story, by=visitor(OTHER))
    with pytest.raises(BadState, match="刚刚被别人改动过"):
        decisions.approve(seen, by=alice)
    assert list(Story.objects.reported()) == [story]


def test_the_same_reader_reports_once_and_an_address_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactions, "REPORTS_PER_DAY", 2)
    stories = [make_approved_story() for _ in range(3)]
    report(stories[0])
    with pytest.raises(BadState, match="已经举报过"):
        report(stories[0])
    report(stories[1])
    with pytest.raises(QuotaUsedUp):
        report(stories[2])
    assert Story.objects.filter(held_at__isnull=True).get() == stories[2]


def test_reported_stories_do_not_wait_in_the_ordinary_queue(alice: User) -> None:
    story = make_offered_story(reader_key=KEY)
    report(story, by=visitor(OTHER))
    assert not Story.objects.reviewable().exists()
    assert decisions.approve_all(Story.objects.all(), by=alice) == 0


# --- offers ---------------------------------------------------------------------------------------------


def test_only_a_liked_story_of_ones_own_is_offered() -> None:
    story = make_story(reader_key=KEY)
    with pytest.raises(BadState, match="先给它点个喜欢"):
        sharing.offer(story, reader=visitor())
    reactions.rate(story, reader=visitor(), taste="liked")
    with pytest.raises(BadState, match="只有写它的读者"):
        sharing.offer(story, reader=visitor(OTHER))
    assert not Story.objects.reviewable().exists()
    sharing.offer(story, reader=visitor())
    row = Story.objects.reviewable().get()
    assert (row.offered_by, row.origin, row.offered_at is not None) == (f"key:{KEY}", "reader", True)


def test_an_approved_offer_enters_the_library_and_leaves_it_with_the_offer(alice: User) -> None:
    story = make_story(reader_key=KEY)
    reactions.rate(story, reader=visitor(), taste="liked")
    sharing.offer(story, reader=visitor())
    decisions.approve(fresh(story), by=alice)
    assert list(Story.objects.library()) == list(Story.objects.trainable()) == [story]
    sharing.take_back(fresh(story), reader=visitor())
    row = fresh(story)
    assert (row.verdict, row.visibility, row.offered_at, row.offered_by) == (
        "unreviewed",
        "private",
        None,
        "",
    )
    assert not Story.objects.library().exists() and not Story.objects.trainable().exists()


def test_who_no_longer_likes_their_story_takes_its_offer_back() -> None:
    story = make_offered_story(reader_key=KEY)
    reactions.rate(story, reader=visitor(), taste="liked")
    reactions.rate(story, reader=visitor(OTHER), taste="disliked")
    assert fresh(story).offered_at is not None
    reactions.rate(story, reader=visitor(), taste="disliked")
    assert fresh(story).offered_at is None


@pytest.mark.both_databases
def test_reader_written_text_is_in_no_dataset_without_a_named_editors_approval_of_that_row(
    alice: User,
) -> None:
    named = make_offered_story(reader_key=KEY, verdict="approved")
    make_review(named, editor=alice)
    make_offered_story(reader_key=KEY, verdict="approved")  # approved by nobody: no review names an editor
    make_review(make_offered_story(reader_key=KEY), editor=alice, decision=Review.Decision.REJECTED)
    make_story(reader_key=KEY)
    assert list(approved_stories(runs=[])) == [named]


# --- sharing --------------------------------------------------------------------------------------------


def test_a_link_is_given_and_taken_back() -> None:
    story = make_story(reader_key=KEY)
    assert not identity.may_read(visitor(OTHER), fresh(story))
    sharing.share(story, reader=visitor())
    assert identity.may_read(visitor(OTHER), fresh(story))
    assert not Story.objects.library().exists()
    sharing.unshare(story, reader=visitor())
    assert not identity.may_read(visitor(OTHER), fresh(story))
    for act in (sharing.share, sharing.unshare):
        with pytest.raises(BadState, match="只有写它的读者"):
            act(story, reader=visitor(OTHER))


def test_what_is_in_the_library_stays_there_when_it_is_shared() -> None:
    story = make_approved_story(reader_key=KEY)
    sharing.share(story, reader=visitor())
    sharing.unshare(story, reader=visitor())
    assert fresh(story).visibility == "library"


# --- an account takes over ------------------------------------------------------------------------------


def test_an_account_takes_over_what_the_cookie_wrote_and_said(reader: User) -> None:
    mine, theirs = make_offered_story(reader_key=KEY), make_story(reader_key=OTHER)
    liked = make_approved_story()
    account = Reader(reader, "", "")
    reactions.rate(liked, reader=visitor(), taste="liked")
    reactions.rate(liked, reader=account, taste="disliked")
    reactions.rate(mine, reader=visitor(), taste="liked")
    assert identity.keep_stories(KEY, user=reader) == 1
    row = fresh(mine)
    assert (row.owner, row.reader_key, row.offered_by) == (reader, "", f"user:{reader.pk}")
    assert fresh(theirs).reader_key == OTHER
    assert not identity.owns(visitor(), row) and identity.owns(account, row)
    assert rows(liked) == [(f"user:{reader.pk}", "disliked")]
    assert rows(mine) == [(f"user:{reader.pk}", "liked")]
    assert (fresh(liked).likes, fresh(mine).likes) == (0, 1)
