"""An edit that is not saved, in a real browser: what one reads on the screen is what is decided on."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from stories.models import Review, Story
from stories.review import decisions
from tests.browser.test_enter import sign_in
from tests.factories import make_person, make_run, make_story
from tests.sites import Web

pytestmark = pytest.mark.django_db(transaction=True)
OLD, NEW = "长安的灯亮了。\n他叫李四。", "长安的灯亮了。\n他叫李思。"


@pytest.fixture
def story(db: None) -> Story:
    return make_story(run=make_run(), text=OLD)


@pytest.fixture
def editor(page: Page, web: Web, alice: User, story: Story) -> Page:
    return sign_in(page, web, alice)


def open_editing(page: Page, web: Web, story: Story) -> None:
    page.goto(f"{web.url}/admin/stories/story/{story.pk}/change/")
    page.get_by_text("编辑正文").click()
    page.get_by_label("正文", exact=True).fill(NEW)


def decided(story: Story) -> list[tuple[str, str]]:
    return list(Review.objects.filter(story=story).order_by("pk").values_list("decision", "text_after"))


def test_approving_takes_the_edit_along_and_says_so(editor: Page, web: Web, story: Story) -> None:
    open_editing(editor, web, story)
    editor.get_by_role("button", name="保存编辑并采纳").click()
    expect(editor.locator(".messagelist")).to_contain_text("已保存编辑并采纳")
    assert decided(story) == [("edited", NEW), ("approved", NEW)]


def test_without_scripts_too(browser: Any, web: Web, alice: User, story: Story) -> None:
    context = browser.new_context(java_script_enabled=False, locale="zh-CN")
    page = sign_in(context.new_page(), web, alice)
    open_editing(page, web, story)
    page.get_by_role("button", name="采纳", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("已保存编辑并采纳")
    assert decided(story) == [("edited", NEW), ("approved", NEW)]
    context.close()


def test_the_button_says_what_it_does(editor: Page, web: Web, story: Story) -> None:
    open_editing(editor, web, story)
    expect(editor.get_by_role("button", name="保存编辑并采纳")).to_be_visible()
    editor.get_by_label("正文", exact=True).fill(OLD)
    editor.get_by_role("button", name="采纳", exact=True).click()
    expect(editor.locator(".messagelist")).to_contain_text("已采纳")
    assert decided(story) == [("approved", OLD)]


def test_rejecting_asks_and_keeps_what_was_typed(editor: Page, web: Web, story: Story) -> None:
    open_editing(editor, web, story)
    editor.get_by_role("button", name="拒绝").click()
    expect(editor.get_by_text("正文里有没保存的编辑")).to_be_visible()
    expect(editor.get_by_label("正文", exact=True)).to_have_value(NEW)
    expect(editor.get_by_role("button", name="保存编辑并采纳")).to_be_visible()
    assert decided(story) == []
    editor.get_by_label("不要没保存的编辑").check()
    editor.get_by_role("button", name="拒绝").click()
    expect(editor.locator(".history")).to_contain_text("拒绝")
    assert decided(story) == [("rejected", OLD)]


def test_a_page_that_is_out_of_date_keeps_what_was_typed(editor: Page, web: Web, story: Story) -> None:
    open_editing(editor, web, story)
    decisions.edit(Story.objects.get(pk=story.pk), by=make_person("bob", group="editors"), text="鲍勃的。")
    editor.get_by_role("button", name="保存编辑并采纳").click()
    expect(editor.get_by_text("别人审过或举报过这个故事")).to_be_visible()
    expect(editor.get_by_label("正文", exact=True)).to_have_value(NEW)
    assert [decision for decision, _text in decided(story)] == ["edited"]


@pytest.mark.parametrize("typed", [True, False])
def test_leaving_with_an_edit_asks_and_without_one_does_not(
    editor: Page, web: Web, story: Story, typed: bool
) -> None:
    asked: list[str] = []

    def stay(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.accept()

    editor.on("dialog", stay)
    open_editing(editor, web, story)
    if not typed:
        editor.get_by_label("正文", exact=True).fill(OLD)
    editor.get_by_role("link", name="读者看到的页面").click()
    editor.wait_for_url(f"**/stories/{story.pk}/")
    assert asked == (["beforeunload"] if typed else [])


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_can_be_done_by_keyboard_alone_in_any_window(
    new_page: Callable[..., Page], web: Web, alice: User, story: Story, width: int, dark: bool
) -> None:
    page = sign_in(new_page(width=width, dark=dark), web, alice)
    page.goto(f"{web.url}/admin/stories/story/{story.pk}/change/")
    page.get_by_text("编辑正文").press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(NEW)
    for wanted in ("edit_reason", "action"):  # nothing unseen is met on the way
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name") == wanted
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("理由（可不填）").press("Tab")
    assert page.evaluate("document.activeElement.value") == "approve"
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("已保存编辑并采纳")
    assert decided(story) == [("edited", NEW), ("approved", NEW)]
