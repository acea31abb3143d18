"""stories/review/decisions.py: decisions, their history, and two editors at once."""

import threading

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from stories.errors import BadState, StoryError
from stories.models import Review, Story
from stories.review import decisions
from stories.review.decisions import approve, approve_all, edit, neighbours, reject, reject_all, undo
from tests.factories import make_offered_story, make_person, make_run, make_story

pytestmark = pytest.mark.django_db


def history(story):
    fields = ("decision", "verdict_before", "verdict_after", "text_before", "text_after", "reason")
    return list(story.reviews.order_by("pk").values_list(*fields))


def fresh(story):
    return Story.objects.get(pk=story.pk)


def state_of(story):
    row = fresh(story)
    return row.state, row.verdict, row.visibility, row.edited_text


def test_approving_puts_a_runs_story_into_the_library(alice):
    story = make_story(run=make_run(), text="长安月")
    approve(story, by=alice, reason="好看")
    assert state_of(story) == ("written", "approved", "library", "")
    assert history(story) == [("approved", "unreviewed", "approved", "长安月", "长安月", "好看")]
    assert fresh(story).reviewed_at is not None


def test_approving_an_offered_story_puts_it_into_the_library(alice):
    story = make_offered_story(visibility="link")
    approve(story, by=alice)
    assert state_of(story)[1:3] == ("approved", "library")


def test_a_readers_story_that_was_not_offered_is_approved_by_nobody(alice):
    story = make_story(reader_key="a" * 32, visibility="link")
    with pytest.raises(BadState, match="读者没有投稿"):
        approve(story, by=alice)
    assert approve_all(Story.objects.all(), by=alice) == 0
    with pytest.raises(IntegrityError, match="story_readers_is_offered_first"), transaction.atomic():
        Story.objects.filter(pk=story.pk).update(verdict="approved")
    assert state_of(story)[1:3] == ("unreviewed", "link")


def test_an_offer_taken_back_while_an_editor_reads_is_not_approved(alice):
    story = make_offered_story()
    Story.objects.filter(pk=story.pk).update(offered_at=None, offered_by="")
    with pytest.raises(BadState, match="刚刚被别人改动过"):
        approve(story, by=alice)
    assert fresh(story).verdict == "unreviewed"


def test_undo_does_not_bring_back_an_approval_whose_offer_is_gone(alice):
    story = make_offered_story()
    approve(story, by=alice)
    reject(story, by=alice)
    Story.objects.filter(pk=story.pk).update(offered_at=None, offered_by="")
    with pytest.raises(BadState, match="收回投稿"):
        undo(fresh(story), by=alice)
    assert fresh(story).verdict == "rejected"


def test_rejecting_takes_a_story_out_of_the_library(alice):
    story = make_story(run=make_run())
    approve(story, by=alice)
    reject(story, by=alice, reason="太短")
    assert state_of(story) == ("written", "rejected", "private", "")


@pytest.mark.parametrize("state", ["queued", "writing", "interrupted", "failed", "cancelled"])
@pytest.mark.parametrize("decide", [approve, reject])
def test_only_a_written_story_is_decided_on(alice, decide, state):
    story = make_story(state=state)
    with pytest.raises(BadState):
        decide(story, by=alice)
    assert (fresh(story).verdict, history(story)) == ("unreviewed", [])


def test_a_decision_made_twice_is_refused(alice):
    story = make_story()
    approve(story, by=alice)
    with pytest.raises(BadState, match="已经是「采纳」"):
        approve(story, by=alice)
    assert story.reviews.count() == 1


def test_an_editor_who_saw_an_older_row_changes_nothing(alice):
    story = make_story()
    seen_by_bob = fresh(story)
    reject(story, by=alice)
    with pytest.raises(BadState, match="刚刚被别人改动过"):
        approve(seen_by_bob, by=make_person("bob", group="editors"))
    assert [row[0] for row in history(story)] == ["rejected"]


def test_a_text_written_anew_is_not_approved_unseen(alice):
    story = make_story()
    Story.objects.filter(pk=story.pk).update(text="另一个故事", fence=story.fence + 1)
    with pytest.raises(BadState):
        approve(story, by=alice)
    assert fresh(story).verdict == "unreviewed"


def test_an_edit_keeps_the_models_text(alice):
    story = make_story(run=make_run(), text="旧文")
    edit(story, by=alice, text="新文", reason="错字")
    row = fresh(story)
    assert (row.text, row.edited_text, row.final_text, row.verdict) == ("旧文", "新文", "新文", "unreviewed")
    assert history(story) == [("edited", "unreviewed", "unreviewed", "旧文", "新文", "错字")]


def test_editing_back_to_the_models_text_leaves_no_edit(alice):
    story = make_story(text="旧文", edited_text="新文")
    edit(story, by=alice, text="旧文", reason="")
    assert fresh(story).edited_text == ""


@pytest.mark.parametrize("text", ["她跑了。他们赢了。", "她跑"])
def test_an_edit_makes_an_interrupted_story_written_and_undo_takes_that_back(alice, text):
    story = make_story(state="interrupted", text="她跑", run=make_run())
    edit(story, by=alice, text=text, reason="补完")
    assert fresh(story).state == "written"
    approve(story, by=alice)
    undo(story, by=alice)
    assert state_of(story)[:3] == ("written", "unreviewed", "private")
    undo(story, by=alice)
    assert state_of(story) == ("interrupted", "unreviewed", "private", "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "是空的"),
        (" \n", "是空的"),
        ("一\0二", "NUL"),
        ("字" * 20_001, "最多 20,000 个字，这里有 20,001 个"),
        ("\ud800", "代理码"),
    ],
)
def test_texts_that_cannot_be_kept_are_refused(alice, text, sentence):
    story = make_story()
    with pytest.raises(StoryError, match=sentence):
        edit(story, by=alice, text=text, reason="")
    assert (fresh(story).edited_text, history(story)) == ("", [])


def test_an_edit_that_changes_nothing_is_refused(alice):
    story = make_story(text="旧文")
    with pytest.raises(BadState, match="没有改动"):
        edit(story, by=alice, text="旧文", reason="")


@pytest.mark.parametrize("reason", ["长" * 501, "一\0二"])
def test_a_reason_that_cannot_be_kept_is_refused(alice, reason):
    story = make_story()
    with pytest.raises(StoryError, match="理由"):
        reject(story, by=alice, reason=reason)
    assert fresh(story).verdict == "unreviewed"


def test_undo_goes_back_decision_by_decision(alice):
    story = make_story(run=make_run(), text="旧文")
    edit(story, by=alice, text="新文", reason="")
    approve(story, by=alice)
    reject(story, by=alice)
    undo(story, by=alice)
    assert state_of(story) == ("written", "approved", "library", "新文")
    undo(story, by=alice)
    assert state_of(story) == ("written", "unreviewed", "private", "新文")
    undo(story, by=alice)
    assert state_of(story) == ("written", "unreviewed", "private", "")
    with pytest.raises(BadState, match="没有可以撤销"):
        undo(story, by=alice)
    assert [row[0] for row in history(story)] == ["edited", "approved", "rejected", *["undone"] * 3]


def test_bulk_decides_on_written_unreviewed_stories_alone(alice):
    run = make_run()
    waiting = [make_story(run=run) for _ in range(2)]
    rejected = make_story(run=run, verdict="rejected")
    failed = make_story(run=run, state="failed")
    assert approve_all(Story.objects.all(), by=alice, reason="整批") == 2
    assert [state_of(story)[1:3] for story in waiting] == [("approved", "library")] * 2
    assert [fresh(story).verdict for story in (rejected, failed)] == ["rejected", "unreviewed"]
    assert history(waiting[0]) == [
        ("approved", "unreviewed", "approved", waiting[0].text, waiting[0].text, "整批")
    ]
    assert Review.objects.count() == 2


def test_bulk_rejects_a_filter_that_its_own_decisions_empty(alice, monkeypatch):
    monkeypatch.setattr(decisions, "CHUNK", 2)
    for _ in range(5):
        make_story()
    assert reject_all(Story.objects.reviewable(), by=alice) == 5
    assert Review.objects.filter(decision="rejected").count() == 5


def test_bulk_needs_as_many_queries_for_one_story_as_for_thirty(alice):
    def count(stories):
        run = make_run()
        for _ in range(stories):
            make_story(run=run)
        with CaptureQueriesContext(connection) as queries:
            approve_all(run.stories.all(), by=alice)
        return len(queries)

    assert count(1) == count(30)


def race(alice):
    """Alice approves in bulk and, between her reading and her writing, Bob rejects the same stories."""
    bob = make_person("bob", group="editors")
    story = make_story(run=make_run())
    lock = decisions._lock

    def reject_meanwhile():
        reject_all(Story.objects.all(), by=bob)
        connection.close()

    thread = threading.Thread(target=reject_meanwhile)

    def lock_and_wait(keys):
        rows = lock(keys)
        if threading.current_thread() is not thread:
            thread.start()
            thread.join(timeout=1)
        return rows

    decisions._lock = lock_and_wait
    try:
        approve_all(Story.objects.all(), by=alice)
    finally:
        decisions._lock = lock
        thread.join()
    return sorted(story.reviews.values_list("decision", flat=True))


@pytest.mark.django_db(transaction=True)
def test_two_editors_in_bulk_never_both_decide_on_a_story(alice):
    assert race(alice) == ["approved"]


@pytest.mark.django_db(transaction=True)
def test_without_the_lock_both_would_decide(alice, monkeypatch):
    monkeypatch.setattr(decisions, "_decide_chunk", decisions._decide_chunk.__wrapped__)
    queryset = type(Story.objects.all())
    monkeypatch.setattr(queryset, "select_for_update", lambda self, **_: self)
    assert race(alice) == ["approved", "rejected"]


def test_neighbours_are_the_nearest_that_wait(alice):
    oldest, old, here, new = (make_story() for _ in range(4))
    make_story(state="failed")
    Story.objects.filter(pk=old.pk).update(verdict="rejected")
    assert neighbours(here, Story.objects.all()) == (new, oldest)
    assert neighbours(new, Story.objects.all()) == (None, here)


def test_undoing_a_rejection_leaves_a_text_alone_that_was_written_anew_since(alice):
    """A reported story that was cut may be rejected, and its reader may still have it written again."""
    story = make_story(state="interrupted", text="旧文", reader_key="a" * 32, held_at=timezone.now())
    reject(story, by=alice)
    Story.objects.filter(pk=story.pk).update(state="written", text="新文", length=2, end_reason="stop")
    undo(fresh(story), by=alice)
    assert state_of(story) == ("written", "unreviewed", "private", "")
    assert fresh(story).final_text == "新文"


@pytest.mark.parametrize("state", ["queued", "writing"])
def test_a_story_that_is_being_written_anew_is_not_ended_by_an_undo(alice, state):
    story = make_story(state="interrupted", text="旧文", reader_key="a" * 32, held_at=timezone.now())
    reject(story, by=alice)
    Story.objects.filter(pk=story.pk).update(state=state, text="", length=0, lease_until=timezone.now())
    undo(fresh(story), by=alice)
    assert state_of(story) == (state, "unreviewed", "private", "")
