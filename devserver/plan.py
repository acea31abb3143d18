"""What `make run` starts and where, decided from the environment and `.env` alone; the first step.

Ports of our own Redis and model server are free ones. The model server keeps its port from start to start,
because the rows of the models it trained name its address.
"""

import errno
import os
import random
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from llm.endpoints import LOCAL_URL_VARIABLE, read_endpoints
from stories.operations.atomic_files import write_file
from ultraman_site.environment import BASE_DIR, GROUP, load, read_file

HOST = "127.0.0.1"
LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "[::1]", "testserver"}
OWN_PORTS = range(20_000, 30_000)  # below the ports that outgoing connections borrow
RUN_ENV_COMMENT = (
    "# Written by `make run` at each start: where this copy lives. Changes made here are lost.\n"
)
PLAIN_VALUE = re.compile(r"[\w./:@%+,=~-]*")


class CannotStart(Exception):
    """One line that says what keeps the site from starting, and what to do."""


@dataclass(frozen=True)
class Plan:
    """`environment` is what every child runs with; a port is None where an address was given instead."""

    data_dir: Path
    port: int
    wants_demo: bool
    owns_database: bool
    redis_port: int | None
    model_port: int | None
    moved_from: str
    run_env: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def make_data_dir() -> Path:
    """The folder of this copy, made if need be. Raises `CannotStart`."""
    data_dir = (BASE_DIR / (load(with_run_env=False).get("DATA_DIR") or "var")).resolve()
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (data_dir / "run.lock").touch()
    except OSError as error:
        raise CannotStart(f"DATA_DIR {data_dir} cannot be written ({error.strerror})") from error
    return data_dir


def make_plan(data_dir: Path) -> Plan:
    """The plan of this start. Raises `CannotStart`."""
    given = load(with_run_env=False)
    before = read_file(data_dir / "run.env")
    port = _read_port(given.get("PORT") or "8000")
    _check_hosts(given)
    if not is_free(port):
        raise CannotStart(
            f"端口 {port} 已被占用 · port {port} is in use by another program; choose another: make run PORT=…"
        )
    redis_port = None if given.get("REDIS_URL") else free_port(avoid={port})
    old_url = before.get(LOCAL_URL_VARIABLE, "")
    local_port = _keep_port(old_url, avoid={port, redis_port})
    local_url = f"http://{HOST}:{local_port}/v1"
    runs_model_server = not (given.get("OPENAI_BASE_URL") or given.get("OPENAI_API_KEY"))
    addresses = {
        "PORT": str(port),
        "DATABASE_URL": given.get("DATABASE_URL") or f"sqlite:///{data_dir / 'site.sqlite3'}",
        "REDIS_URL": given.get("REDIS_URL") or f"redis://{HOST}:{redis_port}/0",
        LOCAL_URL_VARIABLE: local_url,
        "OPENAI_BASE_URL": _endpoint_url({**given, LOCAL_URL_VARIABLE: local_url}),
    }
    generated = before.get("SECRET_KEY") or secrets.token_urlsafe(50)
    return Plan(
        data_dir=data_dir,
        port=port,
        wants_demo=runs_model_server and given.get("SEED") != "0",
        owns_database=not given.get("DATABASE_URL"),
        redis_port=redis_port,
        model_port=local_port if runs_model_server else None,
        moved_from=old_url if runs_model_server and old_url != local_url else "",
        run_env={"SECRET_KEY": generated, **addresses},
        environment=_child_environment(
            {"SECRET_KEY": generated, **_not_empty(given), **addresses, "DATA_DIR": str(data_dir)}
        ),
    )


def write_run_env(plan: Plan) -> None:
    """Every address in effect and the generated secret key, for commands that run beside the site; mode 0600.

    Keys that were given (in the environment or `.env`) are not written down.
    """
    lines = [RUN_ENV_COMMENT, *(f"{name}={_quote(value)}\n" for name, value in plan.run_env.items())]
    write_file(plan.data_dir / "run.env", "".join(lines).encode(), mode=0o600)


def is_free(port: int) -> bool:
    """Whether a server may listen there. Raises `CannotStart` if this user may not use the port at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise CannotStart(
                f"port {port} cannot be used ({error.strerror}); choose another: PORT=8001"
            ) from error
    return True


def free_port(*, avoid: set[int | None]) -> int:
    """A free port of our own range."""
    for port in random.sample(OWN_PORTS, 200):
        if port not in avoid and is_free(port):
            return port
    raise CannotStart("no free port between 20000 and 30000 was found")


def _keep_port(old_url: str, *, avoid: set[int | None]) -> int:
    """The port the model server had, if it is still free."""
    try:
        port = urlsplit(old_url).port
    except ValueError:
        port = None
    if port and port not in avoid and is_free(port):
        return port
    return free_port(avoid=avoid)


def _read_port(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 65_535:
        raise CannotStart(f"PORT must be a number from 1 to 65535, not {value!r}")
    return int(value)


def _check_hosts(given: Mapping[str, str]) -> None:
    """The demo logins have known passwords, and plain HTTP is for this machine alone."""
    hosts = {host.strip() for host in given.get("ALLOWED_HOSTS", "").split(",") if host.strip()}
    if hosts - LOOPBACK_HOSTS:
        raise CannotStart(
            "make run 只供本机使用 · is for this machine alone: ALLOWED_HOSTS names "
            f"{', '.join(sorted(hosts - LOOPBACK_HOSTS))}; leave it unset, or deploy as the README says"
        )


def _endpoint_url(variables: Mapping[str, str]) -> str:
    try:
        return read_endpoints(variables)["default"].base_url
    except ImproperlyConfigured as error:
        raise CannotStart(str(error)) from error


def _not_empty(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}


def _child_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """`ours` is merged by the rules of `environment.py` already, so a child's own merge changes nothing."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(GROUP)}
    return {
        **inherited,
        **ours,
        "DJANGO_SETTINGS_MODULE": "ultraman_site.settings",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }


def _quote(value: str) -> str:
    return value if PLAIN_VALUE.fullmatch(value) else f"'{value}'"
