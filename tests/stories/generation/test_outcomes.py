"""Every row of the tables in `stories/generation/outcomes.py`."""

import pytest

from llm.errors import (
    Declined,
    FailedAnswer,
    LLMError,
    OutcomeUnknown,
    OutOfMoney,
    Refused,
    ServerFailed,
    TryAgainLater,
)
from sentences import sentence as _
from stories.errors import OverBudget, StoryError, UnknownModel
from stories.generation import outcomes
from stories.generation.outcomes import Outcome
from stories.models import Attempt, EndReason

COMPLETE, INTERRUPTED = Attempt.State.COMPLETE, Attempt.State.INTERRUPTED
REFUSED, UNKNOWN = Attempt.State.REFUSED, Attempt.State.UNKNOWN
INTERNAL = _("本站内部出错，没有再写下去；原因在日志里。")


def limited(retry_after: float | None = None) -> TryAgainLater:
    return TryAgainLater("429", status=429, retry_after=retry_after)


def unreached(retry_after: float | None = None) -> TryAgainLater:
    return TryAgainLater("连不上", retry_after=retry_after)


@pytest.mark.parametrize(
    ("finish_reason", "expected"),
    [
        ("stop", Outcome(EndReason.STOP, COMPLETE)),
        ("length", Outcome(EndReason.LENGTH, INTERRUPTED)),
        ("content_filter", Outcome(EndReason.CONTENT_FILTER, INTERRUPTED)),
        ("", Outcome(EndReason.CUT, INTERRUPTED)),
    ],
)
def test_an_answer(finish_reason: str, expected: Outcome) -> None:
    assert outcomes.of_answer(finish_reason) == expected


def test_the_words_in_which_a_model_declined() -> None:
    outcome = outcomes.of_answer("content_filter", refusal=" 我不能写。\0" + "长" * 5000)
    assert (outcome.reason, outcome.attempt_state) == (EndReason.CONTENT_FILTER, INTERRUPTED)
    assert str(outcome.error).startswith("模型不肯写：我不能写。\ufffd长")
    assert len(str(outcome.error)) < 1000


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (limited(), Outcome(None, REFUSED, "429", retry_in=5.0)),
        (limited(0.0), Outcome(None, REFUSED, "429", retry_in=0.0)),
        (limited(60.0), Outcome(None, REFUSED, "429", retry_in=60.0)),
        (limited(61.0), Outcome(None, REFUSED, "429", retry_in=60.0, use_up_try=True)),
        (unreached(), Outcome(None, REFUSED, "连不上", retry_in=5.0, use_up_try=True)),
        (unreached(7.0), Outcome(None, REFUSED, "连不上", retry_in=7.0, use_up_try=True)),
        (ServerFailed("500", status=500), Outcome(None, REFUSED, "500", retry_in=5.0, use_up_try=True)),
        (OutOfMoney("额度", status=429), Outcome(EndReason.QUOTA, REFUSED, "额度")),
        (Refused("400", status=400), Outcome(EndReason.REFUSED, REFUSED, "400")),
        (Declined("不写", status=400), Outcome(EndReason.CONTENT_FILTER, REFUSED, "不写")),
        (FailedAnswer("忙"), Outcome(EndReason.REFUSED, UNKNOWN, "忙")),
        (OutcomeUnknown("断了"), Outcome(EndReason.UNKNOWN, UNKNOWN, "断了")),
        (TimeoutError(), Outcome(EndReason.UNKNOWN, UNKNOWN, _("模型服务写得太久，已停止等待。"))),
        (ValueError("sk-secret"), Outcome(EndReason.UNKNOWN, UNKNOWN, INTERNAL)),
    ],
)
def test_an_error_of_a_readers_story_without_text(error: Exception, expected: Outcome) -> None:
    assert outcomes.of_error(error, for_reader=True) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (limited(), Outcome(EndReason.REFUSED, REFUSED, "429")),
        (ServerFailed("500", status=500), Outcome(EndReason.REFUSED, REFUSED, "500")),
        (OutOfMoney("额度", status=429), Outcome(EndReason.QUOTA, REFUSED, "额度")),
        (Refused("400", status=400), Outcome(EndReason.REFUSED, REFUSED, "400")),
        (Declined("不写", status=400), Outcome(EndReason.CONTENT_FILTER, REFUSED, "不写")),
        (FailedAnswer("忙"), Outcome(EndReason.CUT, INTERRUPTED, "忙")),
        (OutcomeUnknown("断了"), Outcome(EndReason.CUT, INTERRUPTED, "断了")),
        (TimeoutError(), Outcome(EndReason.CUT, INTERRUPTED, _("模型服务写得太久，已停止等待。"))),
        (ValueError("sk-secret"), Outcome(EndReason.CUT, INTERRUPTED, INTERNAL)),
    ],
)
def test_an_error_of_a_readers_story_with_text(error: Exception, expected: Outcome) -> None:
    assert outcomes.of_error(error, for_reader=True, has_text=True) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (limited(), Outcome(None, REFUSED, "429", retry_in=5.0)),
        (limited(61.0), Outcome(None, REFUSED, "429", retry_in=61.0)),
        (limited(601.0), Outcome(None, REFUSED, "429", retry_in=600.0)),
        (unreached(), Outcome(None, REFUSED, "连不上", retry_in=5.0, use_up_try=True)),
        (ServerFailed("500", status=500), Outcome(None, REFUSED, "500", retry_in=5.0, use_up_try=True)),
        (OutOfMoney("额度", status=429), Outcome(None, REFUSED, "额度", pause_run=True)),
        (Refused("400", status=400), Outcome(EndReason.REFUSED, REFUSED, "400")),
        (Declined("不写", status=400), Outcome(EndReason.CONTENT_FILTER, REFUSED, "不写")),
        (FailedAnswer("忙"), Outcome(EndReason.REFUSED, UNKNOWN, "忙")),
        (OutcomeUnknown("断了"), Outcome(EndReason.UNKNOWN, UNKNOWN, "断了")),
    ],
)
def test_an_error_of_a_story_of_a_run(error: LLMError, expected: Outcome) -> None:
    assert outcomes.of_error(error, for_reader=False) == expected


@pytest.mark.parametrize(
    ("error", "for_reader", "expected"),
    [
        (OverBudget("预算"), True, Outcome(EndReason.QUOTA, error="预算")),
        (OverBudget("预算"), False, Outcome(None, error="预算", pause_run=True)),
        (UnknownModel("价格"), True, Outcome(EndReason.REFUSED, error="价格")),
        (UnknownModel("价格"), False, Outcome(EndReason.REFUSED, error="价格", pause_run=True)),
    ],
)
def test_an_error_before_the_call(error: StoryError, for_reader: bool, expected: Outcome) -> None:
    assert outcomes.of_unmade_call(error, for_reader=for_reader) == expected


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (outcomes.of_stop(), Outcome(EndReason.STOPPED, INTERRUPTED)),
        (outcomes.of_loss("没了"), Outcome(EndReason.LOST, UNKNOWN, "没了")),
        (outcomes.of_unstorable("存不下", has_text=True), Outcome(EndReason.CUT, UNKNOWN, "存不下")),
        (outcomes.of_unstorable("存不下", has_text=False), Outcome(EndReason.UNKNOWN, UNKNOWN, "存不下")),
    ],
)
def test_an_end_from_our_side(outcome: Outcome, expected: Outcome) -> None:
    assert outcome == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (limited(), True),
        (unreached(), False),
        (ServerFailed("500", status=500), False),
        (OutOfMoney("额度", status=429), False),
        (Refused("400", status=400), False),
        (OutcomeUnknown("断了"), False),
        (None, False),
    ],
)
def test_the_rate_limiter_learns_of_a_429_alone(error: LLMError | None, expected: bool) -> None:
    assert outcomes.is_rate_limited(error) is expected
