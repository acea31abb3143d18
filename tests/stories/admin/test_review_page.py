"""The review page: the text on the screen is the text that is decided on; 待审 is what can be decided."""

import html
import itertools
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from stories.errors import BadState
from stories.models import Review, Story
from stories.review import decisions
from tests.factories import make_offered_story, make_person, make_run, make_story

pytestmark = pytest.mark.django_db
LIST = "/admin/stories/story/"


@pytest.fixture
def editor(client: Client, alice: Any) -> Client:
    client.force_login(alice)
    return client


def fresh(story: Story) -> Story:
    return Story.objects.get(pk=story.pk)


def open_page(client: Client, story: Story) -> dict[str, str]:
    """The fields of the story's page, as a browser would send them."""
    return fields_of(client.get(reverse("admin:stories_story_change", args=[story.pk])))


def fields_of(response: Any) -> dict[str, str]:
    form = re.search(r"<form[^>]* data-review.*?</form>", response.content.decode(), re.DOTALL)
    assert form is not None
    inputs = re.findall(r'<input[^>]*name="(seen|shown|reason|edit_reason)"[^>]*>', form[0])
    assert len(inputs) == len(set(inputs)) and {"seen", "shown"} <= set(inputs)
    values = re.findall(r'name="(seen|shown)" value="([^"]*)"', form[0])
    text = re.search(r'<textarea name="text".*?>\n(.*?)</textarea>', form[0], re.DOTALL)
    return dict(values) | ({"text": html.unescape(text[1])} if text else {})


def press(client: Client, story: Story, action: str, fields: dict[str, str], **more: str) -> Any:
    address = reverse("admin:stories_story_decide", args=[story.pk])
    return client.post(address, fields | {"action": action} | more)


def decisions_on(story: Story) -> list[tuple[str, str, str, str]]:
    fields = ("decision", "text_before", "text_after", "reason")
    return list(story.reviews.order_by("pk").values_list(*fields))


# --- an edit that was not saved -------------------------------------------------------------------------------


def test_approving_approves_the_text_on_the_screen(editor: Client) -> None:
    story = make_story(run=make_run(), text="旧文\n第二段")
    fields = open_page(editor, story) | {"text": "新文\r\n第二段", "edit_reason": "错字", "reason": "好看"}
    done = editor.get(press(editor, story, "approve", fields).headers["Location"])
    assert decisions_on(story) == [
        ("edited", "旧文\n第二段", "新文\n第二段", "错字"),
        ("approved", "新文\n第二段", "新文\n第二段", "好看"),
    ]
    row = fresh(story)
    assert (row.text, row.final_text, row.visibility) == ("旧文\n第二段", "新文\n第二段", "library")
    assert str(next(iter(done.context["messages"]))).startswith("已保存编辑并采纳：")


@pytest.mark.parametrize("text", ["一\r二\n\n三 ", "\n开头空一行", "末尾空一行\n", "<b>&amp;</b>"])
def test_a_text_that_was_not_touched_is_no_edit(editor: Client, text: str) -> None:
    story = make_story(run=make_run(), text=text)
    sent = open_page(editor, story)["text"].replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    press(editor, story, "approve", open_page(editor, story) | {"text": sent})
    assert decisions_on(story) == [("approved", text, text, "")]


def test_a_reported_story_is_restored_with_the_text_on_the_screen(editor: Client) -> None:
    story = make_story(run=make_run(), text="旧文", verdict="approved", held_at=timezone.now())
    press(editor, story, "restore", open_page(editor, story) | {"text": "新文"})
    assert [row[0] for row in decisions_on(story)] == ["edited", "restored"]
    assert (fresh(story).final_text, fresh(story).held_at) == ("新文", None)


def test_both_or_neither(editor: Client) -> None:
    """Nobody may approve it, so the edit is not kept either; the page has it still."""
    story = make_story(reader_key="a" * 32, text="旧文")
    page = press(editor, story, "approve", open_page(editor, story) | {"text": "新文"})
    assert "读者没有投稿" in page.content.decode()
    assert (fresh(story).edited_text, decisions_on(story)) == ("", [])
    assert fields_of(page)["text"] == "新文"
    assert "编辑后" not in page.content.decode()


def test_without_the_transaction_the_edit_alone_would_be_kept(alice: Any) -> None:
    """The negative control of the test above."""
    story = make_story(reader_key="a" * 32, text="旧文")
    an_edit = {"text": "新文", "reason": ""}
    for edit_and, kept in ((decisions.edit_and, ""), (decisions.edit_and.__wrapped__, "新文")):
        with pytest.raises(BadState):
            edit_and(decisions.approve, fresh(story), by=alice, an_edit=an_edit, reason="")
        assert fresh(story).edited_text == kept


@pytest.mark.parametrize("text", ["", " \r\n", "一\0二", "字" * 20_001])
def test_an_edit_that_cannot_be_kept_approves_nothing(editor: Client, text: str) -> None:
    story = make_story(run=make_run(), text="旧文")
    page = press(editor, story, "approve", open_page(editor, story) | {"text": text})
    assert 'class="errorlist' in page.content.decode()
    assert (fresh(story).verdict, decisions_on(story)) == ("unreviewed", [])


@pytest.mark.parametrize("action", ["reject", "undo"])
def test_before_any_other_decision_the_editor_is_asked(editor: Client, alice: Any, action: str) -> None:
    story = make_story(run=make_run(), text="旧文")
    if action == "undo":
        decisions.approve(story, by=alice)
    count, fields = story.reviews.count(), open_page(editor, story)
    page = press(editor, story, action, fields | {"text": "新文", "reason": "不好", "edit_reason": "错字"})
    assert "正文里有没保存的编辑" in page.content.decode()
    for kept in ('value="不好"', 'value="错字"', "新文</textarea>", 'name="drop"'):
        assert kept in page.content.decode()
    assert story.reviews.count() == count
    press(editor, story, action, fields_of(page), drop="on", reason="不好")
    newest = story.reviews.order_by("-pk")[0]
    assert (newest.decision, newest.text_after) == ({"reject": "rejected"}.get(action, "undone"), "旧文")
    assert fresh(story).edited_text == ""


def test_a_page_that_is_out_of_date_keeps_what_was_typed(editor: Client) -> None:
    story = make_story(run=make_run(), text="旧文")
    fields = open_page(editor, story)
    decisions.edit(fresh(story), by=make_person("bob", group="editors"), text="鲍勃的")
    page = press(editor, story, "approve", fields | {"text": "我的", "edit_reason": "更好"})
    assert "别人审过或举报过这个故事" in page.content.decode()
    assert [row[0] for row in decisions_on(story)] == ["edited"]
    assert fields_of(page)["text"] == "我的"
    assert re.search(r'<details class="editing" open>', page.content.decode())
    press(editor, story, "approve", fields_of(page))
    assert fresh(story).final_text == "我的"


def test_an_edit_of_a_text_that_went_on_meanwhile_is_not_saved_over_it(editor: Client) -> None:
    """The reader had a cut story continued while the editor typed an end for it."""
    story = make_story(state="interrupted", text="她跑", reader_key="a" * 32)
    fields = open_page(editor, story)
    Story.objects.filter(pk=story.pk).update(text="她跑了，赢了。", state="written", end_reason="stop")
    page = press(editor, story, "edit", fields | {"text": "她跑不动了。"})
    assert "正文变了" in page.content.decode()
    assert fresh(story).final_text == "她跑了，赢了。"
    assert fields_of(page)["text"] == "她跑不动了。"


def test_a_caller_without_the_page_decides_on_the_text_that_is_kept(editor: Client) -> None:
    story = make_story(run=make_run(), text="原文", edited_text="改过")
    press(editor, story, "approve", {"seen": ""})
    assert decisions_on(story) == [("approved", "改过", "改过", "")]


def test_who_may_only_look_has_no_form(client: Client) -> None:
    guest = make_person("guest", group="editors")
    guest.groups.clear()
    guest.user_permissions.add(Permission.objects.get(codename="view_story"))
    client.force_login(guest)
    page = client.get(reverse("admin:stories_story_change", args=[make_story().pk]))
    assert (page.status_code, "data-review" in page.content.decode()) == (200, False)


# --- 待审 -----------------------------------------------------------------------------------------------------


def make_every_kind() -> list[Story]:
    """A story in every combination of state, verdict, origin, offer and report that may exist."""
    run = make_run()
    kinds = itertools.product(
        Story.State.values, ("unreviewed", "rejected", "approved"), ("run", "offered", "kept"), (False, True)
    )
    return [
        make_one(run, state, verdict, origin, held)
        for state, verdict, origin, held in kinds
        if verdict != "approved" or (state == "written" and origin != "kept")
    ]


def make_one(run: Any, state: str, verdict: str, origin: str, held: bool) -> Story:
    kw: dict[str, Any] = {"state": state, "verdict": verdict, "held_at": timezone.now() if held else None}
    if origin == "run":
        return make_story(run=run, **kw)
    return (make_offered_story if origin == "offered" else make_story)(reader_key="a" * 32, **kw)


def test_one_story_and_a_query_agree_on_what_waits() -> None:
    stories = make_every_kind()
    waiting = set(Story.objects.reviewable())
    assert {story for story in stories if fresh(story).is_reviewable} == waiting
    assert {(story.origin, story.state) for story in waiting} == {("run", "written"), ("reader", "written")}


def shown_in(client: Client, query: str) -> set[Story]:
    cl = client.get(f"{LIST}?{query}").context["cl"]
    assert cl.result_count == len(set(cl.queryset))
    return set(cl.queryset)


def walk_queue(client: Client) -> set[str]:
    """Every story that 逐篇审核 leads to, by its links."""
    address: str | None = client.get("/admin/stories/story/next/").headers["Location"]
    met: set[str] = set()
    while address:
        page = client.get(address).content.decode()
        met.add(address.split("/")[-3])
        link = re.search(r'rel="next" href="([^"]+)"', page)
        address = html.unescape(link[1]) if link else None
    return met


def test_every_count_of_what_waits_is_what_its_link_offers(editor: Client) -> None:
    stories = make_every_kind()
    run = next(story.run for story in stories if story.run)
    waiting = set(Story.objects.reviewable())
    desk = editor.get("/admin/").content.decode()
    assert f'<span class="desk-figure">{len(waiting)}</span> <span>篇待审</span>' in desk
    assert walk_queue(editor) == {str(story.pk) for story in waiting}
    assert shown_in(editor, "verdict__exact=unreviewed") == waiting
    page = editor.get(reverse("admin:stories_run_change", args=[run.pk])).content.decode()
    link = re.search(r'href="/admin/stories/story/\?([^"]+)"><span[^>]*>待审</span> (\d+)', page)
    assert link is not None
    found = shown_in(editor, html.unescape(link[1]))
    assert (len(found), found) == (int(link[2]), {story for story in waiting if story.run == run})


def test_a_badge_says_that_a_story_waits_only_where_it_does(editor: Client) -> None:
    for story in make_every_kind():
        page = editor.get(reverse("admin:stories_story_change", args=[story.pk])).content.decode()
        badges = re.search(r'<p class="badges">.*?</p>', page, re.DOTALL)
        assert badges is not None
        assert ("待审" in badges[0]) == fresh(story).is_reviewable, (story.state, story.origin, badges[0])


@pytest.mark.parametrize("verdict", ["approved", "rejected"])
def test_the_other_verdicts_are_found_as_before(editor: Client, verdict: str) -> None:
    make_every_kind()
    assert shown_in(editor, f"verdict__exact={verdict}") == set(Story.objects.filter(verdict=verdict))
    assert Review.objects.count() == 0
