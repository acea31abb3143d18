"""The library: search in Chinese, by ingredient, newest and best liked, each paged by key."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from stories.library.pages import Cursor, Order, read_page
from stories.models import Story
from tests.factories import make_approved_story, make_combo, make_ingredients

pytestmark = pytest.mark.django_db


def found(client: Client, **query: str) -> set[str]:
    page = client.get("/", query).context["page"]
    return {story.text for story in page.stories}


@pytest.fixture
def _stories() -> None:
    make_approved_story(text="长安的灯亮了。100%", combo=make_combo("唐", "隐形", "轻松"))
    make_approved_story(text="汴京_下雪", combo=make_combo("宋", "飞行", "艰难"))
    make_approved_story(
        text="旧文", edited_text="编辑写的 Ultraman 长安", combo=make_combo("宋", "隐形", "努力")
    )
    Story.objects.create(dynasty="唐", super_power="隐形", story_type="轻松", origin="reader", text="长安")


@pytest.mark.both_databases
@pytest.mark.usefixtures("_stories")
@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("长安", {"长安的灯亮了。100%", "旧文"}),
        ("旧文", set()),  # the editor's text is the story's
        ("ultraman", {"旧文"}),
        ("飞行", {"汴京_下雪"}),
        ("长安 灯", {"长安的灯亮了。100%"}),
        ("长安　宋", {"旧文"}),
        ("100%", {"长安的灯亮了。100%"}),
        ("%", {"长安的灯亮了。100%"}),
        ("_", {"汴京_下雪"}),
        ("\\", set()),
        ("' OR 1=1 --", set()),
    ],
)
def test_search_finds_words_anywhere_and_wildcards_are_only_characters(
    client: Client, query: str, texts: set[str]
) -> None:
    assert found(client, q=query) == texts


@pytest.mark.both_databases
@pytest.mark.usefixtures("_stories")
def test_ingredients_narrow_the_shelf(client: Client) -> None:
    assert found(client, dynasty="宋") == {"汴京_下雪", "旧文"}
    assert found(client, dynasty="宋", super_power="隐形") == {"旧文"}
    assert found(client, dynasty="宋", q="长安") == {"旧文"}


@pytest.mark.usefixtures("_stories")
@pytest.mark.parametrize("query", [{"q": "唐\0"}, {"q": "长" * 61}, {"dynasty": "x" * 40}, {"order": "x"}])
def test_what_cannot_be_read_in_an_address_is_left_out(client: Client, query: dict[str, str]) -> None:
    assert len(found(client, **query)) == 3


@pytest.mark.usefixtures("_stories")
def test_an_empty_result_says_what_to_do(client: Client) -> None:
    page = client.get("/", {"q": "火星", "dynasty": "唐"}).content.decode()
    assert "没有找到这样的故事" in page
    assert 'href="/stories/new/?dynasty=%E5%94%90&amp;"' in page
    assert '<a class="button" href="/">看整个书架</a>' in page
    assert 'name="q" value="火星"' in page


@pytest.mark.usefixtures("_stories")
def test_labels_lead_to_their_shelf(client: Client) -> None:
    make_ingredients()
    page = client.get("/", {"dynasty": "唐"}).content.decode()
    assert re.findall(r'<a href="/\?([^"]+)"><span class="combo-part">(\w+)', page) == [
        ("dynasty=%E5%94%90", "唐"),
        ("super_power=%E9%9A%90%E5%BD%A2", "隐形"),
        ("story_type=%E8%BD%BB%E6%9D%BE", "轻松"),
    ]


def test_a_further_page_keeps_what_was_looked_for(client: Client) -> None:
    for _ in range(21):
        make_approved_story(text="长安")
    page = client.get("/", {"q": "长安", "order": "liked"}).content.decode()
    further = re.search(r'rel="next" href="([^"]+)"', page)
    assert further is not None
    rest = client.get("/" + further[1].replace("&amp;", "&"))
    assert len(rest.context["page"].stories) == 1
    assert rest.context["search"].query == "长安"


@pytest.mark.both_databases
@pytest.mark.parametrize("order", Order.values)
def test_each_order_is_paged_without_loss_or_repeat(order: str) -> None:
    moment = timezone.now()
    for place in range(23):
        story = make_approved_story(likes=place % 4)
        created_at = moment - timedelta(seconds=place // 3)
        Story.objects.filter(pk=story.pk).update(created_at=created_at)
    met: list[Any] = []
    after = ""
    while True:
        page = read_page(Story.objects.library(), after=after, size=5, order=order)
        met += [(story.likes, story.created_at, story.pk) for story in page.stories]
        after = page.next_cursor
        if not after:
            break
    assert len(met) == len(set(met)) == 23
    key = (lambda row: row) if order == Order.LIKED else (lambda row: row[1:])
    assert met == sorted(met, key=key, reverse=True)


def test_a_mark_reads_back_as_it_was_written() -> None:
    story = make_approved_story()
    cursor = Cursor(3, story.created_at, story.pk)
    assert str(cursor) == f"3_{story.created_at.isoformat()}_{story.pk}"


@pytest.mark.parametrize(
    "moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59+00:00"]
)
@pytest.mark.parametrize("order", ["newest", "liked"])
def test_a_mark_at_the_end_of_time_is_a_page(client: Client, moment: str, order: str) -> None:
    """The first two are moments that UTC has no year for; the last is later than every story."""
    make_approved_story()
    cursor = f"0_{moment}_7c9e6679-7425-40de-944b-e07fc1f90ae7"

    assert client.get("/", {"after": cursor, "order": order}).status_code == 200
