"""Whom the site takes a visitor for: what a peer claims about itself counts only from a trusted proxy."""

import asyncio
import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import httpx2
import pytest
from axes.models import AccessAttempt
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from devserver import services
from devserver.plan import Plan
from stories.models import ReaderDay
from tests.environment import free_port
from tests.factories import make_person, make_serving_model, make_story, make_template
from tests.servers import start_web
from tests.sites import Web, child_environment
from tests.sockets import Viewer
from ultraman_site.proxies import TrustedProxies, find_client, read_networks

CLAIMED = [f"198.51.100.{number}" for number in range(1, 15)]


@pytest.fixture
def web_behind(
    transactional_db: None, redis_server: Any, provider: Any, tmp_path: Any
) -> Iterator[Callable[..., Web]]:
    """`web_behind("127.0.0.1")`: the site under uvicorn with that TRUSTED_PROXIES; more is its environment."""
    started = []

    def start(proxies: str, **more: str) -> Web:
        port, env = (
            free_port(),
            child_environment(base_url=provider.base_url, TRUSTED_PROXIES=proxies, **more),
        )
        started.append(start_web(port, log=tmp_path / f"web-{port}.log", env=env))
        return Web(f"http://127.0.0.1:{port}", started[-1], env)

    yield start
    for child in started:
        child.stop()


def post(web: Web, path: str, form: dict[str, str], **headers: str) -> httpx2.Response:
    """A form as a browser sends it, with the token of its page."""
    with httpx2.Client(base_url=web.url, headers=headers) as client:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get(path).text)
        assert token
        return client.post(path, data=form | {"csrfmiddlewaretoken": token[1]})


def guess_passwords(web: Web, username: str) -> list[int]:
    """What each of fourteen wrong passwords is answered with, each from another claimed address."""
    make_person(username)
    return [
        post(
            web,
            "/login/",
            {"username": username, "password": f"guess of {claimed}"},
            **{"X-Forwarded-For": claimed, "X-Real-IP": claimed, "Forwarded": f"for={claimed}"},
        ).status_code
        for claimed in CLAIMED
    ]


# --- who is believed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("networks", ["", "192.0.2.1, 10.0.0.0/8"])
def test_claimed_addresses_do_not_put_off_the_lock_out(web_behind, networks):
    tries = guess_passwords(web_behind(networks), "victim")

    assert (set(tries[:9]), set(tries[10:])) == ({200}, {429})
    assert set(AccessAttempt.objects.values_list("ip_address", flat=True)) == {"127.0.0.1"}


def test_behind_a_trusted_proxy_they_are_fourteen_addresses(web_behind):
    """The negative control: with the peer trusted, the same requests are never locked out."""
    tries = guess_passwords(web_behind("127.0.0.1"), "victim")

    assert set(tries) == {200}
    assert set(AccessAttempt.objects.values_list("ip_address", flat=True)) == set(CLAIMED)


ORDER = {"dynasty": "唐", "super_power": "隐形", "story_type": "轻松"}


@pytest.mark.parametrize(("proxies", "answers"), [("", [302, 429]), ("127.0.0.1", [302, 302])])
def test_a_claimed_address_changes_no_quota(web_behind, proxies, answers):
    make_serving_model()
    make_template()
    web = web_behind(proxies, ADDRESS_STORIES_PER_DAY="1")

    orders = [post(web, "/stories/new/", ORDER, **{"X-Forwarded-For": claimed}) for claimed in CLAIMED[:2]]

    assert [order.status_code for order in orders] == answers
    counted = {who for who in ReaderDay.objects.values_list("who", flat=True) if who.startswith("address:")}
    claimed = {f"address:{address}" for address in CLAIMED[:2]}
    assert counted == (claimed if proxies else {"address:127.0.0.1"})


@pytest.mark.parametrize(("proxies", "code"), [("", 1013), ("127.0.0.1", None)])
def test_a_claimed_address_opens_no_further_socket(web_behind, proxies, code):
    story = make_story(state="queued", visibility="link")
    web = web_behind(proxies, ADDRESS_SOCKETS="1")

    with open_as(web, story, CLAIMED[0]) as first:
        # Only who was greeted is counted: the second must not come before that.
        Viewer(first).read(until=lambda message: message["type"] == "hello")
        with open_as(web, story, CLAIMED[1]) as second:
            try:
                second.recv(timeout=10)
            except ConnectionClosed:
                assert second.close_code == code
            else:
                assert code is None


def open_as(web: Web, story: Any, claimed: str) -> Any:
    url = f"{web.socket_url}/ws/stories/{story.pk}/"
    return connect(url, additional_headers={"X-Forwarded-For": claimed})


def test_a_claimed_address_is_in_no_log(web_behind):
    web = web_behind("")
    guess_passwords(web, "victim")

    assert [claimed for claimed in CLAIMED if claimed in web.child.output] == []
    assert "127.0.0.1" in web.child.output


def test_make_run_leaves_the_judgement_to_the_site(tmp_path):
    """Of its own accord uvicorn believes every peer on loopback."""
    plan = Plan(tmp_path, 8000, False, True, 1, 2, "", {}, {})

    assert "--no-proxy-headers" in next(each for each in services.site(plan) if each.name == "web").command


@pytest.mark.parametrize(("proxies", "location"), [("", "https://stories.example/"), ("127.0.0.1", None)])
def test_only_a_trusted_proxy_says_that_it_was_https(web_behind, proxies, location):
    web = web_behind(proxies, ALLOWED_HOSTS="stories.example,127.0.0.1")
    headers = {"Host": "stories.example", "X-Forwarded-Proto": "https"}

    assert httpx2.get(web.url, headers=headers).headers.get("Location") == location


# --- one IPv6 line is one address -----------------------------------------------------------------------


def test_one_ipv6_line_is_locked_out_whatever_its_lower_half(db):
    make_person("victim")
    tries = [
        Client(REMOTE_ADDR=f"2001:db8:0:7::{number}")
        .post("/login/", {"username": "victim", "password": "guess"})
        .status_code
        for number in range(1, 13)
    ]
    elsewhere = Client(REMOTE_ADDR="2001:db8:0:8::1")

    assert (tries[8], tries[11]) == (200, 429)
    assert elsewhere.post("/login/", {"username": "victim", "password": "victim"}).status_code == 302


# --- how the header is read -----------------------------------------------------------------------------

NETWORKS = read_networks("127.0.0.1, 10.0.0.0/8, 2001:db8:1::/48")


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ([], "127.0.0.1"),
        (["192.0.2.7"], "192.0.2.7"),
        (["203.0.113.9", "192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7", "10.1.2.3"], "192.0.2.7"),
        (["203.0.113.9", "192.0.2.7", "10.1.2.3", "2001:db8:1::5"], "192.0.2.7"),
        (["10.9.9.9", "10.1.2.3"], "10.9.9.9"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["[2001:db8::7]:443"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (['"192.0.2.7"'], "192.0.2.7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["::ffff:10.1.2.3"], "10.1.2.3"),
        (["fe80::1%eth0"], "fe80::1"),
        (["unknown"], "127.0.0.1"),
        (["192.0.2.7", "unknown", "10.1.2.3"], "10.1.2.3"),
        (["192.0.2.7", "999.1.1.1"], "127.0.0.1"),
        (["<script>"], "127.0.0.1"),
        (["192.0.2.7/24"], "127.0.0.1"),
        (["٣.1.1.1"], "127.0.0.1"),
        (["1" * 60_000], "127.0.0.1"),
    ],
)
def test_the_nearest_hop_that_is_not_ours_is_the_client(hops, client):
    assert find_client(ip_address("127.0.0.1"), hops, NETWORKS) == ip_address(client)


def judged(peer: Any, *headers: tuple[bytes, bytes], kind: str = "http", proxies: str = "127.0.0.1") -> Any:
    """The scope that the inner application is given."""
    seen = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": kind, "client": peer, "scheme": "http", "headers": list(headers)}
    asyncio.run(TrustedProxies(inner, read_networks(proxies))(scope, None, None))  # type: ignore[arg-type]
    return seen[0]


def test_nothing_behind_meets_a_header_that_claims():
    claims = [b"x-forwarded-for", b"X-Forwarded-Host", b"x_forwarded_proto", b"Forwarded", b"x-real-ip"]
    for peer in (("127.0.0.1", 1), ("192.0.2.7", 1), None):
        scope = judged(peer, *[(name, b"192.0.2.9") for name in claims], (b"host", b"stories.example"))
        assert scope["headers"] == [(b"host", b"stories.example")]


def test_several_lines_of_the_header_are_one_list():
    lines = [(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-for", b"192.0.2.7, 127.0.0.1")]

    assert judged(("127.0.0.1", 5), *lines)["client"] == ("192.0.2.7", 0)
    assert judged(("192.0.2.1", 5), *lines)["client"] == ("192.0.2.1", 5)


@pytest.mark.parametrize(
    ("kind", "claimed", "scheme"),
    [("http", b"https", "https"), ("websocket", b"https", "wss"), ("http", b"https, HTTP", "http"),
     ("http", b"javascript", "http"), ("http", b"", "http")],
)  # fmt: skip
def test_the_scheme_is_the_last_proxys_word(kind, claimed, scheme):
    header = (b"x-forwarded-proto", claimed)

    assert judged(("127.0.0.1", 5), header, kind=kind)["scheme"] == scheme
    assert judged(("192.0.2.7", 5), header, kind=kind)["scheme"] == "http"


def test_a_peer_of_a_double_stack_is_its_ipv4_address():
    assert judged(("::ffff:192.0.2.7", 5))["client"] == ("192.0.2.7", 5)
    assert judged(None)["client"] is None


@pytest.mark.parametrize(
    "value", ["*", "proxy.example", "10.0.0.1/8", "127.0.0.1:80", "10.0.0.0/33", "x" * 50]
)
def test_what_is_no_address_is_refused_with_a_sentence(value):
    with pytest.raises(
        ImproperlyConfigured, match=r"^TRUSTED_PROXIES must be IP addresses or networks such as"
    ):
        read_networks(f"127.0.0.1, {value}")


def test_by_default_no_proxy_is_trusted():
    assert (read_networks(""), read_networks(" , ")) == ([], [])
