#!/usr/bin/env python3
"""Runs a command with TEST_DATABASE_URL naming a throw-away PostgreSQL cluster; its exit code is the command's.

    bin/with_postgres.py .venv/bin/python -m pytest -m both_databases

Where PostgreSQL is not installed it says so in one line and exits 0: the caller's list of what could not run.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",  # the cluster lives for minutes, and nobody will miss it
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


def find_programs() -> Path | None:
    """The folder of initdb and pg_ctl, the newest version first; None if there is none."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True
    )
    on_path = shutil.which("initdb")
    folders += [Path(on_path).parent] if on_path else []
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def as_server(command: list[str]) -> list[str]:
    """The command as the postgres user when we are root: PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command


def run(command: list[str], *, log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(as_server(command), stdout=output, stderr=output, check=False)
    if done.returncode:
        sys.exit(f"with_postgres: {command[0]} failed:\n{log.read_text('utf-8', errors='replace')[-2000:]}")


@contextlib.contextmanager
def cluster(programs: Path) -> Iterator[str]:
    """A running cluster in a folder of its own; yields its address, leaves nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="ultraman-postgres-"))
    data, log = folder / "data", folder / "setup.log"
    log.touch()
    if os.geteuid() == 0:
        shutil.chown(folder, pwd.getpwnam("postgres").pw_uid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = " ".join(
        f"-c {name}={value or chr(39) * 2}" for name, value in (SETTINGS | {"port": port}).items()
    )
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    control = [str(programs / "pg_ctl"), "-D", str(data)]
    try:
        run([*initdb, "--locale=C.UTF-8", "--no-sync"], log=log)
        run([*control, "-w", "-l", str(folder / "server.log"), "-o", options, "start"], log=log)
        try:
            yield f"postgres://postgres@127.0.0.1:{port}/ultraman"
        finally:
            run([*control, "-w", "-m", "immediate", "stop"], log=log)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(command: list[str]) -> int:
    programs = find_programs()
    if programs is None:
        print("could not run: no PostgreSQL on this machine, so nothing was tested on it")
        return 0
    with cluster(programs) as url:
        return subprocess.run(command, env=os.environ | {"TEST_DATABASE_URL": url}, check=False).returncode


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds: the cluster goes with us
    sys.exit(main(sys.argv[1:]))
