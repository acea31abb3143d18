"""Changes how a model is asked: what its refusals taught, and what a trainer decided.

A change is a compare-and-set by the version of the dialect that it was made from. So two workers that learn the same at
once write it once, and nothing that was learnt overwrites what a person, or another worker, wrote meanwhile.
"""

import logging
from collections.abc import Sequence

from django.db import transaction
from django.db.models import F

from llm.dialects import BadDialect, Dialect, read_dialect
from llm.lessons import Lesson
from sentences import sentence as _
from stories.errors import BadState, StoryError
from stories.models import AuditEntry, DialectLesson, LanguageModel
from stories.operations.audit import Actor, record

logger = logging.getLogger(__name__)
MAX_NAMED, MAX_WORDS = 80, 1_000


def keep_lessons(model: LanguageModel, lessons: Sequence[Lesson]) -> bool:
    """Keeps what the refusals of one question taught, in their order; False if there is nothing to keep any more.

    `model`: the row as it was when the question was asked.
    """
    if not lessons:
        return False
    learnt = lessons[-1].dialect
    with transaction.atomic():
        if not _change(model, learnt):
            return False
        DialectLesson.objects.bulk_create(
            DialectLesson(
                language_model=model,
                named=lesson.named[:MAX_NAMED],
                words=lesson.words[:MAX_WORDS],
                dialect=lesson.dialect.as_json(),
            )
            for lesson in lessons
        )
    logger.warning("model %s is asked otherwise from now on: %s", model.name, learnt.as_json())
    return True


def set_dialect(model: LanguageModel, settings: object, *, by: Actor) -> bool:
    """A trainer's decision; None for `settings`: as the family is asked. False if nothing changes.

    `model`: the row as the trainer saw it. Raises `StoryError` for what is no dialect, `BadState` if it has changed.
    """
    try:
        dialect = None if settings is None else read_dialect(settings)
    except BadDialect as error:
        raise StoryError(error.args[0]) from error
    before, after = model.dialect_settings, None if dialect is None else dialect.as_json()
    if before == after:
        return False
    with transaction.atomic():
        if not _change(model, dialect):
            raise BadState(_("这个模型的接口方言刚刚改变了：请重新打开这一页。"))
        action = AuditEntry.Action.MODEL_DIALECT_CHANGED
        record(action, model, by=by, before={"dialect": before}, after={"dialect": after})
    return True


def _change(model: LanguageModel, dialect: Dialect | None) -> bool:
    settings = None if dialect is None else dialect.as_json()
    row = LanguageModel.objects.filter(pk=model.pk, dialect_version=model.dialect_version)
    if not row.update(dialect_settings=settings, dialect_version=F("dialect_version") + 1):
        return False
    model.dialect_settings, model.dialect_version = settings, model.dialect_version + 1
    return True
