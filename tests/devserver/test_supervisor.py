"""`make run`: the supervisor as a person meets it, with real processes; and what it decides before it starts any."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from devserver.lock import only_one
from devserver.plan import CannotStart, make_data_dir, make_plan, write_run_env
from tests.environment import BASE_DIR, clean_environment, free_port
from tests.servers import wait_until
from tests.sites import Site
from ultraman_site.environment import read_file

# Refuses every connection: a site with a foreign endpoint starts no model server and calls nobody.
FOREIGN = "http://127.0.0.1:9/v1"


def start_again(site: Site, **changes: str) -> subprocess.CompletedProcess[str]:
    """Another `make run` beside `site`, expected to give up by itself."""
    env = clean_environment() | {"READ_ENV_FILES": "0", "DATA_DIR": str(site.data_dir), "SEED": "0"}
    return subprocess.run(
        [sys.executable, "-m", "devserver"],
        cwd=BASE_DIR,
        env=env | {"PORT": str(site.port)} | changes,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def children(site: Site) -> dict[int, str]:
    """Command lines of the supervisor's children, by pid."""
    assert site.child
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(maxsplit=2) for line in listed.splitlines())
    return {int(row[0]): row[2] for row in rows if int(row[1]) == site.child.pid and len(row) == 3}


def pid_of(site: Site, part: str) -> int:
    """The one child whose command line contains `part`."""
    (pid,) = [pid for pid, command in children(site).items() if part in command]
    return pid


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # in a container nobody may be there to reap it


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def is_ready(site: Site) -> bool:
    try:
        with urllib.request.urlopen(f"{site.url}/health/ready", timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A whole unseeded copy, with a model server of its own."""
    site = Site(tmp_path_factory.mktemp("copy") / "data")
    try:
        site.start()
        yield site
    finally:
        site.stop()


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Site]:
    """A copy to be ended by its test; with a foreign endpoint."""
    site = Site(tmp_path / "data", more={"OPENAI_BASE_URL": FOREIGN})
    try:
        site.start()
        yield site
    finally:
        site.stop()


def test_ready_line_stands_alone_after_the_logins(copy: Site) -> None:
    assert copy.child
    lines = copy.child.output.splitlines()
    assert lines.count(f"ready: {copy.url}") == 1
    assert any("editor · trainer · reader" in line for line in lines[: lines.index(f"ready: {copy.url}")])
    assert "\x1b" not in copy.child.output


def test_everything_runs_when_it_says_so(copy: Site) -> None:
    commands = " ".join(children(copy).values())
    for part in (
        "valkey-server",
        "model_server",
        "uvicorn",
        "readers@%h",
        "bulk@%h",
        "celery --quiet -A ultraman_site beat",
    ):
        assert part in commands
    assert is_ready(copy)


def test_demo_logins_are_there_and_no_demo_stories(copy: Site) -> None:
    with sqlite3.connect(copy.data_dir / "site.sqlite3") as database:
        people = database.execute("SELECT username, is_staff FROM auth_user ORDER BY username").fetchall()
        stories = database.execute("SELECT count(*) FROM stories_story").fetchone()
    database.close()
    assert people == [("editor", 1), ("reader", 0), ("trainer", 1)]
    assert stories == (0,)


def test_addresses_are_written_down_for_nobody_else_to_read(copy: Site) -> None:
    path = copy.data_dir / "run.env"
    written = read_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(written) == [
        "SECRET_KEY",
        "PORT",
        "DATABASE_URL",
        "REDIS_URL",
        "MODEL_SERVER_URL",
        "OPENAI_BASE_URL",
    ]
    assert written["PORT"] == str(copy.port)
    assert written["DATABASE_URL"] == f"sqlite:///{copy.data_dir / 'site.sqlite3'}"
    assert written["OPENAI_BASE_URL"] == written["MODEL_SERVER_URL"]
    assert len(written["SECRET_KEY"]) > 50


def test_log_is_kept_in_the_data_folder(copy: Site) -> None:
    kept = (copy.data_dir / "logs" / "run.log").read_text("utf-8")
    assert f"ready: {copy.url}\n" in kept
    assert "setup    | " in kept


def test_second_start_on_the_same_data_is_refused_in_one_line(copy: Site) -> None:
    before = (copy.data_dir / "run.env").read_bytes()
    done = start_again(copy, PORT=str(free_port()))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"({copy.url})" in done.stderr
    assert (copy.data_dir / "run.env").read_bytes() == before
    assert is_ready(copy)


def test_port_in_use_is_said_in_one_line(copy: Site, tmp_path: Path) -> None:
    done = start_again(copy, DATA_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"port {copy.port} is in use" in done.stderr
    assert not (tmp_path / "run.env").exists()


@pytest.mark.parametrize("part", ["readers@%h", "valkey-server", "ultraman_site beat"])
def test_killed_process_is_named_and_started_again(copy: Site, part: str) -> None:
    child = copy.child
    assert child
    name = {"readers@%h": "readers", "valkey-server": "redis", "ultraman_site beat": "beat"}[part]
    killed = pid_of(copy, part)
    kill(killed)
    wait_until(
        lambda: any(part in command for pid, command in children(copy).items() if pid != killed), seconds=90
    )
    said = f"{name} ended (killed by SIGKILL); it starts again in 0.5 s"
    wait_until(lambda: said in child.output, what=said)
    wait_until(lambda: is_ready(copy), seconds=90, what="the site is ready again")


def test_foreign_endpoint_starts_no_model_server_and_ctrl_c_ends_the_rest(lone: Site) -> None:
    assert lone.child
    started = children(lone)
    assert len(started) == 6  # the reaper, redis, web, two workers, beat
    assert not any("model_server" in command for command in started.values())
    assert read_file(lone.data_dir / "run.env")["OPENAI_BASE_URL"] == FOREIGN
    os.kill(lone.child.pid, signal.SIGINT)
    assert lone.child.process.wait(timeout=60) == 0
    assert [started[pid] for pid in started if is_alive(pid)] == []


def test_killed_supervisor_leaves_nothing_behind_and_can_start_again(lone: Site) -> None:
    assert lone.child
    started = children(lone)
    lone.child.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in started), seconds=60, what="its children have ended")
    key = read_file(lone.data_dir / "run.env")["SECRET_KEY"]
    lone.start()
    assert read_file(lone.data_dir / "run.env")["SECRET_KEY"] == key


def test_five_deaths_in_a_minute_end_everything(lone: Site) -> None:
    assert lone.child
    seen: set[int] = set()
    for _death in range(5):
        wait_until(
            lambda: any("uvicorn" in c and p not in seen for p, c in children(lone).items()), seconds=90
        )
        killed = next(
            pid for pid, command in children(lone).items() if "uvicorn" in command and pid not in seen
        )
        seen.add(killed)
        started = children(lone)
        kill(killed)
    assert lone.child.process.wait(timeout=60) == 1
    assert "for the 5th time in a minute; ending everything" in lone.child.output
    assert [started[pid] for pid in started if is_alive(pid)] == []


def test_death_before_ready_ends_everything_with_exit_code_1(tmp_path: Path) -> None:
    site = Site(tmp_path / "data")
    broken = {"OPENAI_BASE_URL": FOREIGN, "READER_STREAMS": "none"}  # what settings.py refuses
    done = start_again(site, PORT=str(site.port), **broken)
    assert done.returncode == 1
    assert "setup did not succeed (exit code 1, see the lines above); ending everything" in done.stdout
    assert "ready:" not in done.stdout


# --- decisions, without processes -----------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a start on an empty folder; tests change it."""
    for name in ("SECRET_KEY", "REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORT", str(free_port()))
    return monkeypatch


@pytest.mark.parametrize("port", ["0", "65536", "-1", "80 80", "web", "８０００"])
def test_a_bad_port_is_refused(given: pytest.MonkeyPatch, tmp_path: Path, port: str) -> None:
    given.setenv("PORT", port)
    with pytest.raises(CannotStart, match="PORT must be a number from 1 to 65535"):
        make_plan(tmp_path)


def test_a_data_folder_that_is_a_file_is_refused(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given.setenv("DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(CannotStart, match="cannot be written"):
        make_data_dir()


def test_a_key_without_a_model_is_refused(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(CannotStart, match="OPENAI_MODEL is not") as refusal:
        make_plan(tmp_path)
    assert "sk-secret" not in str(refusal.value)


def test_hosts_beyond_this_machine_are_refused(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given.setenv("ALLOWED_HOSTS", "127.0.0.1, stories.example")
    with pytest.raises(CannotStart, match=r"ALLOWED_HOSTS names stories\.example;"):
        make_plan(tmp_path)


def test_given_addresses_start_nothing_of_ours(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given.setenv("REDIS_URL", "redis://example.invalid/1")
    given.setenv("OPENAI_API_KEY", "sk-secret")
    given.setenv("OPENAI_MODEL", "gpt-4.1-mini")
    plan = make_plan(tmp_path)
    assert (plan.redis_port, plan.model_port, plan.wants_demo) == (None, None, False)
    assert plan.environment["REDIS_URL"] == "redis://example.invalid/1"
    assert plan.environment["OPENAI_BASE_URL"] == "https://api.openai.com/v1"


def test_given_keys_are_not_written_down(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given.setenv("SECRET_KEY", "of the environment")
    given.setenv("OPENAI_API_KEY", "sk-secret")
    given.setenv("OPENAI_MODEL", "gpt-4.1-mini")
    plan = make_plan(tmp_path)
    write_run_env(plan)
    written = (tmp_path / "run.env").read_text("utf-8")
    assert "sk-secret" not in written
    assert "of the environment" not in written
    assert plan.environment["SECRET_KEY"] == "of the environment"


def test_a_lone_model_name_still_finds_our_model_server(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given.setenv("OPENAI_MODEL", "base-zh")
    plan = make_plan(tmp_path)
    assert plan.environment["OPENAI_BASE_URL"] == f"http://127.0.0.1:{plan.model_port}/v1"
    assert plan.run_env["MODEL_SERVER_URL"] == plan.environment["OPENAI_BASE_URL"]


def test_the_model_server_keeps_its_port(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = make_plan(tmp_path)
    write_run_env(first)
    second = make_plan(tmp_path)
    assert second.model_port == first.model_port
    assert second.moved_from == ""


def test_a_model_server_that_must_move_says_from_where(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = make_plan(tmp_path)
    write_run_env(first)
    given.setenv("PORT", str(first.model_port))
    second = make_plan(tmp_path)
    assert second.model_port != first.model_port
    assert second.moved_from == f"http://127.0.0.1:{first.model_port}/v1"


def test_values_survive_the_way_through_run_env(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = "redis://:pa#ss$wörd@example.invalid:6379/0"
    given.setenv("REDIS_URL", url)
    write_run_env(make_plan(tmp_path))
    assert read_file(tmp_path / "run.env")["REDIS_URL"] == url


def test_the_lock_is_free_again_after_its_holder(tmp_path: Path) -> None:
    (tmp_path / "run.lock").touch()
    with only_one(tmp_path):
        holder = json.loads((tmp_path / "run.lock").read_text("utf-8"))
        assert holder == {"pid": os.getpid(), "url": ""}
        with pytest.raises(CannotStart, match="is in use by a running copy"), only_one(tmp_path):
            pass
    with only_one(tmp_path):
        pass
