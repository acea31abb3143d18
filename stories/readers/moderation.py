"""Asks the endpoint whether ingredients are fit to be written about, before anything is ordered."""

import logging

from django.conf import settings
from django.utils.translation import gettext as _

from llm import calls
from llm.errors import LLMError
from stories.errors import StoryError, Unsuitable
from stories.models import LanguageModel
from stories.values.combos import Combo

logger = logging.getLogger(__name__)


def check_combo(combo: Combo, *, model: LanguageModel) -> None:
    """Raises `Unsuitable` for a flagged combo; `StoryError` if nobody can say and `MODERATION_FAIL_OPEN` is off.

    An endpoint without a moderation page lets everything pass.
    """
    try:
        flagged = calls.moderate(model.endpoint, str(combo))
    except LLMError as error:
        logger.warning("Moderation at %s failed: %s", model.endpoint, error)
        if settings.MODERATION_FAIL_OPEN:
            return
        raise StoryError(_("内容审核暂时没有回应，请稍后再试。")) from error
    if flagged:
        raise Unsuitable(_("这组配料没有通过内容审核，请换一个说法。"))
