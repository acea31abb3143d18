"""Finds out what an endpoint can do, and keeps it, so that pages offer nothing that cannot work.

Lists cost nothing. Two short answers, one whole and one streamed, cost a few tokens: their price is named first, and
each is a row of the ledger before it is asked for. Nothing is created at the provider.
"""

from collections.abc import Iterable
from dataclasses import asdict, replace

from django.conf import settings
from django.utils import timezone

from llm import capabilities
from llm.answers import Answer
from llm.capabilities import Capability, Verdict
from llm.endpoints import Endpoint
from llm.errors import LLMError
from llm.lessons import Lesson
from llm.questions import Ask
from sentences import Words, sentence_of
from sentences import sentence as _
from stories.dialects import keep_lessons
from stories.errors import StoryError
from stories.generation import outcomes
from stories.generation.attempts import open_check, reservation, settle
from stories.generation.connections import release_scarce_connection
from stories.generation.prompts import ask_for
from stories.models import Attempt, EndpointCheck, LanguageModel
from stories.operations.audit import Actor
from stories.provider_accounts import note_refusal, say_paid
from stories.values.combos import Combo

TRIAL = Combo("唐", "隐形", "轻松")
TRIAL_TOKENS = 16
MAX_SILENCE = 20.0  # seconds: somebody waits at a page
PAID = {"whole": capabilities.try_answer, "streamed": capabilities.try_stream}


def endpoint_of(alias: str) -> Endpoint:
    """The endpoint of that name. Raises `StoryError` for one that the settings do not have."""
    place = settings.LLM_ENDPOINTS.get(alias.lower())
    if place is None:
        words = {"alias": alias, "known": "、".join(settings.LLM_ENDPOINTS)}
        raise StoryError(_("没有接入点「%(alias)s」。设置里有：%(known)s。") % words)
    return place


def trial_model(alias: str, name: str = "") -> LanguageModel | None:
    """The model that is tried: the one of that name, else the one of the endpoint that was put in use last, else its
    newest; None if it has none. Raises `StoryError` for a name that it does not have."""
    place = endpoint_of(alias)
    models = LanguageModel.objects.filter(base_url=place.base_url)
    if not name:
        return models.promoted().first() or models.order_by("created_at", "pk").first()
    model = models.filter(name=name).first()
    if model is None:
        raise StoryError(
            _("接入点「%(alias)s」没有名为「%(name)s」的模型。") % {"alias": alias, "name": name}
        )
    return model


def price_of(model: LanguageModel | None) -> int | None:
    """The most that the two answers can cost, micro-USD; None for an unknown price, 0 if none is asked."""
    most = reservation(model, _ask(model)) if model else 0
    return None if most is None else len(PAID) * most


def check_endpoint(alias: str, *, by: Actor, model: LanguageModel | None) -> EndpointCheck:
    """Asks the endpoint for all that it might have, and keeps what came.

    Raises `StoryError` for an unknown alias; `OverBudget` and `UnknownModel` before the answers are asked for.
    """
    place = endpoint_of(alias)
    say_paid(place.base_url, by=by)
    release_scarce_connection()
    listing = capabilities.list_capabilities(place.alias)
    findings = list(listing.findings)
    if model is not None:
        for trial in PAID:
            findings += _try(model, trial)
    _keep_retirements(place, listing)
    found = {finding.name: finding for finding in findings}
    kept = [found.get(name) or Capability(name, Verdict.UNKNOWN, "—", "—") for name in capabilities.NAMES]
    values = {
        "alias": place.alias,
        "model_name": model.name if model else "",
        "findings": [asdict(finding) for finding in kept],
        "checked_by": str(by)[:200],
        "checked_at": timezone.now(),
    }
    return EndpointCheck.objects.update_or_create(base_url=place.base_url, defaults=values)[0]


def _ask(model: LanguageModel) -> Ask:
    ask = ask_for(model, TRIAL, template=None)
    return replace(ask, max_tokens=model.dialect.room(TRIAL_TOKENS))


def _try(model: LanguageModel, trial: str) -> list[Capability]:
    """What one short answer shows."""
    model.refresh_from_db(fields=["dialect_settings", "dialect_version"])
    ask = _ask(model)
    attempt, lessons = open_check(model, ask), list[Lesson]()
    release_scarce_connection()
    answer, findings, error = PAID[trial](model.endpoint, ask, seconds=MAX_SILENCE, learn=lessons.append)
    _settle(attempt, answer, error)
    keep_lessons(model, lessons)
    return findings


def _settle(attempt: Attempt, answer: Answer | None, error: LLMError | None) -> None:
    if answer is None:
        assert error is not None, "a trial has an answer or an error"
        settle(
            attempt, state=outcomes.of_error(error, for_reader=False).attempt_state, error=sentence_of(error)
        )
        note_refusal(attempt.language_model, error, asked_at=attempt.started_at)
        return
    settle(
        attempt,
        state=Attempt.State.COMPLETE,
        finish_reason=answer.finish_word,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cached_tokens=answer.cached_tokens,
        reasoning_tokens=answer.reasoning_tokens,
        odd_usage=answer.odd_usage,
    )


def _keep_retirements(place: Endpoint, listing: capabilities.Listing) -> None:
    """Dates of retirement that the endpoint names, for its models that have none."""
    for name, day in listing.retirements.items():
        models = LanguageModel.objects.filter(base_url=place.base_url, name=name, shutdown_date__isnull=True)
        models.update(shutdown_date=day)


def why_not(base_urls: Iterable[str], name: str) -> dict[str, Words]:
    """Sentences why endpoints cannot do a thing, by their addresses, as their last checks found. Those that can, or of
    which nobody knows, have none."""
    reasons: dict[str, Words] = {}
    for check in EndpointCheck.objects.filter(base_url__in=set(base_urls)):
        if check.verdict_on(name) == Verdict.NO:
            day = f"{timezone.localtime(check.checked_at):%Y-%m-%d}"
            reasons[check.base_url] = SENTENCES[name] % {"alias": check.alias, "day": day}
    return reasons


SENTENCES = {
    "batches": _("接入点「%(alias)s」没有批量接口（%(day)s 检查过），不能半价批量。"),
    "fine_tuning": _("接入点「%(alias)s」不能微调（%(day)s 检查过）。"),
}
LABELS = {
    "models": _("模型列表"),
    "retirement": _("停用日期"),
    "chat": _("对话"),
    "rate_headers": _("限速的说明"),
    "system_role": _("系统消息"),
    "stream": _("流式回答"),
    "stream_usage": _("流式回答的用量"),
    "moderation": _("内容审核"),
    "files": _("文件"),
    "fine_tuning": _("微调"),
    "metadata_filter": _("按元数据筛选任务"),
    "batches": _("半价批量"),
}
VERDICTS = {"yes": _("有"), "no": _("没有"), "unknown": _("不清楚")}
