"""A sentence that a worker wrote down in Chinese is read in English by who reads English."""

import pytest
from django.test import Client

from llm.errors import Refused
from sentences import sentence as _
from sentences import sentence_of
from tests.factories import make_person, make_run, make_story

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("language", "why", "paused"),
    [
        ("zh-hans", "模型服务拒绝了（400：no such thing）。", "已自动暂停："),
        (
            "en",
            "The model service refused (400：no such thing).",
            "Paused by itself: The model service refused",
        ),
    ],
)
def test_it_is_read_in_the_readers_language(client: Client, language: str, why: str, paused: str):
    said = sentence_of(Refused(_("模型服务拒绝了（%(words)s）。") % {"words": "400：no such thing"}))
    run = make_run(state="paused", pause_reason=_("已自动暂停：%(why)s") % {"why": said})
    story = make_story(run=run, state="failed", text="", error=said)
    boss = make_person("boss")
    boss.is_staff = boss.is_superuser = True
    boss.save()
    client.force_login(boss)
    headers = {"Accept-Language": language}
    assert why in client.get(f"/admin/stories/story/{story.pk}/change/", headers=headers).content.decode()
    page = client.get(f"/admin/stories/run/{run.pk}/change/", headers=headers).content.decode()
    assert paused in page
