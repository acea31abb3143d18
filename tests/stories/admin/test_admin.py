"""stories/admin: reading, deciding, ordering, promoting; and who may do what."""

import io
import json
import re
import threading
import zipfile
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from stories.models import Ingredient, LanguageModel, Review, Run, Story, Template
from stories.review.decisions import approve, reject
from stories.runs import orders
from stories.runs.orders import order_run
from tests.factories import (
    make_attempt,
    make_combo,
    make_ingredients,
    make_model,
    make_person,
    make_review,
    make_run,
    make_serving_model,
    make_story,
    make_template,
)

pytestmark = pytest.mark.django_db
LIST = "/admin/stories/story/"


@pytest.fixture
def editor(client, alice):
    """A browser where Alice, an editor, is logged in."""
    client.force_login(alice)
    return client


@pytest.fixture
def trainer(tom):
    client = Client()
    client.force_login(tom)
    return client


def page_of(story):
    return reverse("admin:stories_story_change", args=[story.pk])


def decide(client, story, action, **fields):
    newest = story.reviews.order_by("-pk").first()
    fields = {"seen": newest.pk if newest else "", "action": action} | fields
    return client.post(reverse("admin:stories_story_decide", args=[story.pk]), fields)


def fresh(row):
    return type(row).objects.get(pk=row.pk)


def messages_of(response):
    return [str(message) for message in response.context["messages"]]


# --- the list -----------------------------------------------------------------------------------------------


def test_the_list_shows_combo_marks_and_text(editor):
    make_story(combo=make_combo("五代", "流星火雨", "艰难"), text="第一段。\n\n第二段。")
    page = editor.get(LIST).content.decode()
    for words in ("五代", "流星火雨", "艰难", "第一段。", "还有 1 段", "第二段。", "已写成", "待审"):
        assert words in page


def test_a_hostile_story_is_inert_text(editor):
    story = make_story(
        combo=make_combo("<b>唐</b>"), text="<script>alert(1)</script>", error="<i>x</i>", state="interrupted"
    )
    for address in (LIST, page_of(story)):
        page = editor.get(address).content.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "<script>alert" not in page
        assert "<b>唐" not in page
        assert "<i>x" not in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("dynasty=宋", ["乙"]),
        ("super_power=飞行", ["乙"]),
        ("story_type=努力", ["乙"]),
        ("state__exact=interrupted", ["丙"]),
        ("verdict__exact=approved", ["乙"]),
        ("origin__exact=run", ["甲"]),
        ("q=甲", ["甲"]),
        ("q=流星", []),
    ],
)
def test_filters_and_search_find_stories(editor, query, found):
    make_story(text="甲", run=make_run())
    make_story(text="乙", combo=make_combo("宋", "飞行", "努力"), verdict="approved")
    make_story(text="丙", state="interrupted")
    listed = editor.get(f"{LIST}?{query}").context["cl"].result_list
    assert [story.text for story in listed] == found


def test_stories_are_filtered_by_run_and_model(editor):
    run, other = make_run(), make_run()
    story = make_story(run=run)
    make_story(run=other)
    for query in (f"run__id__exact={run.pk}", f"language_model__id__exact={run.language_model_id}"):
        assert list(editor.get(f"{LIST}?{query}").context["cl"].result_list) == [story]


def test_a_nonsense_filter_is_no_error(editor):
    make_story(run=make_run())
    assert editor.get(f"{LIST}?run__id__exact=x").status_code == 302
    assert editor.get(f"{page_of(make_story())}?_changelist_filters=run__id__exact%3Dx").status_code == 200


def test_a_nul_in_an_address_breaks_nothing(editor):
    story = make_story()
    for query in ("dynasty=%00", "state__exact=%00", "q=%00"):
        assert editor.get(f"{LIST}?{query}").headers["Location"] == LIST
    for query in ("dynasty%3D%2500", "state__exact%3D%2500", "q%3D%2500"):
        assert editor.get(f"{page_of(story)}?_changelist_filters={query}").status_code == 200


@pytest.mark.parametrize("name", ["story", "languagemodel", "attempt", "review", "ingredient"])
def test_any_word_can_be_searched_for(editor, name):
    assert editor.get(f"/admin/stories/{name}/", {"q": "唐 \" ' % _ x"}).status_code == 200


@pytest.mark.parametrize("name", ["story", "run", "languagemodel", "attempt", "review"])
def test_a_list_needs_as_many_queries_for_one_row_as_for_three(editor, alice, name):
    def make():
        story = make_story(run=make_run(created_by=alice, language_model=make_model(parent=make_model())))
        make_attempt(story)
        make_review(story, editor=alice)

    def count():
        with CaptureQueriesContext(connection) as queries:
            assert editor.get(f"/admin/stories/{name}/").status_code == 200
        return len(queries)

    make()
    count()  # content types and permissions are cached by the first
    one = count()
    make()
    make()
    assert count() == one


# --- deciding -----------------------------------------------------------------------------------------------


def test_approving_leads_to_the_next_story(editor, alice):
    older, story = make_story(), make_story(run=make_run())
    response = decide(editor, story, "approve", reason="好看")
    assert response.headers["Location"] == page_of(older)
    review = Review.objects.get()
    assert (review.editor, review.decision, review.reason) == (alice, "approved", "好看")
    assert fresh(story).visibility == "library"


def test_the_next_story_keeps_to_the_filter_one_came_from(editor):
    story_of_run = make_story(run=make_run())
    make_story()
    story = make_story(run=story_of_run.run)
    filters = f"_changelist_filters=run__id__exact%3D{story.run_id}%26verdict__exact%3Dunreviewed"
    address = reverse("admin:stories_story_decide", args=[story.pk])
    response = editor.post(f"{address}?{filters}", {"action": "reject", "seen": "", "reason": "太短"})
    assert response.headers["Location"] == f"{page_of(story_of_run)}?{filters}"


def test_rejecting_the_last_one_stays_on_its_page(editor):
    story = make_story()
    response = editor.get(decide(editor, story, "reject", reason="太短").headers["Location"])
    assert fresh(story).verdict == "rejected"
    assert "太短" in response.content.decode()


def test_an_edit_is_shown_beside_the_original(editor):
    story = make_story(text="旧的正文")
    page = editor.get(decide(editor, story, "edit", text="新的\r\n正文", reason="错字").headers["Location"])
    assert (fresh(story).text, fresh(story).edited_text) == ("旧的正文", "新的\n正文")
    for words in ("模型的原文", "旧的正文", "编辑后", "错字", "改了正文"):
        assert words in page.content.decode()


def test_an_unchanged_text_with_other_line_breaks_is_no_edit(editor):
    story = make_story(text="一\r二\n三")
    response = decide(editor, story, "edit", text="一\r\n二\r\n三")
    assert "正文没有改动。" in response.content.decode()
    assert fresh(story).edited_text == ""


def test_undo_takes_the_verdict_back(editor, alice):
    story = make_story(run=make_run())
    approve(story, by=alice)
    decide(editor, story, "undo")
    assert (fresh(story).verdict, fresh(story).visibility) == ("unreviewed", "private")


def test_a_page_that_is_out_of_date_decides_nothing(editor):
    story = make_story()
    reject(fresh(story), by=make_person("bob", group="editors"))
    response = decide(editor, story, "approve", seen="")
    assert "别人审过或举报过这个故事" in response.content.decode()
    assert fresh(story).verdict == "rejected"
    assert f'name="seen" value="{Review.objects.get().pk}"' in response.content.decode()


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("approve", {"reason": "长" * 501}),
        ("edit", {"text": ""}),
        ("edit", {"text": "一\0二"}),
        ("edit", {"text": "字" * 20_001}),
        ("explode", {}),
    ],
)
def test_bad_decisions_are_answered_with_the_page(editor, action, fields):
    story = make_story()
    response = decide(editor, story, action, **fields)
    assert response.status_code == 200
    assert 'class="errorlist' in response.content.decode()
    assert (Review.objects.count(), fresh(story).verdict) == (0, "unreviewed")


def test_next_opens_the_newest_that_waits(editor):
    make_story()
    story = make_story()
    make_story(state="failed")
    assert editor.get("/admin/stories/story/next/").headers["Location"] == page_of(story)
    Story.objects.all().delete()
    assert messages_of(editor.get("/admin/stories/story/next/", follow=True)) == ["没有待审的故事了。"]


# --- many at once -------------------------------------------------------------------------------------------


def act(client, action, stories, query="", **fields):
    fields = {"action": action, "_selected_action": [story.pk for story in stories]} | fields
    return client.post(f"{LIST}{query}", fields, follow=True)


def test_selected_stories_are_approved_and_the_rest_left(editor):
    chosen, other = make_story(), make_story()
    failed = make_story(state="failed")
    response = act(editor, "approve_selected", [chosen, failed])
    assert messages_of(response) == ["采纳了 1 篇待审的故事，其余的没有改动。"]
    assert [fresh(story).verdict for story in (chosen, other, failed)] == ["approved", *["unreviewed"] * 2]


def test_more_than_a_page_is_counted_and_confirmed(editor):
    run = make_run()
    stories = [make_story(run=run) for _ in range(21)]
    make_story()
    query = f"?run__id__exact={run.pk}"
    page = act(editor, "reject_selected", stories[:1], query, select_across="1").content.decode()
    assert "拒绝这 21 篇" in page
    assert Review.objects.count() == 0
    hidden = dict(re.findall(r'name="(action|select_across|index|confirmed)" value="(\w+)"', page))
    act(editor, hidden.pop("action"), stories[:1], query, reason="整批不要", **hidden)
    assert Review.objects.filter(decision="rejected", reason="整批不要").count() == 21
    assert run.stories.filter(verdict="rejected").count() == 21


def test_an_export_holds_the_selected_written_stories_and_the_label(editor):
    stories = [make_story(text="=1+1"), make_story(state="failed")]
    make_story(text="没有选")
    response = act(editor, "export_selected", stories)
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        csv, label = archive.read("stories.csv"), json.loads(archive.read("stories.csv.aigc.json"))
    assert csv.decode("utf-8-sig").splitlines()[1:] == ['"唐","隐形","轻松","\'=1+1","\'quoted"']
    assert (label["AIGC"]["Label"], label["rows"]) == ("1", 1)


def test_what_the_office_exports_it_imports_as_it_was(editor):
    """A downloaded file, opened and saved by a spreadsheet: no mark, other line ends, an empty column and row."""
    cells = [("+10力量", "-快跑！"), ("@所有人", "=奇遇="), ("'", "''"), ("念力", "'=引号开头")]
    stories = [make_story(super_power=power, text=text) for power, text in cells]
    response = act(editor, "export_selected", stories)
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        text = archive.read("stories.csv").decode("utf-8-sig")
    saved = text.replace("\n", ",\r\n") + ",,,,,\r\n"
    Story.objects.all().delete()
    file = SimpleUploadedFile("stories.csv", saved.encode())
    response = editor.post("/admin/stories/story/import/", {"file": file}, follow=True)
    assert messages_of(response) == ["导入了 4 篇故事。"]
    assert list(Story.objects.order_by("created_at", "pk").values_list("super_power", "text")) == cells


def test_a_file_is_imported_or_refused_with_its_sentence(editor, alice):
    good = "dynasty,super_power,story_type,story\n秦,龙卷风,勇敢,很久以前\n"

    def upload(text):
        file = SimpleUploadedFile("a.csv", text.encode())
        return editor.post("/admin/stories/story/import/", {"file": file, "approve": "on"}, follow=True)

    assert "第 3 行「story」列：故事正文是空的。" in upload(f"{good}秦,龙卷风,勇敢,\n").content.decode()
    assert Story.objects.count() == 0
    assert messages_of(upload(good)) == ["导入了 1 篇故事。"]
    assert (Story.objects.get().verdict, Review.objects.get().editor) == ("approved", alice)


# --- runs ---------------------------------------------------------------------------------------------------

ORDER = "/admin/stories/run/add/"


def order(client, **fields):
    fields = {
        "dynasties": ["唐", "宋"],
        "powers": ["隐形"],
        "types": ["轻松"],
        "new_types": "勇敢、辛苦",
        "repeat": 2,
        "temperature": "0.5",
    } | fields
    return client.post(ORDER, fields)


def quoted_in(response):
    return re.search(r'name="quoted" value="([^"]+)"', response.content.decode())[1]


@pytest.fixture
def model(db):
    make_ingredients()
    make_template()
    return fresh(make_model("gpt-4o-mini", input_price="0.15", output_price="0.60", training_price="3"))


def test_the_first_press_names_the_price_and_orders_nothing(editor, model):
    page = order(editor, model=model.pk).content.decode()
    assert "6 个配方 × 2 篇 = <strong>12</strong> 篇" in page
    assert "预计费用最多 <strong>$0.0" in page
    assert Run.objects.count() == 0


def test_the_second_press_starts_the_run_once(editor, model, alice, redis_server):
    quoted = quoted_in(order(editor, model=model.pk))
    first = order(editor, model=model.pk, quoted=quoted, confirm="yes", budget="")
    again = order(editor, model=model.pk, quoted=quoted, confirm="yes", budget="")
    run = Run.objects.get()
    assert first.headers["Location"] == again.headers["Location"] == f"/admin/stories/run/{run.pk}/change/"
    assert (run.state, run.created_by, run.stories.count()) == ("running", alice, 12)
    assert run.story_types == ["轻松", "勇敢", "辛苦"]
    assert run.budget == run.estimate > 0


def test_an_order_changed_after_its_price_is_priced_anew(editor, model):
    quoted = quoted_in(order(editor, model=model.pk))
    response = order(editor, model=model.pk, quoted=quoted, confirm="yes", repeat=50)
    assert "= <strong>300</strong> 篇" in response.content.decode()
    assert Run.objects.count() == 0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dynasties": []}, "请填写朝代。"),
        ({"new_powers": "隐" * 33}, "超能力最多 32 个字，这里有 33 个。"),
        ({"new_powers": "隐\u202e形"}, "超能力里不能有换行或控制字符。"),
        ({"repeat": 0}, "1"),
        ({"temperature": "nan"}, "输入一个数字。"),
        ({"budget": "-1"}, "0"),
        ({"model": 0}, "选择一个有效的选项"),
    ],
)
def test_bad_orders_are_answered_with_the_page(editor, model, fields, sentence):
    response = order(editor, **({"model": model.pk} | fields))
    assert response.status_code == 200
    errors = re.findall(r'class="errorlist".*?</ul>', response.content.decode(), re.DOTALL)
    assert len(errors) == 1
    assert sentence in errors[0]
    assert Run.objects.count() == 0


def test_a_giant_order_is_refused_at_the_first_press(editor, model):
    response = order(editor, model=model.pk, repeat=20_000)
    assert messages_of(response) == ["一个批次最多 20000 篇，这里是 120000 篇。"]
    assert Run.objects.count() == 0


def press_twice(alice, model):
    """Two parallel presses of the same order; the second comes while the first is at work."""
    arguments = {"dynasties": ["唐"], "powers": ["隐形"], "types": ["轻松"], "repeat": 1, "model": model}
    arguments |= {"temperature": 0.5, "budget": None, "by": alice}
    barrier = threading.Barrier(2)

    def press():
        barrier.wait()
        order_run(**arguments)
        connection.close()

    threads = [threading.Thread(target=press) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Run.objects.count()


@pytest.mark.django_db(transaction=True)
def test_two_parallel_presses_are_one_run(alice, model):
    assert press_twice(alice, model) == 1


@pytest.mark.django_db(transaction=True)
def test_presses_far_apart_are_two_runs(alice, model, monkeypatch):
    monkeypatch.setattr(orders, "SAME_PRESS", timedelta(seconds=-1))
    assert press_twice(alice, model) == 2


def test_a_runs_page_counts_its_stories_and_groups_its_errors(editor):
    run = make_run(budget=1_000_000, spent=250_000)
    for state in ("written", "queued", "failed", "failed"):
        make_story(run=run, state=state)
    page = editor.get(f"/admin/stories/run/{run.pk}/change/").content.decode()
    assert "3 / 4" in page
    assert '<progress max="4" value="3"' in page
    assert f"?run__id__exact={run.pk}&amp;state__exact=failed" in page
    assert "2 ×</span> 模型服务拒绝了（400：bad request）。" in page
    assert "已花费 <strong>$0.2500</strong>，预留 $0.0000，预算 $1.0000" in page


@pytest.mark.parametrize(("state", "renews"), [("running", True), ("paused", False), ("done", False)])
def test_only_a_live_run_renews_itself(editor, state, renews):
    run = make_run(state=state)
    page = editor.get(f"/admin/stories/run/{run.pk}/progress/").content.decode()
    assert ("hx-trigger" in page) is renews


def test_a_run_is_paused_resumed_retried_and_cancelled(editor, redis_server):
    run = make_run()
    make_story(run=run, state="failed")

    def press(action):
        response = editor.post(f"/admin/stories/run/{run.pk}/control/", {"action": action}, follow=True)
        return fresh(run).state, messages_of(response)

    assert press("pause") == ("paused", ["批次已暂停；正在写的会写完。"])
    assert str(fresh(run).pause_reason) == "alice 按了暂停。"
    assert press("resume") == ("running", ["批次接着写了。"])
    assert press("retry") == ("running", ["1 篇没写成的重新排队了。"])
    cancelled = editor.post(f"/admin/stories/run/{run.pk}/cancel/", follow=True)
    assert messages_of(cancelled) == ["批次已取消；正在写的会写完。"]
    assert (run.stories.get().state, run.stories.get().end_reason) == ("cancelled", "cancelled")
    assert press("resume")[0] == "cancelled"
    assert press("explode") == ("cancelled", ["不认识的操作。"])


def test_cancelling_a_run_asks_first_and_says_how_much_is_lost(editor):
    run = make_run()
    for state in ("queued", "queued", "queued", "writing", "written"):
        make_story(run=run, state=state)
    page = editor.get(f"/admin/stories/run/{run.pk}/change/").content.decode()
    assert f'href="/admin/stories/run/{run.pk}/cancel/"' in page
    assert 'value="cancel"' not in page
    asked = editor.get(f"/admin/stories/run/{run.pk}/cancel/").content.decode()
    assert "还没有写的 <strong>3</strong> 篇不再写。" in asked
    assert "正在写的 1 篇会写完。" in asked
    editor.post(f"/admin/stories/run/{run.pk}/control/", {"action": "cancel"})
    assert (fresh(run).state, run.stories.filter(state="cancelled").count()) == ("running", 0)
    editor.post(f"/admin/stories/run/{run.pk}/cancel/")
    assert (fresh(run).state, run.stories.filter(state="cancelled").count()) == ("cancelled", 3)
    again = editor.get(f"/admin/stories/run/{run.pk}/cancel/")
    assert again.headers["Location"] == f"/admin/stories/run/{run.pk}/change/"
    assert editor.get(again.headers["Location"]).content.decode().count("/cancel/") == 0


@pytest.mark.parametrize("is_batch", [False, True])
def test_what_a_provider_has_already_is_named_apart(editor, is_batch):
    run = make_run(is_batch=is_batch)
    make_story(run=run, state="writing")
    page = editor.get(f"/admin/stories/run/{run.pk}/cancel/").content.decode()
    assert ("已经交给对方的 1 篇" in page, "正在写的 1 篇会写完" in page) == (is_batch, not is_batch)


def test_a_cancelled_story_says_that_its_run_was_cancelled(editor):
    run = make_run()
    story = make_story(run=run, state="queued")
    editor.post(f"/admin/stories/run/{run.pk}/cancel/")
    for address in (LIST, page_of(story), story.get_absolute_url()):
        page = editor.get(address).content.decode().replace('data-why_stopped="被读者停止"', "")
        assert ("批次已取消" in page, "被读者停止" in page) == (True, False), address


# --- models, templates, ingredients -------------------------------------------------------------------------


def test_promoting_asks_first_and_can_be_rolled_back(trainer, provider):
    make_template()
    old, new = make_serving_model("old"), make_model("new")
    address = f"/admin/stories/languagemodel/{new.pk}/promote/"
    assert "以后读者的故事都由 <strong>new</strong> 来写" in trainer.get(address).content.decode()
    assert LanguageModel.objects.promoted().first() == old
    response = trainer.post(address, follow=True)
    assert messages_of(response)[0] == "读者的故事现在由「new」来写，之前是「old」。"
    assert LanguageModel.objects.promoted().first() == new
    trainer.post(f"/admin/stories/languagemodel/{old.pk}/promote/")
    assert LanguageModel.objects.promoted().first() == old


def test_a_trainer_changes_prices_and_nothing_else_of_a_model(trainer):
    model = make_model("gpt-4o-mini", input_price=None)
    trainer.post(
        f"/admin/stories/languagemodel/{model.pk}/change/",
        {
            "input_price": "0.3",
            "output_price": "1.2",
            "training_price": "3",
            "base_url": "http://evil",
            "name": "x",
        },
    )
    model = fresh(model)
    assert (str(model.input_price), model.name) == ("0.3000", "gpt-4o-mini")
    assert model.base_url != "http://evil"


def test_the_list_of_models_says_which_one_is_in_use(trainer, settings):
    make_model("other")
    base = make_model(settings.OPENAI_MODEL)
    page = trainer.get("/admin/stories/languagemodel/").content.decode()
    assert page.count(">在用</span>") == 1
    assert page.index(settings.OPENAI_MODEL) < page.index(">在用</span>")
    make_serving_model("tuned")
    assert trainer.get("/admin/stories/languagemodel/").content.decode().count(">在用</span>") == 1
    assert LanguageModel.objects.promoted().get().name == "tuned" != base.name


@pytest.fixture
def wording(alice):
    allowed = ("add_template", "change_template", "add_ingredient", "change_ingredient")
    alice.user_permissions.set(Permission.objects.filter(codename__in=allowed))


def test_a_used_template_stays_and_a_new_version_begins_with_its_words(editor, wording):
    template = make_template(name="t", system="s", user="{dynasty}{super_power}{story_type}")
    make_run(template=template)
    changed = {"name": "t", "system": "other", "user": template.user}
    assert editor.post(f"/admin/stories/template/{template.pk}/change/", changed).status_code == 403
    page = editor.get(f"/admin/stories/template/add/?from={template.pk}").content.decode()
    assert "{dynasty}{super_power}{story_type}</textarea>" in page
    assert editor.post("/admin/stories/template/add/", changed).status_code == 302
    assert list(Template.objects.filter(name="t").values_list("version", "system").order_by("version")) == [
        (1, "s"),
        (2, "other"),
    ]


def test_a_template_without_its_placeholders_is_refused(editor, wording):
    response = editor.post(
        "/admin/stories/template/add/", {"name": "t", "system": "s", "user": "写{dynasty}的故事"}
    )
    assert "用户消息里缺少 {super_power}、{story_type}。" in response.content.decode()


def test_an_ingredient_is_cleaned_like_a_readers(editor, wording):
    def add(name):
        return editor.post("/admin/stories/ingredient/add/", {"axis": "dynasty", "name": name, "position": 0})

    add(" 夏\u3000")
    assert Ingredient.objects.filter(name="夏").count() == 1
    assert "朝代里不能有逗号。" in add("夏,商").content.decode()


# --- who may do what ----------------------------------------------------------------------------------------

PAGES = [
    "/admin/",
    LIST,
    "/admin/stories/story/next/",
    "/admin/stories/story/import/",
    "/admin/stories/run/",
    ORDER,
    "/admin/stories/languagemodel/",
    "/admin/stories/template/",
    "/admin/stories/ingredient/",
    "/admin/stories/attempt/",
    "/admin/stories/spendday/",
    "/admin/stories/review/",
]


@pytest.mark.parametrize("address", PAGES)
def test_pages_are_for_staff_and_answer_editors(client, reader, alice, address):
    assert client.get(address).headers["Location"].startswith("/admin/login/")
    client.force_login(reader)
    assert client.get(address).headers["Location"].startswith("/admin/login/")
    client.force_login(alice)
    assert client.get(address).status_code in (200, 302)
    assert "login" not in client.get(address).headers.get("Location", "")


def posts():
    story, run, model = make_story(), make_run(state="running"), make_model("m")
    return {
        "review_story": [
            (reverse("admin:stories_story_decide", args=[story.pk]), {"action": "approve", "seen": ""}),
            ("/admin/stories/story/import/", {}),
        ],
        "add_run": [(ORDER, {})],
        "control_run": [
            (f"/admin/stories/run/{run.pk}/control/", {"action": "pause"}),
            (f"/admin/stories/run/{run.pk}/cancel/", {}),
        ],
        "promote_languagemodel": [(f"/admin/stories/languagemodel/{model.pk}/promote/", {})],
    }


def test_each_change_needs_its_own_permission(alice, client):
    changes = posts()
    client.force_login(alice)
    alice.groups.clear()
    views = Permission.objects.filter(content_type__app_label="stories", codename__startswith="view_")
    alice.user_permissions.set(views)
    for address, fields in [post for group in changes.values() for post in group]:
        assert client.post(address, fields).status_code == 403
    act(client, "approve_selected", list(Story.objects.all()))
    assert Review.objects.count() == 0
    assert Run.objects.filter(state="running").count() == 1
    assert not LanguageModel.objects.promoted().exists()


def test_an_editor_may_not_promote(editor):
    model = make_model("m")
    assert editor.post(f"/admin/stories/languagemodel/{model.pk}/promote/").status_code == 403
    assert not LanguageModel.objects.promoted().exists()


def test_no_story_is_added_changed_or_deleted_by_hand(client):
    root = make_person("root", group="editors")
    root.is_superuser = True
    root.save()
    client.force_login(root)
    story = make_story()
    assert client.get("/admin/stories/story/add/").status_code == 403
    assert client.post(page_of(story), {"text": "x"}).status_code == 405
    assert client.post(f"/admin/stories/story/{story.pk}/delete/", {"post": "yes"}).status_code == 403
    act(client, "delete_selected", [story])
    assert fresh(story).text == story.text


def test_unknown_rows_are_not_found(editor):
    assert editor.get("/admin/stories/story/no-such-story/change/").status_code == 404
    assert editor.get("/admin/stories/run/999/change/").status_code == 404
    assert editor.get("/admin/stories/run/999/progress/").status_code == 404


def test_the_first_page_says_what_waits(editor):
    make_story()
    make_story(verdict="approved")
    make_run()
    page = re.sub(r"<[^>]+>|\s", "", editor.get("/admin/").content.decode())
    assert "1篇待审" in page
    assert "1篇已采纳" in page
    assert "1个批次在写" in page


def test_nobody_waits_for_redis_that_is_away(editor, model):
    quoted = quoted_in(order(editor, model=model.pk))
    started = timezone.now()
    order(editor, model=model.pk, quoted=quoted, confirm="yes")
    assert timezone.now() - started < timedelta(seconds=5)
    assert Run.objects.get().state == "running"


# --- what no list can read ------------------------------------------------------------------------------

NONSENSE = ["x", "9" * 50, "7c9e6679-7425-40de-944b-e07fc1f90ae7\0", ""]


@pytest.mark.parametrize("chosen", NONSENSE)
@pytest.mark.parametrize("model", ["stories_story", "stories_attempt", "auth_user"])
def test_a_choice_that_is_no_key_changes_nothing_and_says_so(client, db, model, chosen):
    client.force_login(User.objects.create_superuser("root"))
    action = {"stories_story": "reject_selected", "stories_attempt": "mark_billed"}.get(
        model, "delete_selected"
    )
    address = reverse(f"admin:{model}_changelist")

    page = client.post(address, {"action": action, "_selected_action": ["1", chosen]}, follow=True)

    assert page.status_code == 200
    assert "所选的不是这里的行，什么也没有改动。" in page.content.decode()
    assert User.objects.count() == 1


@pytest.mark.both_databases
@pytest.mark.parametrize("query", ["run__id__in=x", "run__id__exact=x", "state__range=1", "state__range="])
def test_a_filter_that_is_no_filter_shows_the_list_without_it(client, alice, query):
    story = make_story()
    client.force_login(alice)
    page = client.get(f"/admin/stories/story/?{query}", follow=True)

    assert page.status_code == 200
    assert str(story.pk) in page.content.decode()
    assert client.get(f"/admin/stories/story/next/?_changelist_filters={query}").status_code == 302


@pytest.mark.both_databases
@pytest.mark.parametrize("lookup", ["run__id__exact", "run__id__in", "language_model__gte", "language_model"])
def test_a_filter_of_fifty_digits_is_a_page(client, alice, lookup):
    """SQLite can't take the number and shows the list without it; PostgreSQL compares it, and finds nothing."""
    make_story()
    client.force_login(alice)

    assert client.get(f"/admin/stories/story/?{lookup}={'9' * 50}", follow=True).status_code == 200
