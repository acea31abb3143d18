"""A reader's way in a real browser: ask, watch, reload, lose the network, stop, go on; also on a phone and in the dark.

Real parts throughout: uvicorn, Redis, the readers' worker, and a provider over HTTP.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from stories.models import Story
from tests.conftest import Workers
from tests.factories import make_approved_story, make_ingredients, make_serving_model, make_template
from tests.provider import Fault, Provider
from tests.sites import Web

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = "汴京的铸剑师陆远打了个盹😀。\n\n　　醒来时，炉火变成了满街的霓虹。\n他举起右手，一道光𠮷射向怪兽。"
LINES = ["汴京的铸剑师陆远打了个盹😀。", "醒来时，炉火变成了满街的霓虹。", "他举起右手，一道光𠮷射向怪兽。"]


@pytest.fixture(autouse=True)
def _a_site_that_can_write(celery_workers: Workers, provider: Provider) -> None:
    make_ingredients()
    make_template()
    make_serving_model("base-zh")
    provider.text = TEXT


def ask(page: Page, web: Web) -> None:
    page.goto(f"{web.url}/stories/new/")
    page.get_by_text("南北朝", exact=True).click()
    page.locator("[name=super_power]").fill("发射激光")
    page.get_by_text("艰难", exact=True).click()
    page.get_by_role("button", name="开始写").click()
    page.wait_for_url(re.compile(r"/stories/[0-9a-f-]{36}/$"))


def prose(page: Page) -> Any:
    return page.locator("[data-prose] p")


def status(page: Page) -> Any:
    return page.get_by_role("status")


def test_ask_watch_and_finish(page: Page, web: Web, provider: Provider) -> None:
    provider.delay = 0.02
    ask(page, web)
    expect(page.locator(".combo-part")).to_have_text(["南北朝", "发射激光", "艰难"])
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(LINES)
    expect(page.locator("[data-prose]")).to_have_attribute("aria-busy", "false")
    expect(page.locator("[data-count]")).to_have_text(f"{len(TEXT)} 字")
    expect(page.get_by_role("button", name="停止")).to_be_hidden()
    expect(page.get_by_role("button", name="重新生成")).to_be_visible()
    assert Story.objects.get().text == TEXT


def test_a_reload_in_the_middle_loses_and_doubles_nothing(page: Page, web: Web, provider: Provider) -> None:
    provider.hold_after = 12
    ask(page, web)
    expect(status(page)).to_have_text("正在生成")
    expect(prose(page).first).to_have_text(re.compile("^汴京的铸"))
    page.reload()
    expect(prose(page).first).to_have_text(re.compile("^汴京的铸"))
    provider.release()
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(LINES)


def test_a_lost_network_is_said_and_mended(page: Page, web: Web, provider: Provider) -> None:
    provider.hold_after = 12
    sockets: list[Any] = []
    page.route_web_socket(re.compile("/ws/stories/"), lambda socket: _pass_on(socket, sockets))
    ask(page, web)
    expect(prose(page).first).to_have_text(re.compile("^汴京的铸"))
    sockets[0].close(code=1012, reason="restart")
    expect(status(page)).to_have_text("已断开，正在重连…")
    expect(status(page)).to_have_text("正在生成")
    provider.release()
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(LINES)
    held = re.search(r"attempt=\w+&offset=(\d+)$", sockets[1].url)
    assert held is not None and 0 < int(held[1]) < len(TEXT)


def _pass_on(socket: Any, sockets: list[Any]) -> None:
    sockets.append(socket)
    socket.connect_to_server()


def test_stop_keeps_the_text_and_continue_goes_on(page: Page, web: Web, provider: Provider) -> None:
    provider.hold_after = 12
    ask(page, web)
    expect(prose(page).first).to_have_text(re.compile("^汴京的铸"))
    page.get_by_role("button", name="停止").click()
    expect(status(page)).to_have_text("中断 · 被读者停止")
    kept = Story.objects.get().text
    assert kept and TEXT.startswith(kept)
    provider.hold_after = None
    provider.text = TEXT[len(kept) :]
    page.get_by_role("button", name="继续生成").click()
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(LINES)


def test_a_failure_says_why_and_can_be_retried(page: Page, web: Web, provider: Provider) -> None:
    provider.next(Fault.BAD_REQUEST)
    ask(page, web)
    expect(status(page)).to_have_text("失败 · 被模型服务拒绝")
    page.get_by_role("button", name="重试").click()
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(LINES)


def test_again_makes_a_version_beside_the_old_one(page: Page, web: Web) -> None:
    ask(page, web)
    expect(status(page)).to_have_text("完成")
    first = page.url
    page.get_by_role("button", name="重新生成").click()
    page.wait_for_url(lambda url: url != first)
    expect(page.locator(".versions")).to_contain_text("2/2")
    page.get_by_role("link", name="上一版").click()
    page.wait_for_url(first)
    expect(prose(page)).to_have_text(LINES)


def test_a_long_story_is_followed_until_the_reader_scrolls_up(
    new_page: Callable[..., Page], web: Web, provider: Provider
) -> None:
    page = new_page(width=390, height=500)
    provider.pieces = [f"第{number}段，怪兽又近了一步，英雄举起了手。\n\n" for number in range(60)]
    provider.hold_after = 1  # a page that opens on a long text stays at its top
    ask(page, web)
    expect(prose(page)).to_have_count(1)
    provider.hold_after = 30
    expect(prose(page)).to_have_count(30)
    expect(prose(page).last).to_be_in_viewport()
    page.mouse.move(200, 200)
    page.mouse.wheel(0, -600)
    latest = page.get_by_role("button", name="回到最新")
    latest.click()
    expect(prose(page).last).to_be_in_viewport()
    expect(latest).to_be_hidden()
    page.mouse.wheel(0, -600)
    expect(latest).to_be_visible()
    provider.release()
    expect(prose(page)).to_have_count(60)
    expect(prose(page).last).not_to_be_in_viewport()
    expect(status(page)).to_have_text("完成")


def test_on_a_phone_in_the_dark_everything_fits_and_can_be_pressed(
    new_page: Callable[..., Page], web: Web
) -> None:
    page = new_page(width=390, height=844, dark=True)
    story = make_approved_story(dynasty="南" * 32, super_power="x" * 32, story_type="艰" * 32)
    for path in ("/", "/stories/new/", "/stories/mine/", f"/stories/{story.pk}/", "/login/", "/nowhere/"):
        page.goto(web.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, path
        assert (
            page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(21, 22, 26)"
        )
        assert page.evaluate(TOO_SMALL) == [], path


TOO_SMALL = """[...document.querySelectorAll(`a, button, summary, label:has([type=checkbox]), .chip,
    input:not([type=hidden]):not([type=radio]):not([type=checkbox])`)]
  .filter((one) => one.checkVisibility() && !one.matches(".skip"))
  .filter((one) => Math.round(one.getBoundingClientRect().height) < 44)
  .map((one) => one.outerHTML)"""


def test_the_theme_is_kept_and_shared_with_the_admin(page: Page, web: Web) -> None:
    page.goto(web.url)
    page.get_by_role("button", name="暖").click()
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(243, 233, 210)"
    page.get_by_role("button", name="夜").click()
    page.goto(f"{web.url}/admin/login/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_without_scripts_a_story_is_asked_and_read(browser: Any, web: Web) -> None:
    context = browser.new_context(java_script_enabled=False, locale="zh-CN")
    page = context.new_page()
    ask(page, web)
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(LINES)
    context.close()
