"""A database that the last version left behind: brought up to date, started, read in both languages.

`last_version/site.sql` was written by the version before the modules moved into their rooms (d682916): a paused run,
stories that failed and were cut, calls, a batch order and a job, each with the sentence it was given then.
"""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import BASE_DIR, clean_environment

DUMP = Path(__file__).parent / "last_version" / "site.sql"
READ = """
import django
django.setup()
from django.contrib.auth.models import User
from django.test import Client
from stories.models import Run, Story, BatchOrder, Attempt
from finetuning.models import Job

client = Client()
client.force_login(User.objects.get(username="alice"))
def page(url):
    reply = client.get(url, HTTP_ACCEPT_LANGUAGE="en")
    assert reply.status_code == 200, (url, reply.status_code)
    return reply.content.decode()

run, job, order = Run.objects.get(), Job.objects.get(), BatchOrder.objects.get()
failed = Story.objects.get(state="failed")
assert "奥特曼" in page("/")
assert "连续 10 篇失败" in page(f"/admin/stories/run/{run.pk}/change/")
assert "max_tokens is not supported" in page(f"/admin/stories/story/{failed.pk}/change/")
assert "下单时工作进程中断了" in page(f"/admin/stories/batchorder/{order.pk}/change/")
assert "训练不可用" in page(f"/admin/finetuning/job/{job.pk}/change/")
assert "写作进程中断了" in page(f"/admin/stories/attempt/{Attempt.objects.get(state='unknown').pk}/change/")
print("read")
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a site whose database is the dump."""
    database = sqlite3.connect(tmp_path / "site.sqlite3")
    database.executescript(DUMP.read_text("utf-8"))
    database.close()
    return clean_environment() | {
        "READ_ENV_FILES": "0",
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path}/site.sqlite3",
        "REDIS_URL": os.environ["REDIS_URL"],
        "SECRET_KEY": "a key of this test alone",
        "DEBUG": "1",
        "ALLOWED_HOSTS": "testserver",
        "DJANGO_SETTINGS_MODULE": "ultraman_site.settings",
    }


def run(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=BASE_DIR, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("redis_server")
def test_a_database_of_the_last_version_starts_and_shows_its_sentences(env: dict[str, str]) -> None:
    run(env, "manage.py", "prepare_site")

    assert run(env, "manage.py", "migrate", "--check", "-v0") == ""
    assert run(env, "-c", READ).endswith("read\n")
