"""Asks an endpoint whether ingredients are fit to be written about, before anything is ordered.

    MODERATION   who is asked                             absent      down        silent, 429
    auto         the endpoint that writes the story       writes      refuses     refuses
    required     the endpoint that writes the story       refuses     refuses     refuses
    an alias     that endpoint                            refuses     refuses     refuses
    off          nobody

A page is absent if its answer says so and it never worked; `ModerationPage` keeps that for all processes, and after
`ASK_AGAIN` one order looks again. A page that is down is asked by each order, after `PAUSE`, so it recovers by itself.
"""

import logging
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from llm import clients, moderation
from llm.errors import LLMError
from sentences import sentence_of
from stories.errors import StoryError, Unsuitable
from stories.models import LanguageModel, ModerationPage
from stories.values.combos import Combo

logger = logging.getLogger(__name__)
AUTO, REQUIRED, OFF = "auto", "required", "off"
ASK_AGAIN = timedelta(hours=1)
PAUSE = timedelta(seconds=5)


def check_combo(combo: Combo, *, model: LanguageModel) -> None:
    """Raises `Unsuitable` for a flagged combo; `StoryError` if nobody can say and `MODERATION` wants an answer."""
    if settings.MODERATION == OFF:
        return
    alias = model.endpoint if settings.MODERATION in (AUTO, REQUIRED) else settings.MODERATION
    page = _page_of(clients.endpoint(alias).base_url)
    if page.absent_since and not _may_look_again(page):
        _take_absence()
        return
    if page.is_down and page.failed_at and timezone.now() - page.failed_at < PAUSE:
        _take_failure()
        return
    try:
        flagged = moderation.moderate(alias, str(combo))
    except LLMError as error:
        _note_failure(page, error)
        return
    _note_answer(page)
    if flagged:
        raise Unsuitable(_("这组配料没有通过内容审核，请换一个说法。"))


def _page_of(base_url: str) -> ModerationPage:
    return ModerationPage.objects.get_or_create(base_url=base_url)[0]


def _may_look_again(page: ModerationPage) -> bool:
    """Whether this order is the one that asks a page again that was absent."""
    now = timezone.now()
    due = ModerationPage.objects.filter(pk=page.pk, absent_since__lte=now - ASK_AGAIN)
    return bool(due.update(absent_since=now))


def _note_answer(page: ModerationPage) -> None:
    """Writes down that the page works, at most once in `PAUSE`: each order would else change the row."""
    now = timezone.now()
    stale = Q(worked_at__isnull=True) | Q(worked_at__lt=now - PAUSE) | Q(absent_since__isnull=False)
    ModerationPage.objects.filter(stale | Q(failed_at__isnull=False), pk=page.pk).update(
        worked_at=now, absent_since=None, failed_at=None, words=""
    )


def _note_failure(page: ModerationPage, error: LLMError) -> None:
    logger.warning("moderation at %s failed: %s", page.base_url, error)
    absent = moderation.is_absent(error, has_worked=page.worked_at is not None)
    now, row = timezone.now(), ModerationPage.objects.filter(pk=page.pk)
    if absent:
        row.update(absent_since=now, failed_at=None, words=sentence_of(error))
        _take_absence()
    else:
        row.update(absent_since=None, failed_at=now, words=sentence_of(error))
        _take_failure()


def _take_absence() -> None:
    if settings.MODERATION != AUTO:
        raise StoryError(_("本站要先审核内容，而审核的服务没有这一页：请联系管理员。"))


def _take_failure() -> None:
    if not settings.MODERATION_FAIL_OPEN:
        raise StoryError(_("内容审核暂时没有回应，请稍后再试。"))


def moderation_troubles() -> list[ModerationPage]:
    """The pages that staff should hear of: absent, or down."""
    troubled = Q(absent_since__isnull=False) | Q(failed_at__isnull=False)
    return [] if settings.MODERATION == OFF else list(ModerationPage.objects.filter(troubled))
