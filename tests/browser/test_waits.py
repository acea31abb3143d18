"""A story whose provider asked for patience while its reader watches, in a real browser."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from stories.models import Story
from tests.browser.test_reactions import KEY, open_story, recognise
from tests.factories import make_story
from tests.sites import Web

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_page_says_that_the_provider_asked_for_it(page: Page, web: Web) -> None:
    story = make_story(state="queued", reader_key=KEY)
    recognise(page, web)
    open_story(page, web, story)
    status = page.locator("[data-status]")
    expect(status).to_have_text("排队第 1 位")
    row = Story.objects.filter(pk=story.pk)
    row.update(error="429", next_try_at=timezone.now() + timedelta(seconds=100))
    expect(status).to_have_text("模型服务要求等待，约 2 分钟后再试", timeout=15_000)
    row.update(next_try_at=None)
    expect(status).to_have_text("排队第 1 位", timeout=15_000)
