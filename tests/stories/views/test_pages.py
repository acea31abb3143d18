"""The readers' pages over HTTP: who may see what, what a form answers, and what a page must never do."""

import json
import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.utils import timezone
from django.views.defaults import bad_request, server_error

from stories.models import Heartbeat, Story
from stories.operations.heartbeats import EXPECTED, beat
from stories.readers.identity import COOKIE, new_key, sign_key
from tests.factories import (
    make_approved_story,
    make_combo,
    make_ingredients,
    make_run,
    make_serving_model,
    make_story,
    make_template,
)
from tests.provider import Provider
from tests.servers import Child

pytestmark = pytest.mark.django_db
KEY = new_key()
COMBO = {"dynasty": "宋", "super_power": "发射激光", "story_type": "艰难"}


@pytest.fixture
def visitor(client: Client) -> Client:
    """A visitor without an account, who has the cookie of `KEY`."""
    client.cookies[COOKIE] = sign_key(KEY)
    return client


@pytest.fixture
def _ready(redis_server: Child, provider: Provider) -> None:
    make_template()
    make_serving_model("base-zh")


def page_text(response: Any) -> str:
    return response.content.decode()


# --- the library ----------------------------------------------------------------------------------------


def test_an_empty_library_says_what_to_do_next(client: Client) -> None:
    page = page_text(client.get("/"))
    assert "书架还空着" in page
    assert 'href="/stories/new/"' in page


def test_the_library_shows_what_is_approved_and_nothing_else(client: Client) -> None:
    shown = make_approved_story(combo=make_combo("汉", "冰冻大海", "艰难"))
    make_story(combo=make_combo("秦", "龙卷风", "勇敢"))
    make_story(combo=make_combo("隋", "飞行", "辛苦"), verdict="approved", visibility="private")
    page = page_text(client.get("/"))
    assert re.findall(r'href="/stories/([0-9a-f-]{36})/"', page) == [str(shown.pk)]
    assert re.findall(r'class="combo-part">(.*?)<', page) == ["汉", "冰冻大海", "艰难"]
    assert page.count('<span class="aigc">AI生成</span>') == 1


def test_the_library_is_paged_by_key_without_loss_or_repeat(client: Client) -> None:
    moment = timezone.now()
    made = [make_approved_story() for _ in range(45)]
    for place, story in enumerate(made):  # thirty of them at the very same moment
        created_at = moment - timedelta(seconds=max(0, place - 29))
        Story.objects.filter(pk=story.pk).update(created_at=created_at)
    met: list[str] = []
    address = "/"
    while address:
        page = page_text(client.get(address))
        met += re.findall(r'<h2 lang="zh-Hans"><a href="/stories/([0-9a-f-]{36})/"', page)
        if len(met) == 20:
            make_approved_story()  # a newer one arrives: an offset would repeat a story now
        further = re.search(r'rel="next" href="\?after=([^"]+)"', page)
        address = f"/?after={further[1]}" if further else ""
    assert len(met) == 45
    assert set(met) == {str(story.pk) for story in made}


@pytest.mark.parametrize(
    "mark", ["x", "_", "2026-01-01T00:00:00_x", f"2026-01-01T00:00:00_{uuid.UUID(int=7)}"]
)
def test_an_unreadable_mark_is_the_first_page(client: Client, mark: str) -> None:
    make_approved_story()
    response = client.get("/", {"after": mark})
    assert response.status_code == 200
    assert len(response.context["page"].stories) == 1


def test_a_shelf_costs_the_same_for_three_stories_as_for_one(
    client: Client, django_assert_num_queries: Any
) -> None:
    for more in (1, 2):
        for _ in range(more):
            make_approved_story()
        with django_assert_num_queries(2):  # the shelf, and the known ingredients
            client.get("/")


# --- asking ---------------------------------------------------------------------------------------------


def test_the_ask_page_offers_what_is_known_and_keeps_what_was_wished(client: Client) -> None:
    make_ingredients()
    page = page_text(client.get("/stories/new/", {"dynasty": "唐", "super_power": "发射激光"}))
    assert re.findall(r'name="(\w+_chip)" value="(\w+)" checked', page) == [("dynasty_chip", "唐")]
    assert 'name="super_power" value="发射激光"' in page
    assert 'name="story_type" value=""' in page
    assert "今天还可以写 50 篇。" in page


def test_random_chooses_one_of_each(client: Client) -> None:
    make_ingredients()
    page = page_text(client.get("/stories/new/?random=1"))
    axes = re.findall(r'name="(\w+)_chip" value="\w+" checked', page)
    assert axes == ["dynasty", "super_power", "story_type"]


@pytest.mark.usefixtures("_ready")
def test_a_bare_post_makes_a_story_and_gives_the_cookie(client: Client) -> None:
    response = client.post("/stories/new/", COMBO)
    story = Story.objects.get()
    assert (response.status_code, response.url) == (302, f"/stories/{story.pk}/")  # type: ignore[attr-defined]
    assert (str(story.combo), story.state) == ("宋,发射激光,艰难", "queued")
    cookie = response.cookies[COOKIE]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    assert client.get(f"/stories/{story.pk}/").status_code == 200
    assert Client().get(f"/stories/{story.pk}/").status_code == 403


@pytest.mark.usefixtures("_ready")
def test_a_chip_counts_where_nothing_was_typed(client: Client) -> None:
    make_ingredients()
    typed = {"dynasty": " ", "dynasty_chip": "唐", "super_power": "喷火", "super_power_chip": "飞行"}
    client.post("/stories/new/", typed | {"story_type_chip": "努力"})
    assert str(Story.objects.get().combo) == "唐,喷火,努力"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"dynasty": ""}, "请填写朝代。"),
        ({"super_power": "飞,行"}, "超能力里不能有逗号。"),
        ({"story_type": "轻\n松"}, "战斗里不能有换行或控制字符。"),
        ({"dynasty": "\0"}, "朝代里不能有换行或控制字符。"),
        ({"dynasty": "唐\u202e"}, "朝代里不能有换行或控制字符。"),
        ({"super_power": "飞" * 300_000}, "超能力最多 32 个字，这里有 300000 个。"),
    ],
)
def test_a_bad_ingredient_is_one_sentence_at_its_field(
    client: Client, wrong: dict[str, str], sentence: str
) -> None:
    response = client.post("/stories/new/", COMBO | wrong)
    assert response.status_code == 422
    errors = re.findall(r'<p class="field-error" id="error_(\w+)">(.*?)</p>', page_text(response))
    assert errors == [(*wrong, sentence)]
    assert not Story.objects.exists()


@pytest.mark.usefixtures("_ready")
def test_a_used_up_quota_is_said_in_the_page(visitor: Client, settings: Any) -> None:
    settings.READER_STREAMS = 1
    visitor.post("/stories/new/", COMBO)
    response = visitor.post("/stories/new/", COMBO)
    assert response.status_code == 429
    assert "你已有 1 篇正在写" in page_text(response)
    assert Story.objects.count() == 1


def test_without_redis_the_story_is_queued_all_the_same(client: Client, provider: Provider) -> None:
    make_template()
    make_serving_model("base-zh")
    assert client.post("/stories/new/", COMBO).status_code == 302
    assert Story.objects.get().state == "queued"


def test_a_body_beyond_all_measure_is_refused_in_our_look(client: Client) -> None:
    response = client.post("/stories/new/", COMBO | {"dynasty": "唐" * 1_000_000})
    assert response.status_code == 400
    assert "或者太长了" in page_text(response)


def test_markup_in_ingredients_and_text_stays_text(visitor: Client) -> None:
    evil = make_story(
        reader_key=KEY,
        state="writing",
        dynasty="<b>唐",
        super_power="</script>",
        text="<script>alert(1)</script>\n</script><!--",
    )
    page = page_text(visitor.get(f"/stories/{evil.pk}/"))
    assert "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p><p>&lt;/script&gt;&lt;!--</p>" in page
    assert "<b>唐" not in page
    held = re.search(r'<script id="story-text" type="application/json">(.*?)</script>', page)
    assert held is not None and json.loads(held[1]) == evil.text


# --- reading --------------------------------------------------------------------------------------------


def test_a_finished_story_is_read_in_paragraphs_with_its_label_and_model(client: Client) -> None:
    story = make_approved_story()
    page = page_text(client.get(f"/stories/{story.pk}/"))
    prose = re.search(r"<div class=\"prose\"[^>]*>(.*?)</div>", page)
    assert prose is not None
    assert re.findall(r"<p>(.*?)</p>", prose[1]) == story.text.split("\n\n")
    assert "AI生成" in page and f"模型 {story.language_model}" in page
    assert "stream.js" not in page and "http-equiv" not in page


def test_an_unfinished_story_is_followed_or_reloads_itself(visitor: Client) -> None:
    story = make_story(state="writing", text="从前", attempt_name="a" * 16, reader_key=KEY)
    page = page_text(visitor.get(f"/stories/{story.pk}/"))
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page
    assert f'data-attempt="{"a" * 16}" data-socket="/ws/stories/{story.pk}/"' in page
    assert "<p>从前</p>" in page
    assert 'aria-busy="true"' in page


@pytest.mark.parametrize(
    ("state", "more", "sentence", "acts"),
    [
        ("queued", {}, "排队第 1 位", ["stop"]),
        ("writing", {}, "正在生成", ["stop"]),
        ("written", {}, "完成", ["again"]),
        ("interrupted", {"end_reason": "length"}, "中断 · 达到长度上限", ["continue", "again"]),
        ("failed", {}, "失败 · 被模型服务拒绝", ["retry"]),
        ("cancelled", {"end_reason": "stopped"}, "已取消", ["again"]),
    ],
)
def test_each_state_says_itself_and_offers_its_acts(
    visitor: Client, state: str, more: dict[str, str], sentence: str, acts: list[str]
) -> None:
    story = make_story(state=state, reader_key=KEY, **more)
    page = page_text(visitor.get(f"/stories/{story.pk}/"))
    status = re.search(r'<span role="status"[^>]*>(.*?)</span>', page)
    assert status is not None and status[1] == sentence
    forms = re.findall(
        r'<form method="post" action="[^"]*" data-act="(\w+)" data-states="[^"]*"( hidden)?>', page
    )
    assert [name for name, hidden in forms if not hidden] == acts


def test_an_edited_story_shows_the_editors_text(client: Client) -> None:
    story = make_approved_story(text="模型的话。", edited_text="编辑的话。")
    page = page_text(client.get(f"/stories/{story.pk}/"))
    assert "<p>编辑的话。</p>" in page and "模型的话" not in page
    assert "编辑的话。" in page_text(client.get(f"/stories/{story.pk}.txt"))


def test_plain_text_carries_the_label(client: Client) -> None:
    story = make_approved_story(text="甲\r乙 & <丙>")
    response = client.get(f"/stories/{story.pk}.txt")
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert page_text(response) == (
        f"唐,隐形,轻松\nAI生成：本文由人工智能生成。模型：{story.language_model}。\n"
        f"http://testserver/stories/{story.pk}/\n\n甲\r乙 & <丙>\n\n"
        '{"AIGC": {"Label": "1", "ContentProducer": "ultraman-stories", '
        f'"ProduceID": "{story.pk}", "ReservedCode1": "", "ContentPropagator": "ultraman-stories", '
        f'"PropagateID": "{story.pk}", "ReservedCode2": ""}}}}\n'
    )


def test_versions_are_counted_and_linked(visitor: Client) -> None:
    first = make_story(reader_key=KEY)
    second = make_story(reader_key=KEY, again_of=first)
    make_story(reader_key=new_key(), again_of=first)  # someone else's
    page = page_text(visitor.get(f"/stories/{first.pk}/"))
    assert "<span>1/2</span>" in page
    assert f'<a href="/stories/{second.pk}/" rel="next"' in page


def test_who_may_read_stop_and_write_again(visitor: Client, alice: User, reader: User) -> None:
    story = make_story(state="queued", reader_key=KEY)
    stranger, staff = Client(), Client()
    stranger.force_login(reader)
    staff.force_login(alice)
    for path in (f"/stories/{story.pk}/", f"/stories/{story.pk}.txt"):
        codes = [person.get(path).status_code for person in (Client(), stranger, visitor, staff)]
        assert codes == [403, 403, 200, 200]
    for act in ("stop", "continue", "retry", "again"):
        assert stranger.post(f"/stories/{story.pk}/{act}/").status_code == 403
        assert visitor.get(f"/stories/{story.pk}/{act}/").status_code == 405
    assert visitor.get(f"/stories/{uuid.uuid4()}/").status_code == 404
    story.refresh_from_db()
    assert (story.state, Story.objects.count()) == ("queued", 1)


def test_stop_cancels_a_queued_story(visitor: Client) -> None:
    story = make_story(state="queued", reader_key=KEY)
    assert visitor.post(f"/stories/{story.pk}/stop/").url == f"/stories/{story.pk}/"  # type: ignore[attr-defined]
    story.refresh_from_db()
    assert story.state == "cancelled"


@pytest.mark.usefixtures("_ready")
def test_retry_continue_and_again_queue_a_story(visitor: Client) -> None:
    failed = make_story(state="failed", reader_key=KEY)
    broken = make_story(state="interrupted", text="从前", reader_key=KEY)
    visitor.post(f"/stories/{failed.pk}/retry/")
    visitor.post(f"/stories/{broken.pk}/continue/")
    response = visitor.post(f"/stories/{make_story(reader_key=KEY).pk}/again/")
    queued = set(Story.objects.filter(state="queued").values_list("pk", "text"))
    new = uuid.UUID(response.url.split("/")[2])  # type: ignore[attr-defined]
    assert queued == {(failed.pk, ""), (broken.pk, "从前"), (new, "")}


def test_an_order_that_came_too_late_is_explained(visitor: Client) -> None:
    story = make_story(reader_key=KEY)
    page = page_text(visitor.post(f"/stories/{story.pk}/retry/", follow=True))
    assert "这篇故事现在不能这样做：它的状态刚刚变了，请看看它现在的样子。" in page


def test_a_library_story_offers_its_combo_to_others(client: Client) -> None:
    story = make_approved_story(run=make_run(), combo=make_combo("宋", "发射激光", "艰难"))
    page = page_text(client.get(f"/stories/{story.pk}/"))
    assert "用这个配方写一篇" in page and "data-act" not in page


def test_my_stories_are_those_of_the_cookie_and_the_account(visitor: Client, reader: User) -> None:
    ours = {make_story(reader_key=KEY).pk, make_story(owner=reader, state="failed").pk}
    make_story(reader_key=new_key())
    assert "你还没有写过故事" in page_text(Client().get("/stories/mine/"))
    visitor.force_login(reader)
    page = visitor.get("/stories/mine/").context["page"]
    assert {story.pk for story in page.stories} == ours


# --- the rest -------------------------------------------------------------------------------------------


def test_a_reader_logs_in_and_out(client: Client, reader: User) -> None:
    response = client.post("/login/", {"username": "reader", "password": "reader", "next": "/stories/mine/"})
    assert response.url == "/stories/mine/"  # type: ignore[attr-defined]
    assert "退出" in page_text(client.get("/"))
    client.post("/logout/")
    assert "登录" in page_text(client.get("/"))


def test_refusals_have_our_look(client: Client) -> None:
    assert "这里没有这一页" in page_text(client.get("/nowhere/"))
    assert "这一页不对你开放" in page_text(client.get(f"/stories/{make_story().pk}/"))
    strict = Client(enforce_csrf_checks=True)
    response = strict.post("/stories/new/", COMBO)
    assert response.status_code == 403
    assert "页面放得太久了" in page_text(response)


def test_a_page_of_ours_even_when_something_broke(rf: RequestFactory) -> None:
    for answer, words in ((server_error, "这里出了错"), (bad_request, "这个请求读不懂")):
        args = () if answer is server_error else (Exception(),)
        assert f"<h1>{words}</h1>" in page_text(answer(rf.get("/"), *args))


def test_too_many_wrong_passwords_are_answered_in_our_look(client: Client, reader: User) -> None:
    wrong = {"username": "reader", "password": "wrong"}
    answers = [client.post("/login/", wrong).status_code for _ in range(10)]
    assert answers == [200] * 9 + [429]
    response = client.post("/login/", wrong | {"password": "reader"})
    assert response.status_code == 429
    assert "请十五分钟后再试" in page_text(response)


def test_health_names_what_is_missing(client: Client, redis_server: Child) -> None:
    assert client.get("/health/live").json() == {"status": "ok"}
    for process in EXPECTED:
        beat(process)
    assert client.get("/health/ready").json() == {"status": "ok", "missing": []}
    Heartbeat.objects.filter(process="beat").update(beat_at=timezone.now() - timedelta(minutes=10))
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["missing"]) == (503, ["beat"])


def test_health_without_redis_says_so(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    for process in EXPECTED:
        beat(process)
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["missing"]) == (503, ["redis"])
