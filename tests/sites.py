"""Copies of the site that tests talk to from outside: one web process, or everything `make run` starts."""

import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connection

from tests.environment import BASE_DIR, clean_environment, free_port
from tests.servers import Child, python
from ultraman_site.environment import read_file

READY_SECONDS = 120.0


@dataclass(frozen=True)
class Result:
    """What a management command said. `json` is the object on the last line of stdout, or None."""

    rc: int
    stdout: str
    stderr: str
    json: Any

    def __iter__(self) -> Any:
        """`rc, out, err, data = site.manage(...)`."""
        return iter((self.rc, self.stdout, self.stderr, self.json))


def manage(*arguments: str, env: Mapping[str, str], seconds: float = 120.0) -> Result:
    """`python manage.py arguments`, as a person would start it."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
    out, err = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
    return Result(done.returncode, out, err, _last_object(out))


def _last_object(output: str) -> Any:
    try:
        return json.loads(output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None


def test_database_url() -> str:
    """The address of the test database, for a child process."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    user, password = urllib.parse.quote(settings["USER"]), urllib.parse.quote(settings["PASSWORD"])
    return f"postgres://{user}:{password}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"


def child_environment(*, base_url: str = "", **more: str) -> dict[str, str]:
    """For a process that shares the test database and its Redis; `base_url` is its default endpoint."""
    env = dict(os.environ, DJANGO_SETTINGS_MODULE="ultraman_site.settings", DATABASE_URL=test_database_url())
    if base_url:
        env["OPENAI_BASE_URL"] = base_url
    return env | more


@dataclass
class Web:
    """One uvicorn process on the test database."""

    url: str
    child: Child
    env: dict[str, str]

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def manage(self, *arguments: str) -> Result:
        return manage(*arguments, env=self.env)


@dataclass
class Site:
    """A whole copy, as `make run` starts it, with its own folder and port."""

    data_dir: Path
    port: int = field(default_factory=free_port)
    more: dict[str, str] = field(default_factory=dict)
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """What a command for this copy runs with: our variables, and the addresses it wrote down."""
        mine = {"READ_ENV_FILES": "0", "DATA_DIR": str(self.data_dir), "PORT": str(self.port), "SEED": "0"}
        return clean_environment() | read_file(self.data_dir / "run.env") | mine | self.more

    def start(self) -> None:
        # Without run.env, which the supervisor writes: it must choose everything by itself.
        mine = {"READ_ENV_FILES": "0", "DATA_DIR": str(self.data_dir), "PORT": str(self.port), "SEED": "0"}
        env = clean_environment() | mine | self.more
        log = self.data_dir.with_name(f"{self.data_dir.name}-make-run.log")
        log.unlink(missing_ok=True)
        self.child = python("-m", "devserver", log=log, env=env)
        ready = f"ready: {self.url}"
        child = self.child
        child.wait_until(lambda: ready in child.output.splitlines(), seconds=READY_SECONDS)

    def stop(self) -> None:
        if self.child:
            self.child.stop(seconds=20)

    def manage(self, *arguments: str, seconds: float = 120.0) -> Result:
        return manage(*arguments, env=self.env, seconds=seconds)
