"""What a moderation page answers, or what stands in its place."""

import json
import time

import pytest

from llm import moderation
from llm.errors import LLMError, OutcomeUnknown, TryAgainLater
from llm.moderation import NoPage, is_absent, moderate
from tests.provider import MODERATIONS, Fault, Provider

TEXT = "唐,隐形,轻松"


def test_flagged_categories_are_named_by_the_model_server(model_server: object) -> None:
    assert moderate("default", TEXT) == []
    assert moderate("default", "唐,制造炸弹,轻松") == ["illicit"]


@pytest.mark.parametrize("status", [404, 405, 400, 501, 500, 401, 403])
def test_a_refusal_says_that_there_is_no_page(provider: Provider, status: int) -> None:
    provider.always(Fault.REFUSAL, path=MODERATIONS, status=status, body='{"detail": "Not Found"}')
    with pytest.raises(NoPage) as caught:
        moderate("default", TEXT)
    assert is_absent(caught.value, has_worked=False)
    assert not is_absent(caught.value, has_worked=True)


@pytest.mark.parametrize(
    "body",
    [
        {"error": "Unexpected endpoint or method. (POST /v1/moderations)"},
        {"object": "error", "message": "no such page"},
        {"results": []},
        {"results": "none"},
        {"results": [{"flagged": True, "categories": 7}]},
        {},
        [],
        "fine",
    ],
)
def test_a_200_that_is_no_moderation_says_that_there_is_no_page(provider: Provider, body: object) -> None:
    provider.always(Fault.REFUSAL, path=MODERATIONS, status=200, body=json.dumps(body))
    with pytest.raises(NoPage):
        moderate("default", TEXT)


@pytest.mark.parametrize("fault", [Fault.HTML, Fault.GARBAGE])
def test_so_does_a_page_for_people(provider: Provider, fault: Fault) -> None:
    provider.always(fault, path=MODERATIONS)
    with pytest.raises(NoPage):
        moderate("default", TEXT)


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.RATE_LIMIT, TryAgainLater), (Fault.RESET, OutcomeUnknown)]
)
def test_a_page_that_did_not_answer_is_not_absent(
    provider: Provider, fault: Fault, error: type[LLMError]
) -> None:
    provider.next(fault, path=MODERATIONS)
    with pytest.raises(error) as caught:
        moderate("default", TEXT)
    assert not is_absent(caught.value, has_worked=False)
    assert moderate("default", TEXT) == []


def test_a_page_that_hangs_is_not_waited_for(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moderation, "TIMEOUT", 0.3)
    provider.next(Fault.HANG, path=MODERATIONS)
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown) as caught:
        moderate("default", TEXT)
    assert time.monotonic() - began < 15
    assert not is_absent(caught.value, has_worked=False)
