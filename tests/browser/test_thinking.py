"""A model that thinks before it writes, as its reader sees it, with and without JavaScript."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_reactions import KEY, open_story, recognise
from tests.browser.test_reader import ask, prose, status
from tests.conftest import Workers
from tests.factories import make_attempt, make_ingredients, make_serving_model, make_story, make_template
from tests.provider import Provider
from tests.sites import Web

pytestmark = pytest.mark.django_db(transaction=True)
THOUGHT = ["<think>\n先定时代，", "再想超能力怎么用。"]
STORY = ["从前有座山。", "\n\n奥特曼来了。"]


@pytest.fixture(autouse=True)
def _a_model_that_thinks(celery_workers: Workers, provider: Provider) -> None:
    make_ingredients()
    make_template()
    make_serving_model("thinker")
    provider.pieces = [*THOUGHT, "</think>\n\n", *STORY]
    provider.hold_after = 2


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, False), (1280, True)])
def test_the_page_says_that_the_model_thinks_until_it_writes(
    new_page: Callable[..., Page], web: Web, provider: Provider, width: int, dark: bool
) -> None:
    page = new_page(width=width, dark=dark)
    ask(page, web)
    expect(status(page)).to_have_text("模型在思考")
    waiting = page.locator("[data-waited]")
    expect(waiting).to_have_text(re.compile(r"已思考 \d+ 秒"))
    expect(page.locator("[data-act=stop] button")).to_be_visible()
    expect(prose(page)).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.reload()  # what the page shows by itself
    expect(status(page)).to_have_text("模型在思考")
    provider.release()
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(["从前有座山。", "奥特曼来了。"])
    expect(waiting).to_be_hidden()


def test_text_that_was_thinking_vanishes_from_the_page(page: Page, web: Web, provider: Provider) -> None:
    provider.pieces = ["先定时代，", "再想超能力怎么用。", "</think>\n\n", *STORY]
    ask(page, web)
    expect(prose(page)).to_have_text(["先定时代，再想超能力怎么用。"])
    provider.release()
    expect(status(page)).to_have_text("完成")
    expect(prose(page)).to_have_text(["从前有座山。", "奥特曼来了。"])
    expect(page.locator("[data-count]")).to_have_text("14 字")


def test_without_javascript_the_page_says_it_too(browser: Any, web: Web) -> None:
    story = make_story(state="writing", reader_key=KEY)
    make_attempt(story, state="streaming", first_thought_at=story.created_at)
    context = browser.new_context(java_script_enabled=False, locale="zh-CN")
    page = context.new_page()
    recognise(page, web)
    open_story(page, web, story)
    expect(status(page)).to_have_text("模型在思考")
    expect(page.locator("[data-waited]")).to_have_text(re.compile(r"已思考 \d+ 秒"))
    context.close()
