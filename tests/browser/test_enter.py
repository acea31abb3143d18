"""Enter in a field decides nothing, on any page: every address of the site in a real browser, also without scripts.

The exceptions are forms that have one purpose and are left by Enter everywhere: signing in, asking for a story,
and searching, which changes nothing.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from playwright.sync_api import Page, expect

from finetuning.models import Dataset, Job
from stories.models import Ingredient, LanguageModel, Review, Run, Story, Template
from tests.factories import (
    make_approved_story,
    make_attempt,
    make_dataset,
    make_ingredients,
    make_job,
    make_model,
    make_review,
    make_run,
    make_serving_model,
    make_story,
    make_template,
)
from tests.sites import Web
from tests.system.test_security import addresses

pytestmark = pytest.mark.django_db(transaction=True)
SIGNING_IN = {
    "admin:login",
    "admin:password_change",
    "admin:auth_user_password_change",
    "stories:login",
    "stories:signup",
}
ASKING = {"stories:new"}
# Pages with fields that the walk must have met, or it did not walk.
MET = {
    *("admin:stories_story_change", "admin:stories_story_changelist", "admin:stories_story_import"),
    *("admin:stories_run_add", "admin:stories_languagemodel_change", "admin:stories_ingredient_change"),
    *("admin:stories_ingredient_add", "admin:stories_template_add", "admin:stories_attempt_changelist"),
    *("admin:finetuning_dataset_add", "admin:finetuning_job_add", "admin:finetuning_job_changelist"),
    *("admin:auth_user_add", "admin:auth_user_change", "admin:auth_group_change", "stories:library"),
}
KEPT = (Story, Run, Review, LanguageModel, Ingredient, Template, Dataset, Job, User)
# Makes every form's submission a line in a list: "method label". A field that is not filled in must not hide one.
RECORD = """() => {
  window.sent = [];
  for (const form of document.forms) form.noValidate = true;
  for (const one of document.querySelectorAll("details")) one.open = true;
  document.addEventListener("submit", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const by = event.submitter;
    const method = by?.getAttribute("formmethod") || event.target.getAttribute("method") || "get";
    if (method !== "get" && method !== "dialog") window.sent.push(`${method} ${by?.textContent.trim()}`);
  }, true);
}"""
FIELDS = "form input:not([type=hidden], [type=submit], [type=button], [type=file]), form select"


def press_enter_everywhere(page: Page) -> tuple[int, list[str]]:
    """How many fields there were, and what a form would have sent: the press and its button."""
    page.evaluate(RECORD)
    pressed, sent = 0, []
    for field in page.locator(FIELDS).all():
        if not field.is_visible():
            continue
        field.focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")  # a list of choices that opened
        pressed += 1
        name = field.get_attribute("name")
        sent += [f"{name}: {one}" for one in page.evaluate("window.sent.splice(0)")]
    return pressed, sent


@pytest.fixture
def root(db: None) -> User:
    """Who sees every page."""
    Group.objects.create(pk=1, name="first")
    return User.objects.create_superuser("root", password="root", pk=1)


@pytest.fixture
def office(page: Page, web: Web, root: User) -> Page:
    return sign_in(page, web, root)


def sign_in(page: Page, web: Web, person: User) -> Page:
    client = Client()
    client.force_login(person)
    cookie = client.cookies["sessionid"]
    page.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": web.url}])
    return page


@pytest.fixture
def stocked(root: User) -> Story:
    """A row of every kind under the key 1, and a story that waits."""
    make_ingredients()
    Ingredient.objects.get_or_create(pk=1, defaults={"axis": "dynasty", "name": "五代", "position": 90})
    model, template = make_serving_model(pk=1), make_template(pk=1)
    make_model("another")
    run = make_run(pk=1, language_model=model, template=template)
    story = make_story(language_model=model, template=template, run=run)
    make_review(make_story(), pk=1, editor=root)
    make_attempt(story, pk=1)
    approved = [make_approved_story(run=run, text=f"第{number}个故事。") for number in range(12)]
    make_job(pk=1, language_model=model, dataset=make_dataset(pk=1, stories=approved))
    return story


@pytest.fixture
def rows(stocked: Story) -> Iterator[None]:
    """Fails if any row of any kind that people decide about is different afterwards."""
    before = _rows()
    yield
    assert _rows() == before


def _rows() -> list[Any]:
    # A session's own traces are no decision.
    fields = {User: ("pk", "password", "is_staff")}
    return [list(kind.objects.order_by("pk").values_list(*fields.get(kind, ()))) for kind in KEPT]


@pytest.mark.parametrize("part", ["admin:stories_", "admin:finetuning_", ""])
def test_enter_in_any_field_of_any_page_sends_nothing(
    part: str, office: Page, web: Web, stocked: Story, rows: None, root: User
) -> None:
    client, met, sent = Client(), set(), {}
    client.force_login(root)
    parts = ("admin:stories_", "admin:finetuning_")
    for name, path in addresses(story=stocked.pk, number=1):
        if name in SIGNING_IN | ASKING or not name.startswith(part) or (not part and name.startswith(parts)):
            continue
        if name.endswith(":logout") or not _has_fields(client, path):
            continue
        office.goto(web.url + path)
        pressed, found = press_enter_everywhere(office)
        met |= {name} if pressed else set()
        sent |= {path: found} if found else {}
    assert sent == {}
    mine = {name for name in MET if name.startswith(part) and (part or not name.startswith(parts))}
    assert mine - met == set()


def _has_fields(client: Client, path: str) -> bool:
    response = client.get(path, follow=True)
    is_page = response.headers.get("Content-Type", "").startswith("text/html") and not response.streaming
    return is_page and b"<form" in response.content


def test_enter_on_a_page_that_shows_a_price_starts_nothing(
    office: Page, web: Web, stocked: Story, rows: None
) -> None:
    """The first button there is the one that starts it."""
    steps = {
        "/admin/stories/run/add/": ("先估价", "就这样，开始写"),
        "/admin/finetuning/dataset/add/": ("先看看有多少", "就这样，冻结"),
        "/admin/finetuning/job/add/": ("先估价", "开始训练"),
    }
    for path, (first, second) in steps.items():
        office.goto(web.url + path)
        if path == "/admin/stories/run/add/":
            for tick in ("唐", "隐形", "轻松"):
                office.get_by_label(tick, exact=True).check()
        office.get_by_role("button", name=first).click()
        expect(office.get_by_role("button", name=second)).to_be_visible()
        pressed, sent = press_enter_everywhere(office)
        assert (pressed > 3, sent) == (True, []), path


def test_enter_in_the_reason_for_many_stories_decides_on_none(office: Page, web: Web, stocked: Story) -> None:
    waiting = [make_story(text=f"待审{number}") for number in range(25)]
    office.goto(f"{web.url}/admin/stories/story/?verdict__exact=unreviewed")
    office.locator("#action-toggle").check()
    office.locator(".question a").click()
    office.locator("select[name=action]").select_option("reject_selected")
    office.locator("button[name=index]").click()
    expect(office.get_by_label("理由")).to_be_visible()
    assert press_enter_everywhere(office) == (1, [])
    assert Review.objects.filter(story__in=waiting).count() == 0


@pytest.mark.parametrize("scripts", [True, False])
def test_a_reason_and_enter_do_not_approve(browser: Any, web: Web, alice: User, scripts: bool) -> None:
    """The trap itself, with nothing in between; then the button that was meant."""
    story = make_story(run=make_run())
    context = browser.new_context(java_script_enabled=scripts, locale="zh-CN")
    page = sign_in(context.new_page(), web, alice)
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.goto(f"{web.url}/admin/stories/story/{story.pk}/change/")
    page.get_by_label("理由（可不填）").fill("不到三百字")
    page.keyboard.press("Enter")
    page.get_by_text("编辑正文").click()
    page.get_by_label("为什么改").fill("名字")
    page.keyboard.press("Enter")
    assert posts == []
    page.get_by_role("button", name="拒绝").click()
    expect(page.locator(".history")).to_contain_text("不到三百字")
    assert list(Review.objects.values_list("decision", "reason")) == [("rejected", "不到三百字")]
    context.close()


def test_enter_asks_for_the_story_and_for_nothing_else(page: Page, web: Web, stocked: Story) -> None:
    page.goto(f"{web.url}/stories/new/")
    pressed, sent = press_enter_everywhere(page)
    assert (pressed > 3, set(sent)) == (True, {one for one in sent if one.endswith(": post 开始写")})
    assert len(sent) == pressed


def test_the_walk_would_see_a_form_that_decides(office: Page, web: Web, stocked: Story) -> None:
    """The negative control: without the button that does nothing, Enter approves."""
    office.goto(f"{web.url}/admin/stories/story/{stocked.pk}/change/")
    office.evaluate("document.querySelector('[data-review] [formmethod=dialog]').remove()")
    _pressed, sent = press_enter_everywhere(office)
    assert "reason: post 采纳" in sent
