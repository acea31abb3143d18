"""Sentences that rows keep, said later in the language of whoever looks."""

import json

import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from llm.errors import OutcomeUnknown, Refused
from llm.redaction import MAX_LENGTH
from sentences import Sentence, add_line, dump, load, sentence_of
from sentences import sentence as _
from stories.errors import OverBudget
from stories.models import Run, Story
from tests.factories import make_run, make_story

LIMIT = _("今天的花费会超过每日上限 %(limit)s。") % {"limit": "$5"}


def test_it_is_said_in_the_language_of_who_looks():
    with translation.override("zh-hans"):
        assert str(LIMIT) == "今天的花费会超过每日上限 $5。"
    with translation.override("en"):
        assert str(LIMIT) != "今天的花费会超过每日上限 $5。"
        assert "$5" in str(LIMIT)


def test_a_sentence_inside_another_is_translated_with_it():
    why = _("已自动暂停：%(why)s") % {"why": LIMIT}
    with translation.override("en"):
        assert str(LIMIT) in str(why)
        assert not any("\u4e00" <= char <= "\u9fff" for char in str(why))


def test_an_error_as_a_parameter_keeps_its_sentence():
    why = _("已自动暂停：%(why)s") % {"why": OverBudget(LIMIT)}
    assert dict(why.parameters)["why"] == LIMIT
    assert sentence_of(OverBudget(LIMIT)) == sentence_of(LIMIT) == LIMIT
    assert sentence_of(ValueError("anything")) == "anything"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "模型服务拒绝了（400：bad request）。",
        "{",
        '{"sentence": ',
        '{"sentence": "x"}',
        '{"sentence": "x", "parameters": 3}',
        '{"sentence": "x", "parameters": {"a": {"b": 1}}}',
        '{"sentence": ' + "[" * 10_000,
        '{"error": {"message": "no"}}',
    ],
)
def test_a_text_that_is_no_sentence_of_ours_stays_what_it_is(text: str):
    assert load(text) == text


VALUES = st.recursive(
    st.text() | st.integers() | st.none(),
    lambda inner: st.builds(
        lambda key, parameters: Sentence(key, tuple(parameters.items())),
        st.text(min_size=1),
        st.dictionaries(st.text(), inner, max_size=3),
    ),
    max_leaves=5,
)


@given(VALUES)
def test_what_was_kept_is_read_again(value: object):
    if isinstance(value, Sentence):
        assert load(dump(value)) == value


@pytest.mark.django_db
def test_a_row_keeps_key_and_parameters_and_filters_by_them():
    story = make_story(state="failed", text="", error=LIMIT)
    kept = Story.objects.get(pk=story.pk)
    assert kept.error == LIMIT
    assert Story.objects.filter(error=LIMIT).exists()
    assert not Story.objects.exclude(error="").exclude(error=LIMIT).exists()
    raw = Story.objects.extra(select={"raw": "error"}).values_list("raw", flat=True).get()
    assert json.loads(raw) == {"sentence": LIMIT.key, "parameters": {"limit": "$5"}}


@pytest.mark.django_db
def test_a_row_of_the_last_version_still_shows_its_words():
    run = make_run(state="paused", pause_reason="连续 10 篇失败，已自动暂停。")
    assert Run.objects.get(pk=run.pk).pause_reason == "连续 10 篇失败，已自动暂停。"


def test_a_line_is_added_below():
    assert add_line("", LIMIT) == LIMIT
    with translation.override("zh-hans"):
        assert str(add_line("先前的话", LIMIT)) == "先前的话\n今天的花费会超过每日上限 $5。"


def test_a_providers_words_inside_a_sentence_are_redacted(settings):
    key = next(iter(settings.LLM_ENDPOINTS.values())).key
    said = sentence_of(Refused(_("模型服务拒绝了（%(words)s）。") % {"words": "x\0" * 10_000}))
    assert "\0" not in str(said) and len(str(said)) <= MAX_LENGTH
    assert key == "none" or key not in str(OutcomeUnknown(_("模型服务报错：%(words)s") % {"words": key}))
