"""Puts a language model in use, after one real call has shown that its endpoint serves it.

Rolling back is promoting an older model, by the same way. The call is a row of the ledger before it is made,
like any other; a press that finds one open for the same model is turned away by a constraint of that row.
"""

from dataclasses import dataclass, replace

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext

from llm import calls
from llm.answers import Answer
from llm.errors import LLMError
from sentences import Words, sentence_of
from sentences import sentence as _
from stories.errors import BadState, UnknownModel
from stories.generation.attempts import open_promotion, settle
from stories.generation.connections import release_scarce_connection
from stories.generation.outcomes import of_answer, of_error
from stories.generation.prompts import ask_for
from stories.generation.text_assembly import TextAssembler
from stories.language_models import check_endpoint, check_in_service, learn_opening
from stories.models import Attempt, AuditEntry, LanguageModel
from stories.operations.audit import Actor, record
from stories.values.combos import Combo

TRIAL = Combo("唐", "隐形", "轻松")
TRIAL_TOKENS = 60
SHOWN = 60  # characters of the answer
SOON = 30  # days
MAX_SILENCE = 30.0  # seconds: somebody waits at a page


@dataclass(frozen=True)
class Promotion:
    """`previous` was in use before; `answer` is how the model's answer began, "" if it was in use already."""

    previous: LanguageModel | None
    answer: str


class _InUse(Exception):
    """The model is in use already: nothing is asked, nothing is paid."""


def promote(model: LanguageModel, *, by: Actor) -> Promotion:
    """Makes `model` the serving model, if it answers one question.

    Raises `UnknownModel` if it is retired, elsewhere, of unknown price under a daily limit, or does not answer
    (with the provider's words); `OverBudget`; `BadState` while someone else is trying it.
    """
    check_endpoint(model)
    check_in_service(model)
    ask = replace(ask_for(model, TRIAL, template=None), max_tokens=TRIAL_TOKENS)
    try:
        attempt = _open(model, ask)
    except _InUse:
        return Promotion(previous=model, answer="")
    release_scarce_connection()
    return _conclude(attempt, _call(attempt, ask), by=by)


def warn_of_shutdown(model: LanguageModel) -> str:
    """A sentence if the model will be shut down within `SOON` days, else ""."""
    if model.shutdown_date is None:
        return ""
    days = (model.shutdown_date - timezone.localdate()).days
    words = {"name": model.name, "days": days, "date": model.shutdown_date}
    return str(_("模型「%(name)s」%(days)s 天后停用（%(date)s）。") % words) if 0 < days <= SOON else ""


def _open(model: LanguageModel, ask: calls.Ask) -> Attempt:
    try:
        with transaction.atomic():
            attempt = open_promotion(model, ask)
            # Asked only now: an attempt that ended a moment ago may have promoted the model already.
            if LanguageModel.objects.promoted().first() == model:
                raise _InUse
            return attempt
    except IntegrityError as error:
        raise BadState(_("有人正在试问模型「%(name)s」：请等它答完。") % {"name": model.name}) from error


def _call(attempt: Attempt, ask: calls.Ask) -> Answer:
    model = attempt.language_model
    try:
        return calls.complete(model.endpoint, ask, seconds=MAX_SILENCE)
    except LLMError as error:
        settle(attempt, state=of_error(error, for_reader=False).attempt_state, error=sentence_of(error))
        raise _stays_out(model, sentence_of(error)) from error


def _conclude(attempt: Attempt, answer: Answer, *, by: Actor) -> Promotion:
    """Settles the call, puts its model in use and writes down who did it, together."""
    model, said = attempt.language_model, _first_characters(answer)
    with transaction.atomic():
        settled = settle(
            attempt,
            state=Attempt.State.COMPLETE,
            finish_reason=answer.finish_word,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
        )
        learn_opening(model, opened_inside=answer.opened_inside)
        if settled and said:
            previous = _put_in_use(model)
            before = {"serving": previous.name if previous else None}
            after = {"serving": model.name, "answer": said}
            record(AuditEntry.Action.MODEL_PROMOTED, model, by=by, before=before, after=after)
            return Promotion(previous, said)
    if not settled:
        raise _stays_out(model, _("它答得太晚，这次调用已记为结果不明。"))
    raise _stays_out(
        model, of_answer(answer.finish_reason, refusal=answer.refusal).error or _("它什么也没有答。")
    )


def _put_in_use(model: LanguageModel) -> LanguageModel | None:
    """The newest `promoted_at` serves; returns the model that did until now."""
    previous = LanguageModel.objects.promoted().first()
    now = timezone.now()
    if previous is not None and previous.promoted_at is not None:
        now = max(now, previous.promoted_at)
    LanguageModel.objects.filter(pk=model.pk).update(promoted_at=now)
    model.promoted_at = now
    return previous


def _first_characters(answer: Answer) -> str:
    """How the text begins; a few words for an answer whose length was used up by thinking, "" for none at all."""
    assembler = TextAssembler()
    assembler.add(answer.text)
    assembler.finish()
    text = assembler.take().strip()
    if not text and answer.thinking:
        return gettext("（它先思考，试问的长度里还没有写到故事）")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _stays_out(model: LanguageModel, why: Words) -> UnknownModel:
    return UnknownModel(_("模型「%(name)s」没有启用：%(why)s") % {"name": model.name, "why": why})
