"""Who may open what, on every address the site has; and what no page may ever do."""

import asyncio
import re
import uuid
from collections.abc import Iterator

import pytest
import websockets
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stories.consumers import MAX_MESSAGES
from stories.models import Attempt, LanguageModel, ProviderAccount, Review, Run, Story
from tests.factories import (
    make_approved_story,
    make_attempt,
    make_dataset,
    make_job,
    make_review,
    make_run,
    make_serving_model,
    make_story,
    make_template,
)

LOGIN = "/admin/login/"
# The readers' pages: what everyone gets for a library story, and for someone else's private one.
PUBLIC = {
    "stories:library",
    "stories:new",
    "stories:mine",
    "stories:login",
    "stories:signup",
    "stories:live",
    "stories:ready",
    "set_language",
    "stories:logout",
}
OF_A_STORY = {"stories:story", "stories:text"}
# Acts on a story: POSTs, and on a private one its reader's and the staff's alone.
ACTS = {
    f"stories:{act}"
    for act in ("stop", "continue", "retry", "again", "rate", "finish", "report", "offer", "share", "unshare")
}
# Admin pages that need no more than an account of the staff.
ANY_STAFF = {
    "admin:index",
    "admin:logout",
    "admin:password_change",
    "admin:password_change_done",
    "admin:jsi18n",
    "admin:autocomplete",
    "admin:view_on_site",
    "admin:app_list",
}
OPEN_TO_ALL = {"admin:login"}
# What trainers may do and editors may not, beside everything of finetuning.
TRAINERS_ALONE = {
    *("admin:stories_languagemodel_promote", "admin:stories_languagemodel_change"),
    "admin:stories_provideraccount_paid",
}
NOBODY = re.compile(r"admin:(auth_|axes_|.*_delete$|stories_(story|review|attempt|spendday)_add$)")


def walk(resolver: URLResolver, prefix: str = "", space: str = "") -> Iterator[tuple[str, str]]:
    """Every address with its name: ("stories:story", "stories/<uuid:pk>/")."""
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{pattern.namespace}:" if pattern.namespace else ""
            yield from walk(pattern, route, space + inner)
        elif isinstance(pattern, URLPattern):
            yield space + (pattern.name or "unnamed"), route


def addresses(**values: object) -> list[tuple[str, str]]:
    """Every named address of the site with its blanks filled in; the admin's catch-all is left out."""
    found = []
    for name, route in walk(get_resolver()):
        if name in ("admin:unnamed", "unnamed"):
            continue
        path = re.sub(r"^\^|\\Z|\$|\\", "", route)
        path = re.sub(r"\(\?P<app_label>.*?\)", "stories", path)
        key = values["story"] if name.startswith("admin:stories_story_") else values["number"]
        path = re.sub(r"<path:object_id>|<int:\w+>|<str:\w+>|<slug:\w+>", str(key), path)
        found.append((name, "/" + re.sub(r"<uuid:\w+>", str(values["story"]), path)))
    return found


def client_of(person: User | None) -> Client:
    client = Client()
    if person:
        client.force_login(person)
    return client


def status_for(person: User | None, path: str, *, method: str = "get") -> int:
    status: int = getattr(client_of(person), method)(path).status_code
    return status


def visit(person: User | None, everywhere: list[tuple[str, str]], *, method: str = "get") -> dict[str, str]:
    """Every address by name, with what the person met there: "200", "302 /admin/login/"."""
    client = client_of(person)
    met = {}
    for name, path in everywhere:
        if not name.endswith(":logout"):
            response = getattr(client, method)(path)
            met[name] = (
                f"{response.status_code} {response.headers.get('Location', '').partition('?')[0]}".strip()
            )
    return met


# What an answer says to someone who has no business there; the last of a row that is not there.
TURNED_AWAY = {"403", "404", "405", f"302 {LOGIN}", "302 /admin/"}


@pytest.fixture
def private(db):
    """A story of someone else, with a row of every kind beside it."""
    model, template = make_serving_model(pk=1), make_template(pk=1)
    make_run(pk=1, language_model=model, template=template)
    story = make_story(language_model=model, template=template, reader_key="f" * 32)
    make_review(story, pk=1, editor=User.objects.create_user("someone", is_staff=True))
    make_attempt(story, pk=1)
    ProviderAccount.objects.create(pk=1, base_url="https://empty.example/v1")
    make_job(pk=1, language_model=model, dataset=make_dataset(pk=1, stories=[story]))
    return story


@pytest.fixture
def everywhere(private):
    return addresses(story=private.pk, number=1)


# --- every address --------------------------------------------------------------------------------------


def test_every_address_is_known_to_this_file(everywhere):
    known = PUBLIC | OF_A_STORY | ACTS | ANY_STAFF | OPEN_TO_ALL
    strangers = [name for name, _ in everywhere if name not in known]

    assert [name for name in strangers if not re.match(r"admin:(stories|finetuning|auth|axes)_", name)] == []
    assert len(everywhere) > 40


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("who", ["anonymous", "reader"])
def test_the_admin_is_closed_to_anonymous_and_readers(everywhere, reader, who, method):
    admin = [
        (name, path) for name, path in everywhere if name.startswith("admin:") and name not in OPEN_TO_ALL
    ]
    met = visit(reader if who == "reader" else None, admin, method=method)

    assert {name: answer for name, answer in met.items() if answer not in TURNED_AWAY} == {}
    assert len(met) > 40


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_editor_is_turned_away_from_what_is_the_trainers(everywhere, alice, method):
    theirs = [
        (name, path)
        for name, path in everywhere
        if name in TRAINERS_ALONE or name.startswith("admin:finetuning_") or NOBODY.match(name)
    ]
    met = visit(alice, theirs, method=method)
    if method == "get":  # reading a model's page is an editor's right, changing it is not
        del met["admin:stories_languagemodel_change"]

    assert {name: answer for name, answer in met.items() if answer not in TURNED_AWAY} == {}
    assert len(met) > 10


def test_not_even_a_trainer_adds_or_deletes_what_the_domain_makes(everywhere, tom):
    met = visit(tom, [(name, path) for name, path in everywhere if NOBODY.match(name)])

    assert {name: answer for name, answer in met.items() if answer not in TURNED_AWAY} == {}


def test_staff_reach_their_own_pages(alice, tom, private):
    pages = [
        "/admin/",
        "/admin/stories/story/",
        "/admin/stories/run/",
        f"/admin/stories/story/{private.pk}/change/",
    ]

    assert [status_for(alice, page) for page in pages] == [200, 200, 200, 200]
    pages += ["/admin/finetuning/job/", "/admin/finetuning/dataset/"]
    assert [status_for(tom, page) for page in pages] == [200] * 6
    assert status_for(alice, "/admin/finetuning/job/") == 403


@pytest.mark.parametrize("who", ["anonymous", "reader", "alice", "tom"])
def test_no_page_breaks_for_anyone(everywhere, request, who):
    """A GET on every address: whatever it says, it is never an error of ours."""
    pages = [(name, path) for name, path in everywhere if name != "stories:ready"]
    met = visit(None if who == "anonymous" else request.getfixturevalue(who), pages)

    assert {name: answer for name, answer in met.items() if answer.startswith("5")} == {}


def test_a_private_story_is_its_readers_and_the_staffs_alone(private, reader, alice):
    for name, path in addresses(story=private.pk, number=1):
        if name in OF_A_STORY:
            assert [status_for(person, path) for person in (None, reader, alice)] == [403, 403, 200]
    public = make_approved_story()
    assert status_for(None, public.get_absolute_url()) == 200


@pytest.fixture
def clerk(db):
    """An account of the staff that no group and no permission was given to."""
    return User.objects.create_user("clerk", password="clerk", is_staff=True)


def test_staff_without_a_right_reads_and_acts_on_nothing_private(private, clerk):
    met = {
        name: status_for(clerk, path, method="post" if name in ACTS else "get")
        for name, path in addresses(story=private.pk, number=1)
        if name in OF_A_STORY | ACTS
    }

    assert met == dict.fromkeys(OF_A_STORY | ACTS, 403)
    assert status_for(clerk, "/admin/") == 200


def test_staff_who_may_look_may_read_but_not_act(private, clerk):
    clerk.user_permissions.add(Permission.objects.get(codename="view_story"))
    address = private.get_absolute_url()

    assert [status_for(clerk, address), status_for(clerk, f"{address}stop/", method="post")] == [200, 403]
    clerk.user_permissions.add(Permission.objects.get(codename="review_story"))
    assert status_for(User.objects.get(pk=clerk.pk), f"{address}stop/", method="post") == 302


def test_what_went_wrong_inside_is_for_who_may_look(private, clerk, alice):
    shared = make_story(state="failed", visibility="link", error="internal detail")

    pages = [client_of(person).get(shared.get_absolute_url()).content.decode() for person in (clerk, alice)]
    assert ["internal detail" in page for page in pages] == [False, True]


def test_a_story_that_is_open_to_all_asks_for_nobodys_rights(clerk):
    """Rights are two queries, made once and only where the story is not the reader's anyway."""
    public, client = make_approved_story(), client_of(clerk)
    with CaptureQueriesContext(connection) as seen:
        client.get(f"/stories/{public.pk}.txt")

    assert [query["sql"] for query in seen if "auth_permission" in query["sql"]] == []


def test_only_its_owner_or_staff_can_act_on_a_story(private, reader):
    for name, path in addresses(story=private.pk, number=1):
        if name in ACTS:
            assert [status_for(person, path, method="post") for person in (None, reader)] == [403, 403]
            assert status_for(None, path) == 405
    private.refresh_from_db()
    assert (private.state, private.stop_requested, private.versions.count()) == ("written", False, 0)


def test_nothing_changes_when_strangers_post_everywhere(everywhere, reader):
    before = [model.objects.count() for model in (Story, Run, Review, Attempt, LanguageModel, User)]
    promoted = list(LanguageModel.objects.values_list("pk", "promoted_at"))
    for person in (None, reader):
        visit(person, [(name, path) for name, path in everywhere if name != "stories:new"], method="post")

    assert [model.objects.count() for model in (Story, Run, Review, Attempt, LanguageModel, User)] == before
    assert list(LanguageModel.objects.values_list("pk", "promoted_at")) == promoted


def test_a_post_without_a_csrf_token_is_refused(alice, private):
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    paths = [path for name, path in addresses(story=private.pk, number=1) if name in ACTS | {"stories:new"}]

    assert [client.post(path).status_code for path in paths] == [403] * (len(ACTS) + 1)


def test_a_password_cannot_be_guessed(alice):
    client = Client(REMOTE_ADDR="192.0.2.7")
    tries = [
        client.post(LOGIN, {"username": "alice", "password": f"guess {n}"}).status_code for n in range(11)
    ]
    right = client.post(LOGIN, {"username": "alice", "password": "alice"})

    assert set(tries[:9]) == {200} and tries[10] == right.status_code == 429
    elsewhere = Client(REMOTE_ADDR="192.0.2.8").post(LOGIN, {"username": "alice", "password": "alice"})
    assert elsewhere.status_code == 302


# --- what every answer carries --------------------------------------------------------------------------

PAGES = ["/", "/stories/new/", "/stories/mine/", "/login/", LOGIN, "/nowhere/", "/health/live"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_forbids_inline_code_and_frames(path, db):
    headers = Client().get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))

    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_the_admins_pages_carry_the_same_policy(tom):
    client = Client()
    client.force_login(tom)

    for path in ("/admin/", "/admin/stories/story/", "/admin/finetuning/job/"):
        assert "unsafe" not in client.get(path).headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/stories/new/", "/stories/mine/", "/login/", "/nowhere/", "/admin/"])
def test_no_page_carries_code_that_the_policy_would_stop(path, tom):
    client = Client()
    if path == "/admin/":
        client.force_login(tom)
    page = client.get(path).content.decode()

    assert re.findall(r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")[^>]*>", page) == []
    assert re.findall(r"<[^>]*\s(?:on[a-z]+|style)=[^>]*>", page) == []


def test_cookies_are_out_of_reach_of_scripts(db, provider):
    make_serving_model()
    make_template()
    client = Client()
    response = client.post(
        "/stories/new/", {"dynasty": "宋", "super_power": "发射激光", "story_type": "艰难"}
    )
    User.objects.create_user("carol", password="carol")
    login = client.post("/login/", {"username": "carol", "password": "carol"})

    for cookie in (response.cookies["reader"], login.cookies["sessionid"]):
        assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


def test_a_changed_reader_cookie_is_no_one(db):
    story = make_story(reader_key="a" * 32)
    client = Client()
    client.cookies["reader"] = "a" * 32

    assert client.get(story.get_absolute_url()).status_code == 403


# --- text is text ---------------------------------------------------------------------------------------

SCRIPT = "<script>alert(1)</script>"
HOSTILE = SCRIPT + '"><img src=x onerror=alert(1)>' + "{{ 7|add:7 }}' onclick='alert(1)"


def test_ingredients_and_text_are_inert_on_every_page(alice):
    story = make_approved_story(dynasty=SCRIPT, super_power='"onload="x', story_type="{{ 7 }}", text=HOSTILE)
    make_review(story, editor=alice, reason=HOSTILE)
    client = Client()
    client.force_login(alice)
    pages = [
        "/",
        story.get_absolute_url(),
        "/stories/mine/",
        "/admin/stories/story/",
        "/admin/stories/review/",
    ]
    pages += [f"/admin/stories/story/{story.pk}/change/", f"/stories/new/?dynasty={SCRIPT}"]

    for path in pages:
        page = client.get(path).content.decode()
        assert SCRIPT not in page and "<img src=x" not in page and '"onload="x' not in page, path
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in client.get("/").content.decode()


def test_the_plain_text_is_served_as_nothing_else(db):
    story = make_approved_story(text=HOSTILE)
    response = Client().get(f"/stories/{story.pk}.txt")

    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert HOSTILE in response.content.decode()


@pytest.mark.parametrize(
    "bad", ["", "唐\n宋", "唐\x00", "唐,宋", "长" * 33, "\u202e唐", "唐\ud800"[:1] + "\u2028"]
)
def test_a_bad_ingredient_is_an_answer_not_an_accident(bad, db):
    make_serving_model()
    form = {"dynasty": bad, "super_power": "隐形", "story_type": "轻松"}
    response = Client().post("/stories/new/", form)

    assert response.status_code == 422
    assert Story.objects.count() == 0


# --- the socket -----------------------------------------------------------------------------------------


async def closing_code(url: str, **options: object) -> int | None:
    async with websockets.connect(url, **options) as socket:
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None
    return None


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1", "null", "http://127.0.0.1.evil.example"]
)
def test_a_foreign_page_cannot_open_the_socket(web, origin):
    story = make_approved_story()
    url = f"{web.socket_url}/ws/stories/{story.pk}/"
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(closing_code(url, origin=origin))

    assert refused.value.response.status_code == 403


def test_our_own_page_can(web):
    story = make_approved_story()
    url = f"{web.socket_url}/ws/stories/{story.pk}/"

    assert asyncio.run(closing_code(url, origin=web.url)) is None


def test_an_unknown_story_and_someone_elses_are_told_apart_by_code_alone(web):
    private = make_story(reader_key="f" * 32)
    url = f"{web.socket_url}/ws/stories/"

    assert asyncio.run(closing_code(f"{url}{private.pk}/")) == 4403
    assert asyncio.run(closing_code(f"{url}{uuid.uuid4()}/")) == 4404


def session_of(person: User) -> dict[str, str]:
    client = client_of(person)
    return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


def test_the_socket_of_a_private_story_is_closed_to_staff_without_a_right(web):
    clerk = User.objects.create_user("clerk", is_staff=True)
    private = make_story(reader_key="f" * 32)
    url = f"{web.socket_url}/ws/stories/{private.pk}/"

    assert asyncio.run(closing_code(url, additional_headers=session_of(clerk))) == 4403
    clerk.user_permissions.add(Permission.objects.get(codename="view_story"))
    assert asyncio.run(closing_code(url, additional_headers=session_of(clerk))) is None


def test_who_may_only_look_cannot_stop_a_story_by_its_socket(web):
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_story"))
    private = make_story(state="queued", reader_key="f" * 32)
    url = f"{web.socket_url}/ws/stories/{private.pk}/"

    async def ask_to_stop(cookie: dict[str, str]) -> int:
        """Says stop, and then too much: who is shown the door for that was heard out before."""
        async with websockets.connect(url, additional_headers=cookie) as opened:
            with pytest.raises(ConnectionClosed) as closed:
                for message in ['{"type":"stop"}', *["x"] * MAX_MESSAGES]:
                    await opened.send(message)
                while True:
                    await asyncio.wait_for(opened.recv(), 10)
            return closed.value.rcvd.code if closed.value.rcvd else 0

    assert asyncio.run(ask_to_stop(session_of(clerk))) == 1008
    assert Story.objects.get(pk=private.pk).state == "queued"
    clerk.user_permissions.add(Permission.objects.get(codename="review_story"))
    asyncio.run(ask_to_stop(session_of(clerk)))
    assert Story.objects.get(pk=private.pk).state == "cancelled"


def test_a_frame_of_two_mebibytes_closes_its_own_socket_alone(web):
    story = make_story(state="writing", visibility="link")
    url = f"{web.socket_url}/ws/stories/{story.pk}/"

    async def flood() -> tuple[int | None, str]:
        async with websockets.connect(url) as calm, websockets.connect(url) as loud:
            await calm.recv()
            with pytest.raises(ConnectionClosed) as closed:
                await loud.send("x" * (2 << 20))
                while True:
                    await loud.recv()
            await asyncio.wait_for(await calm.ping(), 5)
            return closed.value.rcvd.code if closed.value.rcvd else None, calm.state.name

    assert asyncio.run(flood()) == (1009, "OPEN")
