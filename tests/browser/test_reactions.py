"""What a reader does with a finished story, in a real browser: like, offer, report, share; find one; sign up."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from stories.models import Reaction, Story
from stories.readers.identity import COOKIE, new_key, sign_key
from tests.browser.test_reader import TOO_SMALL
from tests.factories import make_approved_story, make_combo, make_ingredients, make_story
from tests.sites import Web

pytestmark = pytest.mark.django_db(transaction=True)
KEY = new_key()
SHORT = "长安的灯亮了。\n怪兽走了。"


def recognise(page: Page, web: Web) -> None:
    """The browser has the cookie of `KEY`."""
    page.context.add_cookies([{"name": COOKIE, "value": sign_key(KEY), "url": web.url}])


def open_story(page: Page, web: Web, story: Story) -> None:
    page.goto(f"{web.url}/stories/{story.pk}/")


def fresh(story: Story) -> Story:
    return Story.objects.get(pk=story.pk)


def test_a_liked_story_is_offered_without_leaving_the_page(page: Page, web: Web) -> None:
    story = make_story(reader_key=KEY)
    recognise(page, web)
    open_story(page, web, story)
    page.evaluate("document.title = 'the same page'")
    like = page.get_by_role("button", name="喜欢", exact=True)
    like.click()
    expect(like).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("1 人喜欢")).to_be_visible()
    page.get_by_role("checkbox").check()
    expect(page.get_by_text("已投稿，等编辑看。")).to_be_visible()
    assert fresh(story).offered_by == f"key:{KEY}"
    page.get_by_role("button", name="不喜欢").click()
    expect(page.get_by_role("checkbox")).to_have_count(0)
    assert (fresh(story).offered_at, fresh(story).likes) == (None, 0)
    expect(page).to_have_title("the same page")


def test_what_does_not_arrive_is_said(page: Page, web: Web) -> None:
    story = make_story(reader_key=KEY)
    recognise(page, web)
    open_story(page, web, story)
    trouble = page.get_by_text("没有送到。看看网络，或者刷新页面再试。")
    expect(trouble).to_be_hidden()
    page.route("**/rate/", lambda route: route.abort())
    like = page.get_by_role("button", name="喜欢", exact=True)
    like.click()
    expect(trouble).to_be_visible()
    page.unroute("**/rate/")
    like.click()
    expect(like).to_have_attribute("aria-pressed", "true")
    expect(trouble).to_be_hidden()


def test_reaching_the_end_counts_as_reading_it(page: Page, web: Web) -> None:
    story = make_approved_story(text=SHORT)
    open_story(page, web, story)
    expect(page.get_by_text("已读完")).to_be_visible()
    assert Reaction.objects.values_list("story", "kind").get() == (story.pk, "finished")


def test_a_long_story_is_not_read_by_opening_it(page: Page, web: Web) -> None:
    open_story(page, web, make_approved_story(text="怪兽又近了一步。\n" * 300))
    page.wait_for_timeout(2500)  # a page that counted it as read would have said so by now
    expect(page.get_by_role("button", name="读完了")).to_be_visible()
    assert not Reaction.objects.exists()


def test_the_marked_passage_goes_into_the_report(page: Page, web: Web) -> None:
    story = make_approved_story(text=SHORT)
    open_story(page, web, story)
    page.locator("[data-prose] p").last.select_text()
    page.get_by_text("举报", exact=True).click()
    expect(page.locator("[name=passage]")).to_have_value("怪兽走了。")
    page.locator("[name=cause]").select_option(label="其他")
    page.locator("[name=reason]").fill("它没有走")
    page.get_by_role("button", name="提交举报").click()
    expect(page.get_by_role("alert")).to_have_text("谢谢，编辑会看你的举报；在那以前这一篇还在原处。")
    expect(page.get_by_text("你举报过这一篇")).to_be_visible()
    made = Reaction.objects.get(kind="reported")
    assert (made.cause, made.passage, made.reason) == ("other", "怪兽走了。", "它没有走")
    assert (fresh(story).held_at, Story.objects.reported().get()) == (None, story)


def test_a_link_is_copied_with_its_label_and_taken_back(new_page: Callable[..., Page], web: Web) -> None:
    story, owner, friend = make_story(reader_key=KEY), new_page(), new_page()
    owner.context.grant_permissions(["clipboard-read", "clipboard-write"])
    recognise(owner, web)
    open_story(owner, web, story)
    owner.get_by_role("button", name="分享").click()
    expect(owner.get_by_role("button", name="已复制链接")).to_be_visible()
    copied = owner.evaluate("navigator.clipboard.readText()")
    assert copied == f"唐,隐形,轻松（AI生成）\n{web.url}/stories/{story.pk}/"
    friend.goto(copied.splitlines()[1])
    expect(friend.locator("[data-prose] p").first).to_be_visible()
    expect(friend.get_by_role("button", name="取消分享")).to_be_hidden()
    owner.get_by_role("button", name="取消分享").click()
    expect(owner.get_by_role("alert")).to_have_text("已取消分享：别人不再能打开它。")
    answer = friend.reload()
    assert answer is not None and answer.status == 403
    expect(friend.get_by_role("heading", name="这一页不对你开放")).to_be_visible()


def test_copying_takes_the_label_along(page: Page, web: Web) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_story(page, web, make_approved_story(text=SHORT))
    page.get_by_role("button", name="复制", exact=True).click()
    expect(page.get_by_role("button", name="已复制")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "长安的灯亮了。\n\n怪兽走了。\n\n（AI生成）"


def test_the_library_is_searched_and_narrowed(page: Page, web: Web) -> None:
    make_ingredients()
    make_approved_story(text="长安的灯亮了。", combo=make_combo("唐", "隐形", "轻松"))
    make_approved_story(text="汴京下雪了。长安很远。", combo=make_combo("宋", "飞行", "艰难"), likes=2)
    page.goto(web.url)
    titles = page.locator(".shelf h2")
    expect(titles).to_have_text(["汴京下雪了。长安很远", "长安的灯亮了"])
    page.get_by_role("searchbox").fill("长安")
    page.keyboard.press("Enter")
    expect(titles).to_have_count(2)
    page.get_by_text("按配料找").click()
    page.locator(".by-ingredient").get_by_role("link", name="唐", exact=True).click()
    expect(titles).to_have_text(["长安的灯亮了"])
    expect(page.locator(".wished a")).to_have_count(2)
    page.get_by_role("searchbox").fill("下雪")
    page.get_by_role("button", name="找", exact=True).click()
    expect(page.get_by_role("heading", name="没有找到这样的故事")).to_be_visible()
    page.locator(".wished a").last.click()
    expect(titles).to_have_text(["汴京下雪了。长安很远"])
    page.get_by_role("link", name="最受喜欢").click()
    expect(page.get_by_role("link", name="最受喜欢")).to_have_attribute("aria-current", "true")
    page.locator(".shelf .combo a").nth(1).click()
    page.wait_for_url(re.compile(r"\?super_power="))


def test_signing_up_keeps_the_stories_and_another_browser_has_them(
    new_page: Callable[..., Page], web: Web
) -> None:
    make_story(reader_key=KEY, text=SHORT)
    here, there = new_page(), new_page(width=390)
    recognise(here, web)
    here.goto(f"{web.url}/stories/mine/")
    here.get_by_role("link", name="注册一个账号，留住它们").click()
    for name, value in (
        ("username", "mulan"),
        ("password1", "一身转战三千里路"),
        ("password2", "一身转战三千里路"),
    ):
        here.locator(f"[name={name}]").fill(value)
    here.get_by_role("button", name="注册").click()
    expect(here.locator(".shelf h2")).to_have_text(["长安的灯亮了"])
    here.get_by_role("button", name="退出").click()
    here.goto(f"{web.url}/stories/mine/")
    expect(here.get_by_role("heading", name="你还没有写过故事")).to_be_visible()
    there.goto(f"{web.url}/login/?next=/stories/mine/")
    there.locator("[name=username]").fill("mulan")
    there.locator("[name=password]").fill("一身转战三千里路")
    there.get_by_role("button", name="登录").click()
    expect(there.locator(".shelf h2")).to_have_text(["长安的灯亮了"])


def test_four_sizes_are_kept(page: Page, web: Web) -> None:
    open_story(page, web, make_approved_story(text=SHORT))
    sizes = []
    for name in ("小字", "标准字", "大字", "特大字"):
        page.get_by_role("button", name=name, exact=True).click()
        sizes.append(page.evaluate("getComputedStyle(document.querySelector('[data-prose]')).fontSize"))
    assert sizes == ["16px", "18px", "22px", "28px"]
    page.reload()
    assert page.evaluate("getComputedStyle(document.querySelector('[data-prose]')).fontSize") == "28px"


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_everything_fits_and_can_be_pressed(
    new_page: Callable[..., Page], web: Web, dark: bool
) -> None:
    make_ingredients()
    page = new_page(width=390, height=844, dark=dark)
    recognise(page, web)
    story = make_story(reader_key=KEY, visibility="link", dynasty="南" * 32, super_power="x" * 32)
    Reaction.objects.create(story=story, who=f"key:{KEY}", kind="liked")
    make_approved_story(dynasty="南" * 32, super_power="x" * 32, story_type="艰" * 32, likes=3)
    paths = [
        "/",
        f"/?q={'长' * 50}&dynasty={'南' * 32}",
        f"/stories/{story.pk}/",
        "/stories/mine/",
        "/signup/",
    ]
    for path in paths:
        page.goto(web.url + path)
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390, path
        assert page.evaluate(TOO_SMALL) == [], path


def test_without_scripts_every_button_works(browser: Any, web: Web) -> None:
    story = make_story(reader_key=KEY)
    context = browser.new_context(java_script_enabled=False, locale="zh-CN")
    page = context.new_page()
    recognise(page, web)
    open_story(page, web, story)
    page.get_by_role("button", name="喜欢", exact=True).click()
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="保存").click()
    page.get_by_role("button", name="读完了").click()
    expect(page.get_by_text("已读完")).to_be_visible()
    page.get_by_role("button", name="分享").click()
    expect(page.get_by_label("链接")).to_have_value(f"{web.url}/stories/{story.pk}/")
    row = fresh(story)
    assert (row.visibility, row.likes, row.offered_at is not None) == ("link", 1, True)
    page.get_by_role("button", name="取消分享").click()
    page.get_by_text("举报", exact=True).click()
    page.get_by_role("button", name="提交举报").click()
    expect(page.get_by_text("你举报过这一篇")).to_be_visible()
    assert (fresh(story).visibility, fresh(story).held_at is not None) == ("private", True)
    context.close()
