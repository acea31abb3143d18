"""A story whose provider asked for patience says so: to its reader, on page and socket, and to staff."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from stories.live.snapshots import take_snapshots
from stories.models import Story
from stories.readers.identity import COOKIE, new_key, sign_key
from tests.factories import make_model, make_run, make_story

pytestmark = pytest.mark.django_db
KEY = new_key()
NOW = "2026-11-25 04:00:00+00:00"  # noon in Shanghai


@pytest.fixture(autouse=True)
def _noon(time_machine: Any) -> None:
    time_machine.move_to(NOW, tick=False)


def waiting_story(seconds: int | None, *, error: str = "模型服务要求稍后再试。", **kw: Any) -> Story:
    until = None if seconds is None else timezone.now() + timedelta(seconds=seconds)
    owner = {} if "run" in kw else {"reader_key": KEY}
    return make_story(state="queued", next_try_at=until, error=error, **owner, **kw)


@pytest.mark.parametrize(
    ("seconds", "error", "said", "wait"),
    [
        (90, "429", "模型服务要求等待，约 2 分钟后再试", 90),
        (60, "429", "模型服务要求等待，约 1 分钟后再试", 60),
        (10, "429", "模型服务要求等待，约 1 分钟后再试", 10),
        (3, "429", "排队第 1 位", 0),
        (-5, "429", "排队第 1 位", 0),
        (None, "", "排队第 1 位", 0),
        (90, "", "排队第 1 位", 0),  # its turn did not come: nobody was asked
    ],
)
def test_the_reader_learns_why_it_waits(seconds: int | None, error: str, said: str, wait: int) -> None:
    story = waiting_story(seconds, error=error)
    client = Client()
    client.cookies[COOKIE] = sign_key(KEY)
    page = client.get(f"/stories/{story.pk}/").content.decode()
    assert f">{said}</span>" in page
    assert take_snapshots([story.pk])[story.pk].wait == wait


def test_staff_see_which_model_is_waited_for_and_until_when(client: Client, alice: User) -> None:
    slow, quick = make_model("slow"), make_model("quick")
    waiting_story(300, language_model=slow)
    waiting_story(1800, language_model=slow)
    waiting_story(30, language_model=quick)
    waiting_story(3600, run=make_run(language_model=quick))
    client.force_login(alice)
    page = client.get("/admin/").content.decode()
    assert '<span class="desk-name">slow</span> <span>模型被要求等到 12:30，读者的故事在等' in page
    assert page.count("模型被要求等到") == 1
