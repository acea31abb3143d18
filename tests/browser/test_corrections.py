"""A correction by keyboard alone: Enter in a text field decides nothing, the second press does."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, expect

from stories.models import Attempt
from tests.factories import make_attempt, make_person, make_story
from tests.sites import Web


def log_in(page: Page, web: Web, person: User) -> None:
    """The browser has the person's session: the pages' own process knows none of the suite's passwords."""
    client = Client()
    client.force_login(person)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": web.url}])


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_bill_is_corrected_by_keyboard(
    web: Web, new_page: Callable[..., Any], width: int, dark: bool
) -> None:
    attempt = make_attempt(make_story(), price=1252, reserved=1252, doubt="对方报了 2^40 个词元。")
    page = new_page(width=width, dark=dark)
    log_in(page, web, make_person("alice", group="editors"))
    page.goto(f"{web.url}/admin/stories/attempt/{attempt.pk}/correct/")
    expect(page.locator("form.sheet")).to_contain_text("对方报了 2^40 个词元。")
    page.get_by_label("账单上的费用（美元）").fill("0.0009")
    page.keyboard.press("Tab")
    page.keyboard.type("发票 7")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="先看一看")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("form.sheet .lead")).to_have_text("费用从 $0.0013 更正为 $0.0009？")
    assert Attempt.objects.get().price == 1252
    page.get_by_role("button", name="更正", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("更正为 $0.0009")
    assert Attempt.objects.get().price == 900
    assert page.evaluate("document.documentElement.scrollWidth") <= width
