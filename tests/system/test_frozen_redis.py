"""Redis frozen under the whole site: thirty orders at once, pages, then all is written with nobody's help."""

import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from stories.models import Story
from stories.operations import health
from tests.conftest import LOGS
from tests.environment import free_port
from tests.factories import make_serving_model, make_template
from tests.provider import Provider
from tests.servers import Child, python, start_redis, start_web, start_worker, wait_until
from tests.sites import child_environment

pytestmark = pytest.mark.django_db(transaction=True)
ORDERS = 30
SECONDS = 5.0
TOKEN = "a" * 32
COMBO = {"dynasty": "宋", "super_power": "发射激光", "story_type": "艰难"}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def visit(url: str, *, order: bool = False) -> tuple[int, float]:
    """The status and the seconds of a new visitor's GET, or of their order of a story."""
    form = urllib.parse.urlencode(COMBO | {"csrfmiddlewaretoken": TOKEN}).encode() if order else None
    request = urllib.request.Request(url, data=form, headers={"Cookie": f"csrftoken={TOKEN}"})
    began = time.monotonic()
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=60) as reply:
            return reply.status, time.monotonic() - began
    except urllib.error.HTTPError as error:
        return error.code, time.monotonic() - began


def visit_all(url: str) -> list[tuple[str, int, float]]:
    """Thirty orders, and pages meanwhile: what, status, seconds."""
    pages = ("/", "/stories/new/", "/health/live", "/health/ready") * 3
    visits = [("/stories/new/", True)] * ORDERS + [(page, False) for page in pages]
    with ThreadPoolExecutor(len(visits)) as pool:
        found = pool.map(lambda visit_: visit(url + visit_[0], order=visit_[1]), visits)
        return [
            (f"{'POST' if order else 'GET'} {page}", *answer)
            for (page, order), answer in zip(visits, found, strict=True)
        ]


def expected(what: str) -> int:
    return {"POST /stories/new/": 302, "GET /health/ready": 503}.get(what, 200)


def test_orders_and_pages_answer_within_five_seconds_and_all_is_written_afterwards(
    provider: Provider,
) -> None:
    make_template()
    make_serving_model("base-zh")
    port, web_port = free_port(), free_port()
    redis_server = start_redis(port, log=LOGS / f"redis-{port}.log")
    env = child_environment(base_url=provider.base_url, REDIS_URL=f"redis://127.0.0.1:{port}/0")
    schedule = ("--pidfile=", "--schedule", str(LOGS / f"beat-{port}"))
    celery = ("-m", "celery", "-A", "ultraman_site", "beat", *schedule)
    web = start_web(web_port, log=LOGS / f"web-{web_port}.log", env=env)
    worker = start_worker(
        "readers", "readers,housekeeping", threads=32, log=LOGS / f"readers-{port}.log", env=env
    )
    beat = python(*celery, log=LOGS / f"beat-{port}.log", env=env)
    url = f"http://127.0.0.1:{web_port}"
    with redis_server, web, worker, beat:
        visit(url + "/")
        redis_server.freeze()
        for _ in range(2):
            answers = visit_all(url)
            assert [(what, status) for what, status, _ in answers if status != expected(what)] == []
            assert [(what, seconds) for what, _, seconds in answers if seconds > SECONDS] == []
        assert Story.objects.filter(state="queued").count() == 2 * ORDERS
        redis_server.thaw()
        written = Story.objects.filter(state="written")
        wait_until(lambda: written.count() == 2 * ORDERS, seconds=90, what="all is written")
    assert set(Story.objects.values_list("text", flat=True)) == {provider.text}


def test_health_says_within_seconds_that_redis_is_silent(redis_server: Child) -> None:
    redis_server.freeze()
    began = time.monotonic()
    assert "redis" in health.find_missing()
    assert time.monotonic() - began < SECONDS
