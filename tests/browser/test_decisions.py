"""A training whose end its provider does not say, decided by keyboard: Enter in the text field decides nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from finetuning.models import Job
from tests.browser.test_corrections import log_in
from tests.factories import make_person
from tests.finetuning.factories import advance, fresh, make_started_job
from tests.provider import Provider
from tests.sites import Web

TUNED = "ft:gpt-4o-mini-2024-07-18:my-organisation:ultraman:AbCd1234"


@pytest.fixture
def asking(provider: Provider, transactional_db: None) -> Job:
    job = advance(make_started_job(), 2)
    provider.jobs.succeed("ftjob-1", results=b"step,train_loss\n1,0.9\n", model=TUNED)
    provider.jobs.advance("ftjob-1", "finalised")
    return advance(job)


def test_a_training_is_called_a_success_by_keyboard(
    web: Web, asking: Job, new_page: Callable[..., Any]
) -> None:
    tom = make_person("tom", group="trainers")
    for width, dark in ((1280, False), (390, True)):
        page = new_page(width=width, dark=dark)
        log_in(page, web, tom)
        page.goto(f"{web.url}/admin/")
        page.locator(".desk").get_by_role("link", name="去处理").click()
        page.get_by_role("link", name=f"#{asking.pk}", exact=True).click()
        expect(page.locator("#progress")).to_contain_text("状态却是「finalised」")
        page.get_by_role("link", name="记为成功").click()
        expect(page.get_by_label("模型在对方那里的名称")).to_have_value(TUNED)
        page.get_by_label("模型在对方那里的名称").press("Enter")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert fresh(asking).verdict == ""
    page.get_by_role("button", name="记为成功").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("已记为成功")
    assert advance(asking).state == Job.State.SUCCEEDED
