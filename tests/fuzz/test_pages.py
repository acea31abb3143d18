"""Every route, person, parameter, header, charset and method: whatever is sent, it is never an error of ours."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client
from django.urls import get_resolver, reverse

from stories.models import Story
from tests.factories import (
    make_approved_story,
    make_attempt,
    make_dataset,
    make_ingredients,
    make_job,
    make_person,
    make_review,
    make_run,
    make_serving_model,
    make_story,
    make_template,
)  # fmt: skip
from tests.fuzz import odd
from tests.fuzz.odd import Request, form, one_by_one, with_bodies, with_headers
from tests.system.test_security import walk

pytestmark = [
    pytest.mark.django_db,
    # A date without a zone in a filter of the admin: Django reads it as local time, and says so.
    pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime:RuntimeWarning"),
]
PEOPLE = ["anonymous", "reader", "editor", "trainer", "root"]
UNREADY = re.compile(r"^/health/ready")  # nothing else of the site runs in this process
KEY = "f" * 32
NUMBER = 700_001  # beyond what a sequence gives out here
# What a request may say that no page has as a field: lists, filters, ways back.
PARAMETERS = [
    *(
        "q",
        "p",
        "o",
        "all",
        "e",
        "after",
        "order",
        "next",
        "_changelist_filters",
        "_popup",
        "_to_field",
        "random",
    ),
    *("dynasty", "super_power", "story_type", "reports", "flag", "id", "pk", "id__in", "ordering"),
]
GOOD = {"username": "root", "password": "wrong", "dynasty": "唐", "super_power": "隐形", "story_type": "轻松"}


@pytest.fixture
def story(db: None, provider: Any) -> Story:
    """A reader's story with a row of every kind around it, each with key `NUMBER` where keys are numbers."""
    model, template = make_serving_model(pk=NUMBER), make_template(pk=NUMBER)
    make_ingredients()
    run = make_run(pk=NUMBER, language_model=model, template=template)
    story = make_story(language_model=model, template=template, reader_key=KEY)
    editor = make_person("somebody", group="editors")
    make_review(story, pk=NUMBER, editor=editor)
    make_attempt(story, pk=NUMBER)
    make_approved_story(run=run, language_model=model, template=template)
    make_approved_story(language_model=model, template=template, text="唐" * 40)
    make_job(pk=NUMBER, language_model=model, dataset=make_dataset(pk=NUMBER, stories=[story]))
    return story


@pytest.fixture
def person(request: Any, db: None) -> User | None:
    who = request.param
    if who == "anonymous":
        return None
    if who == "root":
        return User.objects.create_superuser("root", password="root")
    return make_person(who, group={"editor": "editors", "trainer": "trainers"}.get(who, ""))


def routes(
    story: Story, *, number: str = str(NUMBER), key: str = "", word: str = "stories"
) -> list[tuple[str, str]]:
    """Every address of the site with its blanks filled in, the admin's catch-all with a word."""
    found = []
    for name, route in walk(get_resolver()):
        path = re.sub(r"^\^|\\Z|\$|\\|\?P<url>|\.\*", "", route)
        path = re.sub(r"\(\?P<app_label>.*?\)", word, path)
        row = key or (str(story.pk) if name.startswith("admin:stories_story_") else number)
        path = re.sub(r"<path:object_id>|<int:\w+>|<str:\w+>|<slug:\w+>", row.replace("\\", r"\\"), path)
        path = re.sub(r"<uuid:\w+>", key or str(story.pk), path).replace("()", "nowhere")
        found.append((name, "/" + path))
    return found


def send(client: Client, request: Request) -> int:
    """The status of the answer; all that it changed is undone."""
    with transaction.atomic():
        meta = {"QUERY_STRING": request.query, "headers": request.headers}
        answer = client.generic(request.method, request.path, request.body, request.kind, **meta)  # type: ignore[arg-type]
        transaction.set_rollback(True)
    return answer.status_code


def sample(requests: list[Request], *, most: int, seed: str) -> list[Request]:
    """That many of them, the same in every run; on PostgreSQL, where each takes three times as long, a third."""
    return odd.sample(requests, most=most if connection.vendor == "sqlite" else most // 3, seed=seed)


def broken(person: User | None, requests: Iterable[Request]) -> dict[str, str]:
    """What was answered with an error of ours, by request."""
    wrong = {}
    client = Client()
    if person:
        client.force_login(person)
    cookies = client.cookies.copy()
    for request in requests:
        client.cookies = cookies.copy()
        try:
            status = send(client, request)
        except Exception as error:
            wrong[str(request)] = f"{type(error).__name__}: {str(error)[:200]}"
        else:
            if status >= 500 and not UNREADY.match(request.path):
                wrong[str(request)] = str(status)
    return wrong


def admin_lists() -> list[tuple[str, Any]]:
    """The address of each of the admin's lists, with what it is made of."""
    return [
        (reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"), page)
        for model, page in sorted(admin.site._registry.items(), key=lambda pair: pair[0]._meta.label)
    ]


def lookups_of(page: Any) -> Iterator[str]:
    """The parameters that a list reads: its filters with every lookup Django would try."""
    for item in page.list_filter:
        name = item[0] if isinstance(item, tuple) else item
        if isinstance(name, str):
            for lookup in (
                "",
                "__exact",
                "__in",
                "__gte",
                "__isnull",
                "__range",
                "__id__exact",
                "__date",
                "__year",
            ):
                yield name + lookup
        else:
            yield name.parameter_name


def fields_of(client: Client, path: str) -> list[str]:
    """The names of the fields on a page, for who sees it."""
    with transaction.atomic():
        page = client.get(path)
        found = (
            re.findall(r'name="([^"]+)"', page.content.decode("utf-8", "replace"))
            if not page.streaming
            else []
        )
        transaction.set_rollback(True)
    return sorted(set(found) - {"csrfmiddlewaretoken"})


# --- addresses ------------------------------------------------------------------------------------------


@pytest.mark.both_databases
@pytest.mark.parametrize("person", ["anonymous", "root"], indirect=True)
def test_odd_keys_in_addresses(story: Story, person: User | None) -> None:
    keys = [
        *odd.NUMBERS,
        *odd.KEYS,
        "x",
        "_5F00",
        "_00",
        "\0",
        "唐",
        "%00",
        "%ff",
        "__",
        "a" * 3000,
        "1/2",
        "..",
    ]
    requests = [
        Request("".join(path), method=method)
        for key in keys
        for name, path in routes(story, key=key.replace("%", "%25"), word=key.replace("/", ""))
        for method in ("GET", "POST")
        if key in path
    ]

    assert broken(person, sample(requests, most=400, seed="addresses")) == {}


@pytest.mark.parametrize("person", ["anonymous", "root"], indirect=True)
def test_every_method_on_every_address(story: Story, person: User | None) -> None:
    requests = [Request(path, method=method) for _name, path in routes(story) for method in odd.METHODS]

    assert broken(person, sample(requests, most=250, seed="methods")) == {}


# --- parameters -----------------------------------------------------------------------------------------


@pytest.mark.both_databases
@pytest.mark.parametrize("person", ["root"], indirect=True)
def test_odd_filters_of_every_list(story: Story, person: User) -> None:
    requests = [
        request
        for path, page in admin_lists()
        for request in one_by_one(path, [*lookups_of(page), *PARAMETERS], odd.VALUES)
    ]

    assert broken(person, sample(requests, most=700, seed="filters")) == {}


@pytest.mark.both_databases
@pytest.mark.parametrize("person", ["anonymous", "root"], indirect=True)
def test_odd_parameters_on_every_address(story: Story, person: User | None) -> None:
    requests = [
        *one_by_one("/", ["after"], odd.MARKS),
        *(Request("/", f"order=liked&after={odd.quote(mark)}") for mark in odd.MARKS),
        *one_by_one("/stories/mine/", ["after"], odd.MARKS),
    ]
    others = [
        request
        for _name, path in routes(story)
        for request in [
            *one_by_one(path, PARAMETERS, odd.VALUES),
            *(Request(path, raw) for raw in odd.RAW),
            *(Request(path, "_changelist_filters=" + odd.quote(f"{name}={odd.quote(value)}"))
              for name in ("run__id__exact", "created_at__gte", "q", "p") for value in odd.VALUES),
        ]
    ]  # fmt: skip

    assert broken(person, [*requests, *sample(others, most=400, seed="parameters")]) == {}


# --- bodies ---------------------------------------------------------------------------------------------


@pytest.mark.both_databases
@pytest.mark.parametrize("person", PEOPLE, indirect=True)
def test_odd_fields_of_every_form(story: Story, person: User | None) -> None:
    client = Client()
    if person:
        client.force_login(person)
    requests = []
    for _name, path in routes(story):
        names = sorted({*fields_of(client, path), *GOOD, "next", "action", "taste", "cause", "seen"})
        for name in names:
            requests += [
                Request(path, method="POST", body=form(**GOOD | {name: value})) for value in odd.VALUES
            ]

    assert broken(person, sample(requests, most=200, seed=f"fields of {person}")) == {}


@pytest.mark.parametrize("person", ["anonymous", "root"], indirect=True)
def test_odd_bodies_on_every_address(story: Story, person: User | None) -> None:
    requests = [request for _name, path in routes(story) for request in with_bodies(path)]

    assert broken(person, sample(requests, most=350, seed="bodies")) == {}


@pytest.mark.both_databases
@pytest.mark.parametrize("person", ["editor", "root"], indirect=True)
def test_odd_choices_of_every_bulk_action(story: Story, person: User) -> None:
    choices = [*odd.VALUES, str(NUMBER), odd.UUID, str(story.pk)]
    requests = [
        Request(path, method="POST", body=form(**{"action": action, "_selected_action": chosen, **more}))
        for path, page in admin_lists()
        for action in [*(page.actions or ()), "delete_selected", "", "\0", "nonsense"]
        for chosen in choices
        for more in ({}, {"select_across": "1"}, {"select_across": "\0", "index": "x"}, {"index": "9" * 50},
                     {"confirmed": "x"}, {"post": "yes"})
    ]  # fmt: skip

    assert broken(person, sample(requests, most=300, seed="actions")) == {}


# --- headers --------------------------------------------------------------------------------------------


@pytest.mark.both_databases
@pytest.mark.parametrize("person", ["anonymous", "root"], indirect=True)
def test_odd_headers(story: Story, person: User | None) -> None:
    pages = [
        "/",
        "/stories/new/",
        story.get_absolute_url(),
        "/admin/login/",
        "/admin/stories/story/",
        "/nowhere/",
    ]
    requests = [request for path in pages for request in with_headers(path)]
    requests += [
        Request(path, method="POST", body=form(**GOOD), headers=request.headers)
        for path in ("/login/", "/i18n/setlang/", f"{story.get_absolute_url()}rate/")
        for request in with_headers(path)
    ]

    assert broken(person, sample(requests, most=350, seed="headers")) == {}


@pytest.mark.parametrize("address", odd.ADDRESSES)
def test_odd_addresses_of_visitors(story: Story, address: str) -> None:
    client = Client(REMOTE_ADDR=address)
    cache.clear()

    answers = [client.post("/login/", GOOD), client.post("/stories/new/", GOOD), client.get("/")]
    assert [answer.status_code for answer in answers] == [200, 302, 200]


# --- all of it at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("person", PEOPLE, indirect=True)
def test_odd_requests_at_random(story: Story, person: User | None) -> None:
    assert broken(person, at_random(story, count=250, seed=f"at random by {person}")) == {}


def at_random(story: Story, *, count: int, seed: str) -> Iterator[Request]:
    dice = odd.random.Random(seed)
    paths = [path for _name, path in routes(story)]
    names = [
        *PARAMETERS,
        *GOOD,
        "action",
        "_selected_action",
        "run__id__exact",
        "created_at__gte",
        "text",
        "seen",
    ]
    for _ in range(count):
        said = {name: dice.choice(odd.VALUES) for name in dice.sample(names, 3)}
        headers = {name: dice.choice(odd.HEADERS[name]) for name in dice.sample(sorted(odd.HEADERS), 2)}
        kind = dice.choice([*odd.TYPES, *["application/x-www-form-urlencoded"] * 9])
        body = dice.choice([form(**said)] * 5 + odd.BODIES)
        method = dice.choice(["GET", "POST", "POST", *odd.METHODS[:1]])
        query = form(**said).decode() if dice.random() < 0.7 else dice.choice(odd.RAW)
        yield Request(
            dice.choice(paths), query, method, body if method == "POST" else b"", kind,
            headers if dice.random() < 0.5 else {},
        )  # fmt: skip
