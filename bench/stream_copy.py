"""The copy of the site that the stream benchmark measures: one process of each kind, and what they use.

Import `tests.environment` before anything of the site: it makes the environment that all processes share.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

from bench import stream_provider
from tests.environment import DATA_DIR, free_port
from tests.servers import Child, listens, start_redis, start_web, start_worker, wait_until

TICK = os.sysconf("SC_CLK_TCK")
LOGS = DATA_DIR / "logs"


@dataclass
class Copy:
    """The running processes; `threads` is how many stories the worker takes at once."""

    provider_url: str
    web_url: str
    web: Child
    worker: Child


@contextmanager
def running_copy(*, pieces: int, threads: int) -> Iterator[Copy]:
    """Provider, Redis, one web process and one readers' worker, on the database of the environment."""
    port = free_port()
    env = os.environ | {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "ADDRESS_SOCKETS": "5000"}
    os.environ.update(env)
    provider = get_context("spawn").Process(target=stream_provider.run, args=(port, pieces), daemon=True)
    provider.start()
    wait_until(lambda: listens(port), what="the provider listens")
    _prepare_database()
    web_port = free_port()
    with ExitStack() as stack:
        stack.callback(provider.terminate)
        stack.enter_context(start_redis(urlsplit(env["REDIS_URL"]).port or 0, log=LOGS / "redis.log"))
        web = stack.enter_context(start_web(web_port, log=LOGS / "web.log", env=env))
        queues = "readers,housekeeping"
        log = LOGS / "readers.log"
        worker = stack.enter_context(start_worker("readers", queues, threads=threads, log=log, env=env))
        yield Copy(env["OPENAI_BASE_URL"], f"ws://127.0.0.1:{web_port}", web, worker)


def _prepare_database() -> None:
    """Migrates; on PostgreSQL the database is made first. Leaves Django set up in this process."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "ultraman_site.settings"
    if url := os.environ.get("DATABASE_URL"):
        _create_database(url)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from stories import language_models
    from stories.operations import seeding

    seeding.seed_template()
    language_models.ensure_models()


def _create_database(url: str) -> None:
    import psycopg

    name = urlsplit(url).path.lstrip("/")
    with psycopg.connect(urlsplit(url)._replace(path="/postgres").geturl(), autocommit=True) as server:
        if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            server.execute(f'CREATE DATABASE "{name}"')


def cpu_seconds(child: Child) -> float:
    """User and system time of the process so far."""
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(child: Child) -> float:
    """Resident memory, in MB."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def redis_connections(child: Child) -> int:
    """Established connections of the process to our Redis."""
    port = f"{urlsplit(os.environ['REDIS_URL']).port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    theirs = {line[9] for line in lines if line[2].endswith(f":{port}") and line[3] == "01"}
    return sum(link.removeprefix("socket:[").rstrip("]") in theirs for link in _open_files(child))


def _open_files(child: Child) -> Iterator[str]:
    """What the descriptors of the process lead to; those closed while we look are left out."""
    for link in Path(f"/proc/{child.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield os.readlink(link)
