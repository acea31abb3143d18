"""Who moderates, by `MODERATION`; a page that is absent is told from one that is down."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings as site
from django.core.checks import run_checks
from django.test import Client
from django.utils import timezone

from llm.endpoints import Endpoint
from stories.errors import StoryError, Unsuitable
from stories.models import LanguageModel, ModerationPage
from stories.readers.moderation import check_combo
from tests.factories import make_combo, make_model, make_person
from tests.provider import MODERATIONS, Fault, Provider

pytestmark = pytest.mark.django_db
LM_STUDIO = '{"error": "Unexpected endpoint or method. (POST /v1/moderations)"}'


@pytest.fixture
def model(provider: Provider) -> LanguageModel:
    return make_model()


def absent(provider: Provider) -> None:
    provider.always(Fault.REFUSAL, path=MODERATIONS, status=200, body=LM_STUDIO)


def down(provider: Provider) -> None:
    provider.always(Fault.RESET, path=MODERATIONS)


def asked(provider: Provider) -> int:
    return len(provider.posts(MODERATIONS))


def page() -> ModerationPage:
    return ModerationPage.objects.get()


def test_a_page_that_was_never_there_lets_everything_pass_and_is_asked_once(
    provider: Provider, model: LanguageModel
) -> None:
    absent(provider)
    for _ in range(3):
        check_combo(make_combo(), model=model)
    assert asked(provider) == 1
    assert "Unexpected endpoint" in str(page().words)


def test_after_an_hour_one_order_looks_again(provider: Provider, model: LanguageModel) -> None:
    absent(provider)
    check_combo(make_combo(), model=model)
    provider.well()
    provider.flagged = {"隐形"}
    with time_machine.travel(timezone.now() + timedelta(minutes=61), tick=False):
        with pytest.raises(Unsuitable):
            check_combo(make_combo(), model=model)
        assert page().absent_since is None


def test_a_page_that_worked_before_is_down_whatever_it_says(provider: Provider, model: LanguageModel) -> None:
    check_combo(make_combo(), model=model)
    absent(provider)
    with pytest.raises(StoryError, match="内容审核暂时没有回应"):
        check_combo(make_combo(), model=model)
    assert page().is_down


def test_a_page_that_is_down_refuses_and_recovers_by_itself(provider: Provider, model: LanguageModel) -> None:
    down(provider)
    now = timezone.now()
    with time_machine.travel(now, tick=False) as clock:
        for _ in range(3):
            with pytest.raises(StoryError, match="内容审核暂时没有回应"):
                check_combo(make_combo(), model=model)
        assert asked(provider) == 1, "a page that has just failed is not waited for again at once"
        provider.well()
        clock.shift(6)
        check_combo(make_combo(), model=model)
    assert not page().is_down


@pytest.mark.parametrize("trouble", [absent, down])
def test_required_writes_nothing_without_an_answer(
    provider: Provider, model: LanguageModel, settings: Any, trouble: Callable[[Provider], None]
) -> None:
    settings.MODERATION = "required"
    trouble(provider)
    with pytest.raises(StoryError):
        check_combo(make_combo(), model=model)
    provider.well()
    with time_machine.travel(timezone.now() + timedelta(minutes=61)):
        check_combo(make_combo(), model=model)


def test_off_asks_nobody(provider: Provider, model: LanguageModel, settings: Any) -> None:
    settings.MODERATION = "off"
    provider.flagged = {"隐形"}
    check_combo(make_combo(), model=model)
    assert asked(provider) == 0


def test_another_endpoint_moderates(provider: Provider, model: LanguageModel, settings: Any) -> None:
    provider.flagged = {"隐形"}
    here = site.LLM_ENDPOINTS["default"]
    nobody = Endpoint("default", "http://127.0.0.1:9/v1", "none")
    settings.LLM_ENDPOINTS = {"default": nobody, "judge": Endpoint("judge", here.base_url, "none")}
    settings.MODERATION = "judge"
    with pytest.raises(Unsuitable):
        check_combo(make_combo(), model=model)
    provider.flagged = None
    with pytest.raises(StoryError):
        check_combo(make_combo(), model=model)


def test_the_old_name_is_still_read_with_a_warning(
    provider: Provider, model: LanguageModel, settings: Any
) -> None:
    assert not [found for found in run_checks() if found.id == "stories.W001"]
    settings.MODERATION_FAIL_OPEN = True
    down(provider)
    check_combo(make_combo(), model=model)
    assert [found for found in run_checks() if found.id == "stories.W001"]


@pytest.mark.parametrize(("trouble", "words"), [(absent, "没有内容审核页"), (down, "读者现在不能要故事")])
def test_the_dashboard_says_which(
    provider: Provider, model: LanguageModel, client: Client, trouble: Callable[[Provider], None], words: str
) -> None:
    client.force_login(make_person("tom2", group="trainers"))
    assert words not in client.get("/admin/", headers={"accept-language": "zh-hans"}).content.decode()
    trouble(provider)
    try:
        check_combo(make_combo(), model=model)
    except StoryError as error:
        assert "内容审核" in str(error)
    assert words in client.get("/admin/", headers={"accept-language": "zh-hans"}).content.decode()
