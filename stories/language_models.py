"""Which language models there are, and which one writes the readers' stories.

The serving model is the one promoted last (promotion.py); until a first promotion it is `OPENAI_MODEL`.
"""

from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from llm import calls, clients
from llm.errors import Refused
from sentences import sentence as _
from sentences import sentence_of
from stories.errors import StoryError, UnknownModel
from stories.models import AuditEntry, LanguageModel, PromptStyle
from stories.models.language_models import MAX_USD, PRICES
from stories.operations.audit import Actor, record
from stories.values.prices import Prices, prices_for


def ensure_models() -> None:
    """Rows for `OPENAI_MODEL` and `FINE_TUNE_BASE_MODEL` at the default endpoint; those there are kept."""
    for name in (settings.OPENAI_MODEL, settings.FINE_TUNE_BASE_MODEL):
        add_model(name, endpoint="default")


def add_model(
    name: str,
    *,
    endpoint: str,
    base: str = "",
    parent: LanguageModel | None = None,
    prompt_style: str = PromptStyle.TEMPLATE,
    system_message: str = "",
    stop: str = "",
) -> LanguageModel:
    """The row of a model at an endpoint, created with the table's prices if there is none."""
    prices = prices_for(name)
    model, _created = LanguageModel.objects.get_or_create(
        name=name,
        base_url=clients.endpoint(endpoint).base_url,
        defaults={
            "endpoint": endpoint,
            "base": base or name,
            "parent": parent,
            "dialect_settings": parent.dialect_settings if parent else None,
            "prompt_style": prompt_style,
            "system_message": system_message,
            "stop": stop,
            "input_price": prices.input,
            "output_price": prices.output,
            "training_price": prices.training,
            "cached_input_price": prices.cached,
        },
    )
    return model


def find_model(name: str) -> LanguageModel:
    """The model of that name at an endpoint of this deployment. Raises `UnknownModel`."""
    addresses = [place.base_url for place in settings.LLM_ENDPOINTS.values()]
    model = LanguageModel.objects.filter(name=name, base_url__in=addresses).first()
    if model is None:
        known = LanguageModel.objects.filter(base_url__in=addresses).values_list("name", flat=True)[:5]
        words = {"name": name, "known": "、".join(known) or "—"}
        raise UnknownModel(_("没有名为「%(name)s」的模型。已知的有：%(known)s。") % words)
    return model


def orderable_model(name: str) -> LanguageModel:
    """The model of that name, after its endpoint said that it has it; a base model of the default endpoint
    that has no row yet gets one. Raises `UnknownModel`, and `llm.LLMError` (down, wrong key, unknown there).
    """
    try:
        model = find_model(name)
    except UnknownModel:
        calls.check_model("default", name)
        return add_model(name, endpoint="default")
    calls.check_model(model.endpoint, name)
    return model


def reprice(model: LanguageModel, prices: Prices, *, by: Actor) -> bool:
    """Sets what a model costs, and writes down who did it; False if nothing changed.

    Raises `StoryError` for a price that is negative, no number, or above `MAX_USD`.
    """
    for price in prices:
        if price is not None and not (price.is_finite() and 0 <= price <= MAX_USD):
            raise StoryError(_("价格要在 0 到 %(most)s 美元之间。") % {"most": MAX_USD})
    with transaction.atomic():
        row = LanguageModel.objects.get(pk=model.pk)
        before, after = _as_text(prices_of(row)), _as_text(prices)
        if before == after:
            return False
        changes = dict(zip(PRICES, prices, strict=True))
        LanguageModel.objects.filter(pk=model.pk).update(**changes)
        record(AuditEntry.Action.MODEL_REPRICED, model, by=by, before=before, after=after)
    return True


def learn_opening(model: LanguageModel, *, opened_inside: bool | None) -> None:
    """Keeps what an answer showed (`Answer.opened_inside`), where it differs from what we took for true."""
    if opened_inside is not None and opened_inside != model.opens_inside:
        LanguageModel.objects.filter(pk=model.pk).update(opens_in_thinking=opened_inside)


def prices_of(model: LanguageModel) -> Prices:
    return Prices(*(getattr(model, name) for name in PRICES))


def _as_text(prices: Prices) -> dict[str, str | None]:
    """Exact, as JSON has no decimals: `0.3`."""
    amounts = (None if price is None else f"{price.normalize():f}" for price in prices)
    return dict(zip(PRICES, amounts, strict=True))


def serving_model() -> LanguageModel:
    """The model in use. Raises `UnknownModel` if its endpoint is no longer among the settings."""
    model = LanguageModel.objects.promoted().first()
    if model is None:
        return add_model(settings.OPENAI_MODEL, endpoint="default")
    check_endpoint(model)
    return model


def check_endpoint(model: LanguageModel) -> None:
    """Raises `UnknownModel` if the model lives at an address this deployment does not speak to."""
    place = settings.LLM_ENDPOINTS.get(model.endpoint)
    if place is None or place.base_url != model.base_url:
        words = {"name": model.name, "url": model.base_url}
        raise UnknownModel(_("模型「%(name)s」在 %(url)s，而本站现在的设置不连接那里。") % words)


# Any: openai.OpenAI; llm alone may name the SDK's types.
def client_of(model: LanguageModel) -> Any:
    """The blocking client of the endpoint that the model lives at. Raises `llm.errors.Refused` if the site left it.

    `Any`, because compatible servers answer with objects that the SDK's types do not tell of.
    """
    try:
        check_endpoint(model)
    except UnknownModel as error:
        raise Refused(sentence_of(error)) from error
    return clients.client(model.endpoint)


def check_in_service(model: LanguageModel) -> None:
    """Raises `UnknownModel` from the model's shutdown date on, by the site's own calendar."""
    if model.shutdown_date and model.shutdown_date <= timezone.localdate():
        words = {"name": model.name, "date": model.shutdown_date}
        raise UnknownModel(_("模型「%(name)s」已于 %(date)s 停用，请换一个模型。") % words)
