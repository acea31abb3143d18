"""A story that survives its reader's network, tabs and scripts, and the site's own restarts, in a real browser."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from stories.models import Story
from tests.browser.test_reader import ask, prose, status
from tests.conftest import LOGS, Workers
from tests.environment import free_port
from tests.factories import make_ingredients, make_serving_model, make_template
from tests.provider import Provider
from tests.servers import start_web, wait_until
from tests.sites import Web

pytestmark = pytest.mark.django_db(transaction=True)
LINES = [f"第{number}段：汴京的铸剑师😀举起e\u0301右手，𠮷光射向怪兽。" for number in range(20)]
TEXT = "\n\n".join(LINES)
KEPT = 40  # pieces of four characters before the provider waits


@pytest.fixture(autouse=True)
def _a_story_that_pauses(celery_workers: Workers, provider: Provider) -> None:
    make_ingredients()
    make_template()
    make_serving_model("base-zh")
    provider.text = TEXT
    provider.hold_after = KEPT


@pytest.fixture
def own_web(web: Web) -> Iterator[Web]:
    """A web process of this test alone, to be killed and started again on its port."""
    port = free_port()
    child = start_web(port, log=LOGS / f"web-{port}.log", env=web.env)
    own = Web(f"http://127.0.0.1:{port}", child, web.env)
    yield own
    own.child.stop()


def start_again(web: Web) -> None:
    port = int(web.url.rpartition(":")[2])
    web.child = start_web(port, log=LOGS / f"web-{port}.log", env=web.env)


def wait_for_pause(page: Page) -> None:
    """Everything the provider has sent is on the page."""
    expect(page.locator("[data-count]")).to_have_text(f"{KEPT * 4} 字")


def expect_whole(page: Page) -> None:
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(LINES)
    expect(page.locator("[data-count]")).to_have_text(f"{len(TEXT)} 字")


def test_offline_and_back(page: Page, own_web: Web, provider: Provider) -> None:
    ask(page, own_web)
    wait_for_pause(page)
    page.context.set_offline(True)
    own_web.child.kill()  # an emulated loss of the network leaves open sockets open
    expect(status(page)).to_have_text("已断开，正在重连…")
    expect(page.locator("[data-count]")).to_have_text(f"{KEPT * 4} 字")
    provider.release()
    start_again(own_web)
    page.context.set_offline(False)
    expect_whole(page)


def test_a_web_process_restarted_in_the_middle_costs_a_moment(
    page: Page, own_web: Web, provider: Provider
) -> None:
    ask(page, own_web)
    wait_for_pause(page)
    own_web.child.stop()
    expect(status(page)).to_have_text("已断开，正在重连…")
    start_again(own_web)
    expect(status(page)).to_have_text("正在生成")
    provider.delay = 0.02
    provider.release()
    expect_whole(page)
    assert Story.objects.get().text == TEXT


def test_stopping_without_a_network_stays_on_the_page_and_is_sent_later(
    page: Page, own_web: Web, provider: Provider
) -> None:
    ask(page, own_web)
    wait_for_pause(page)
    address = page.url
    own_web.child.kill()
    expect(status(page)).to_have_text("已断开，正在重连…")
    page.get_by_role("button", name="停止").press("Enter")
    expect(page.get_by_text("「停止」没有送到")).to_be_visible()
    expect(page.get_by_role("button", name="停止")).to_be_enabled()
    expect(page.locator("[data-count]")).to_have_text(f"{KEPT * 4} 字")
    assert page.url == address
    start_again(own_web)
    expect(status(page)).to_have_text("中断 · 被读者停止", timeout=30_000)
    expect(page.get_by_text("「停止」没有送到")).to_be_hidden()
    assert Story.objects.get().text == TEXT[: KEPT * 4]


def test_stopping_while_the_socket_is_gone_goes_by_the_form_without_leaving(
    page: Page, web: Web, provider: Provider
) -> None:
    """Pages come through, sockets do not: a proxy that knows no websockets, or forgot ours."""
    sockets: list[Any] = []

    def pass_on(socket: Any) -> None:
        sockets.append(socket)
        if len(sockets) == 1:
            socket.connect_to_server()
        else:
            socket.close(code=1012, reason="restart")

    page.route_web_socket(re.compile("/ws/stories/"), pass_on)
    ask(page, web)
    wait_for_pause(page)
    page.evaluate("document.title = 'the same page'")
    sockets[0].close(code=1012, reason="restart")
    expect(status(page)).to_have_text("已断开，正在重连…")
    page.get_by_role("button", name="停止").click()
    wait_until(lambda: Story.objects.filter(state="interrupted", end_reason="stopped").exists())
    expect(page.get_by_text("「停止」没有送到")).to_be_hidden()
    expect(page).to_have_title("the same page")


def test_no_act_leaves_the_page_for_the_browsers_own_words(page: Page, web: Web, provider: Provider) -> None:
    provider.hold_after = None
    ask(page, web)
    expect_whole(page)
    address = page.url
    page.context.set_offline(True)
    page.get_by_role("button", name="重新生成").click()
    expect(page.get_by_text("现在没有网络")).to_be_visible()
    assert page.url == address
    page.context.set_offline(False)
    expect(page.get_by_text("现在没有网络")).to_be_hidden()
    page.get_by_role("button", name="重新生成").click()
    page.wait_for_url(lambda url: url != address)


def test_two_tabs_show_the_same_and_one_stops_both(page: Page, web: Web, provider: Provider) -> None:
    ask(page, web)
    wait_for_pause(page)
    other = page.context.new_page()
    other.goto(page.url)
    wait_for_pause(other)
    assert other.locator("[data-prose]").inner_text() == page.locator("[data-prose]").inner_text()
    other.get_by_role("button", name="停止").click()
    for tab in (page, other):
        expect(status(tab)).to_have_text("中断 · 被读者停止")
        expect(tab.get_by_role("button", name="继续生成")).to_be_visible()
    provider.pieces = [TEXT[KEPT * 4 :]]
    provider.release()
    other.get_by_role("button", name="继续生成").click()
    expect_whole(other)
    page.reload()
    expect(prose(page)).to_have_text(LINES)


def test_reloading_again_and_again_while_it_is_written_loses_nothing(
    page: Page, web: Web, provider: Provider
) -> None:
    provider.hold_after, provider.delay = None, 0.03
    ask(page, web)
    for _ in range(5):
        expect(prose(page).first).to_have_text(re.compile("^第0段"))
        page.reload()
    expect_whole(page)


def test_without_scripts_the_page_shows_what_there_is_and_reloads_itself(
    browser: Any, web: Web, provider: Provider
) -> None:
    context = browser.new_context(java_script_enabled=False, locale="zh-CN")
    page = context.new_page()
    ask(page, web)
    expect(prose(page).first).to_have_text(LINES[0])
    assert prose(page).count() < len(LINES)
    expect(status(page)).to_have_text("正在生成")
    provider.release()
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(LINES)
    context.close()


def test_a_story_that_waits_shows_its_place_and_then_itself(
    page: Page, web: Web, provider: Provider, start_workers: Callable[..., Workers], celery_workers: Workers
) -> None:
    """The readers' worker is away for a while: the page says so, and needs no reload when it is back."""
    celery_workers.kill("readers")
    try:
        ask(page, web)
        expect(status(page)).to_contain_text("1")
    finally:
        celery_workers.start("readers")
    provider.release()
    expect_whole(page)
