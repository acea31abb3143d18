"""The forms of a finished story over HTTP: judge, report, share, offer; and signing up, which keeps it all."""

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from stories.models import Reaction, Story
from stories.readers.identity import COOKIE, new_key, sign_key
from stories.readers.report_holds import GRAVE
from stories.views import accounts
from tests.factories import (
    make_approved_story,
    make_offered_story,
    make_person,
    make_serving_model,
    make_story,
    make_template,
)
from tests.provider import MODERATIONS, Fault, Provider

pytestmark = pytest.mark.django_db
KEY = new_key()
COMBO = {"dynasty": "宋", "super_power": "发射激光", "story_type": "艰难"}
HTMX = {"HX-Request": "true"}
AS_JSON = {"Accept": "application/json"}
SIGN_UP = {"username": "mulan", "password1": "一身转战三千里路", "password2": "一身转战三千里路"}


@pytest.fixture
def visitor(client: Client) -> Client:
    """A visitor without an account, who has the cookie of `KEY`."""
    client.cookies[COOKIE] = sign_key(KEY)
    return client


def page_text(response: Any) -> str:
    return response.content.decode()


def fresh(story: Story) -> Story:
    return Story.objects.get(pk=story.pk)


# --- 👍, 👎, read to the end ----------------------------------------------------------------------------


def test_a_press_is_a_row_and_gives_the_cookie(client: Client) -> None:
    story = make_approved_story()
    response = client.post(f"/stories/{story.pk}/rate/", {"taste": "liked"})
    assert (response.status_code, response.url) == (302, f"/stories/{story.pk}/")  # type: ignore[attr-defined]
    assert COOKIE in response.cookies
    page = page_text(client.get(f"/stories/{story.pk}/"))
    assert re.findall(r'name="taste" value="(\w*)" aria-pressed="(\w+)"', page) == [
        ("", "true"),
        ("disliked", "false"),
    ]
    assert "1 人喜欢" in page


def test_htmx_gets_the_changed_part_alone(visitor: Client) -> None:
    story = make_story(reader_key=KEY)
    part = page_text(visitor.post(f"/stories/{story.pk}/rate/", {"taste": "liked"}, headers=HTMX))
    assert part.lstrip().startswith('<div class="said" id="reactions"')
    assert 'name="offered"' in part and "<html" not in part
    part = page_text(visitor.post(f"/stories/{story.pk}/finish/", headers=HTMX))
    assert "data-finished" in part and "data-finish=" not in part
    assert set(Reaction.objects.values_list("kind", flat=True)) == {"liked", "finished"}


def test_a_taste_that_is_none_is_refused(visitor: Client) -> None:
    story = make_approved_story()
    assert visitor.post(f"/stories/{story.pk}/rate/", {"taste": "reported"}).status_code == 400
    assert not Reaction.objects.exists()


def test_a_private_story_hears_nothing_from_strangers(client: Client) -> None:
    story = make_story(reader_key=KEY)
    for act in ("rate", "finish", "report", "share", "unshare", "offer"):
        assert client.post(f"/stories/{story.pk}/{act}/").status_code == 403
        assert client.get(f"/stories/{story.pk}/{act}/").status_code == 405
    assert not Reaction.objects.exists()


def test_staff_share_and_offer_nobody_elses_story(client: Client, alice: User) -> None:
    story = make_story(reader_key=KEY)
    client.force_login(alice)
    for act in ("share", "offer"):
        assert client.post(f"/stories/{story.pk}/{act}/", {"offered": "yes"}).status_code == 403
    assert (fresh(story).visibility, fresh(story).offered_at) == ("private", None)


# --- reports --------------------------------------------------------------------------------------------


def test_a_grave_report_takes_the_story_away_and_thanks(client: Client) -> None:
    story = make_approved_story()
    form = {"cause": "illegal", "reason": "教人做坏事", "passage": "怪兽化作漫天星屑"}
    response = client.post(f"/stories/{story.pk}/report/", form, follow=True)
    assert response.redirect_chain == [("/", 302)]
    assert "谢谢，编辑会看你的举报；在那以前这一篇先收起来。" in page_text(response)
    assert "书架还空着" in page_text(response)
    assert client.get(f"/stories/{story.pk}/").status_code == 403
    assert client.get(f"/stories/{story.pk}.txt").status_code == 403
    assert Reaction.objects.values_list("cause", "reason", "passage").get() == tuple(form.values())


def test_a_report_that_leaves_the_story_there_says_so(client: Client, alice: User) -> None:
    story = make_approved_story()
    address = f"/stories/{story.pk}/report/"
    chosen = re.search(r'value="(\w+)" selected', page_text(client.get(f"/stories/{story.pk}/")))
    assert chosen is not None and chosen[1] not in GRAVE
    page = page_text(client.post(address, {"cause": "violent", "passage": "怪兽"}, follow=True))
    assert "谢谢，编辑会看你的举报；在那以前这一篇还在原处。" in page
    assert "你举报过这一篇，编辑会看的；在那以前它还在原处。" in page and "先收起来" not in page
    editor = Client()
    editor.force_login(alice)
    assert "1</span> <span>篇举报待处理" in page_text(editor.get("/admin/"))
    for reports, listed in (("open", 1), ("held", 0), ("any", 1)):
        page = page_text(editor.get(f"/admin/stories/story/?reports={reports}"))
        assert page.count('<article class="card">') == page.count("举报待处理</span>") == listed
    review = f"/admin/stories/story/{story.pk}"
    page = page_text(editor.get(f"{review}/change/"))
    assert ">驳回举报</button>" in page and ">拒绝</button>" in page and "读者看得到" in page
    seen = re.search(r'name="seen" value="([^"]*)"', page)
    assert seen is not None
    editor.post(f"{review}/decide/", {"action": "restore", "seen": seen[1]})
    assert not Story.objects.reported().exists()
    assert "编辑已经看过，做了决定" in page_text(client.get(f"/stories/{story.pk}/"))


@pytest.mark.parametrize(
    "wrong", [{"cause": ""}, {"cause": "dull"}, {"passage": "长" * 1001}, {"reason": "\0"}]
)
def test_a_bad_report_keeps_what_was_typed(client: Client, wrong: dict[str, str]) -> None:
    story = make_approved_story()
    form = {"cause": "violent", "reason": "太血腥", "passage": ""} | wrong
    response = client.post(f"/stories/{story.pk}/report/", form)
    assert response.status_code == 422
    page = page_text(response)
    assert "data-report open" in page and page.count('class="field-error"') == 1
    assert fresh(story).held_at is None


def test_ones_own_story_stays_readable_when_reported(visitor: Client) -> None:
    story = make_story(reader_key=KEY, visibility="link")
    response = visitor.post(f"/stories/{story.pk}/report/", {"cause": "broken"}, follow=True)
    assert "只有你和编辑部看得到" in page_text(response)
    assert "你举报过这一篇" in page_text(response)
    assert Client().get(f"/stories/{story.pk}/").status_code == 403


def test_an_editor_sees_the_reports_and_restores(client: Client, alice: User) -> None:
    story, quiet = make_approved_story(), make_approved_story()
    Client().post(f"/stories/{story.pk}/report/", {"cause": "person", "passage": "<b>他</b>"})
    client.force_login(alice)
    assert "篇举报待处理" in page_text(client.get("/admin/"))
    listed = client.get("/admin/stories/story/?reports=open").context["cl"].queryset
    assert list(listed) == [story]
    page = page_text(client.get(f"/admin/stories/story/{story.pk}/change/"))
    assert "冒犯或泄露他人" in page and "&lt;b&gt;他&lt;/b&gt;" in page
    seen = re.search(r'name="seen" value="([^"]*)"', page)
    assert seen is not None
    client.post(f"/admin/stories/story/{story.pk}/decide/", {"action": "restore", "seen": seen[1]})
    assert fresh(story).held_at is None
    assert {row.pk for row in Story.objects.library()} == {story.pk, quiet.pk}
    assert story.reviews.get().editor == alice


def test_a_report_after_the_editor_opened_the_page_is_read_first(client: Client, alice: User) -> None:
    story = make_approved_story()
    Client().post(f"/stories/{story.pk}/report/", {"cause": "sexual"})
    client.force_login(alice)
    address = f"/admin/stories/story/{story.pk}"
    seen = re.search(r'name="seen" value="([^"]*)"', page_text(client.get(f"{address}/change/")))
    assert seen is not None
    staff = Client()
    staff.force_login(make_person("bob", group="editors"))
    staff.post(f"/stories/{story.pk}/report/", {"cause": "violent"})
    page = page_text(client.post(f"{address}/decide/", {"action": "restore", "seen": seen[1]}))
    assert "别人审过或举报过这个故事" in page
    assert fresh(story).held_at is not None


# --- offers and links -----------------------------------------------------------------------------------


def test_an_offer_is_ticked_and_unticked(visitor: Client) -> None:
    story = make_story(reader_key=KEY)
    assert 'name="offered"' not in page_text(visitor.get(f"/stories/{story.pk}/"))
    visitor.post(f"/stories/{story.pk}/rate/", {"taste": "liked"})
    visitor.post(f"/stories/{story.pk}/offer/", {"offered": "yes"})
    assert fresh(story).offered_by == f"key:{KEY}"
    assert 'name="offered" value="yes" checked' in page_text(visitor.get(f"/stories/{story.pk}/"))
    visitor.post(f"/stories/{story.pk}/offer/")
    assert fresh(story).offered_at is None


def test_an_editor_cannot_approve_what_was_not_offered(client: Client, alice: User) -> None:
    private, offered = make_story(reader_key=KEY), make_offered_story(reader_key=KEY)
    client.force_login(alice)
    page = page_text(client.get(f"/admin/stories/story/{private.pk}/change/"))
    assert "读者没有投稿，所以不能采纳。" in page and 'value="approve"' not in page
    response = client.post(f"/admin/stories/story/{private.pk}/decide/", {"action": "approve", "seen": ""})
    assert "读者没有投稿" in page_text(response)
    for story in (private, offered):
        data = {"action": "approve_selected", "_selected_action": [str(story.pk)]}
        client.post("/admin/stories/story/", data)
    assert [fresh(story).verdict for story in (private, offered)] == ["unreviewed", "approved"]
    assert list(Story.objects.library()) == [offered]


def test_a_link_opens_page_and_text_and_revoking_closes_both(visitor: Client) -> None:
    story, stranger = make_story(reader_key=KEY), Client()
    addresses = [f"/stories/{story.pk}/", f"/stories/{story.pk}.txt"]
    visitor.post(f"/stories/{story.pk}/share/")
    assert [stranger.get(address).status_code for address in addresses] == [200, 200]
    assert "取消分享" not in page_text(stranger.get(addresses[0]))
    assert str(story.pk) not in page_text(stranger.get("/"))
    visitor.post(f"/stories/{story.pk}/unshare/")
    assert [stranger.get(address).status_code for address in addresses] == [403, 403]


def test_a_script_learns_what_became_of_sharing(visitor: Client) -> None:
    story = make_story(reader_key=KEY)
    answer = visitor.post(f"/stories/{story.pk}/share/", headers=AS_JSON)
    assert (answer.status_code, answer.json()) == (200, {"visibility": "link", "problem": ""})
    unwritten = make_story(reader_key=KEY, state="queued")
    answer = visitor.post(f"/stories/{unwritten.pk}/share/", headers=AS_JSON)
    assert (answer.status_code, answer.json()["visibility"]) == (409, "private")


# --- the label ------------------------------------------------------------------------------------------


def test_page_and_text_carry_the_fields_of_the_standard(client: Client) -> None:
    story = make_approved_story()
    page = page_text(client.get(f"/stories/{story.pk}/"))
    meta = re.search(r'<meta name="AIGC" content="([^"]+)">', page)
    assert meta is not None
    label = json.loads(meta[1].replace("&quot;", '"'))
    assert label == json.loads(page_text(client.get(f"/stories/{story.pk}.txt")).splitlines()[-1])
    assert label["AIGC"]["Label"] == "1"
    assert set(label["AIGC"]) == {
        *("Label", "ContentProducer", "ProduceID", "ReservedCode1"),
        *("ContentPropagator", "PropagateID", "ReservedCode2"),
    }
    assert page.count("（AI生成）") == 2  # copying, sharing


# --- accounts -------------------------------------------------------------------------------------------


def test_signing_up_keeps_the_cookies_stories_and_logging_out_leaves_none(visitor: Client) -> None:
    story = make_story(reader_key=KEY)
    response = visitor.post("/signup/", SIGN_UP)
    assert (response.status_code, response.url) == (302, "/stories/mine/")  # type: ignore[attr-defined]
    assert response.cookies[COOKIE].value == ""
    row = fresh(story)
    assert (row.owner, row.reader_key) == (User.objects.get(username="mulan"), "")
    assert [mine.pk for mine in visitor.get("/stories/mine/").context["page"].stories] == [story.pk]
    visitor.post("/logout/")
    visitor.cookies[COOKIE] = sign_key(KEY)  # even who kept the old cookie
    assert visitor.get(f"/stories/{story.pk}/").status_code == 403
    assert not visitor.get("/stories/mine/").context["page"].stories


@pytest.mark.parametrize("login", ["/login/", "/admin/login/"])
def test_logging_in_keeps_the_cookies_stories(visitor: Client, alice: User, login: str) -> None:
    story = make_story(reader_key=KEY)
    response = visitor.post(login, {"username": "alice", "password": "alice"})
    assert (response.status_code, response.cookies[COOKIE].value) == (302, "")
    assert fresh(story).owner == alice


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": ""},
        {"username": "reader"},
        {"password2": "不一样"},
        {"password1": "123", "password2": "123"},
    ],
)
def test_a_bad_sign_up_says_why_and_keeps_the_name(
    client: Client, reader: User, wrong: dict[str, str]
) -> None:
    response = client.post("/signup/", SIGN_UP | wrong)
    assert response.status_code == 422
    assert 'class="field-error"' in page_text(response)
    assert User.objects.count() == 1


def test_one_address_does_not_sign_up_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "SIGN_UPS_PER_DAY", 1)
    assert Client().post("/signup/", SIGN_UP).status_code == 302
    response = Client().post("/signup/", SIGN_UP | {"username": "second"})
    assert (response.status_code, User.objects.count()) == (429, 1)
    assert "今天注册得太多了" in page_text(response)


# --- cost and abuse -------------------------------------------------------------------------------------


@pytest.fixture
def _can_write(provider: Provider) -> None:
    make_template()
    make_serving_model("base-zh")


@pytest.mark.usefixtures("_can_write")
def test_a_flagged_combo_is_refused_before_anything_is_counted(client: Client, provider: Provider) -> None:
    provider.flagged = {"激光"}
    response = client.post("/stories/new/", COMBO)
    assert response.status_code == 422
    assert "这组配料没有通过内容审核，请换一个说法。" in page_text(response)
    assert "今天还可以写 50 篇。" in page_text(response)
    assert [call.body["input"] for call in provider.posts(MODERATIONS)] == ["宋,发射激光,艰难"]
    assert not Story.objects.exists()
    assert client.post("/stories/new/", COMBO | {"super_power": "飞行"}).status_code == 302


@pytest.mark.usefixtures("_can_write")
@pytest.mark.parametrize(("fail_open", "status", "stories"), [(False, 503, 0), (True, 302, 1)])
@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.RESET, Fault.HTML, Fault.UNAUTHORIZED])
def test_a_setting_decides_when_moderation_itself_fails(
    client: Client,
    provider: Provider,
    settings: Any,
    fault: Fault,
    fail_open: bool,
    status: int,
    stories: int,
) -> None:
    settings.MODERATION_FAIL_OPEN = fail_open
    assert client.post("/stories/new/", COMBO).status_code == 302  # the page worked before
    provider.always(fault, path=MODERATIONS)
    response = client.post("/stories/new/", COMBO)
    assert (response.status_code, Story.objects.count()) == (status, stories + 1)
    if not fail_open:
        assert "内容审核暂时没有回应，请稍后再试。" in page_text(response)


@pytest.mark.usefixtures("_can_write")
def test_an_endpoint_without_moderation_is_asked_once(client: Client, provider: Provider) -> None:
    provider.flagged = None
    for _ in range(2):
        assert client.post("/stories/new/", COMBO).status_code == 302
    assert len(provider.posts(MODERATIONS)) == 1


@pytest.mark.usefixtures("_can_write")
def test_who_has_no_story_left_causes_no_call(client: Client, provider: Provider, settings: Any) -> None:
    settings.SITE_STORIES_PER_DAY = 1
    assert client.post("/stories/new/", COMBO).status_code == 302
    assert "今天还可以写 0 篇。" in page_text(Client().get("/stories/new/"))
    response = Client().post("/stories/new/", COMBO)
    assert response.status_code == 429
    assert "本站今天的故事已经写满了，请明天再来。" in page_text(response)
    assert (Story.objects.count(), len(provider.posts(MODERATIONS))) == (1, 1)
