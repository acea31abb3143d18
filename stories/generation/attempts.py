"""The attempts of stories and their money: reserved by conditional updates before a call, settled after it.

spent + reserved never exceeds a run's budget or `DAILY_SPEND_LIMIT_USD`, whatever happens at the same time and whatever
a provider claims. Each reservation is one UPDATE whose WHERE holds the limit, and no call is settled above its
reservation. Only a person may say that a bill was higher (`corrections.py`). Amounts are whole micro-USD.
"""

from datetime import date
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import BigIntegerField, F, Q
from django.db.models.functions import Greatest
from django.utils import timezone

from llm.questions import Ask
from sentences import Words
from sentences import sentence as _
from stories.errors import BadState, OverBudget, UnknownModel
from stories.models import Attempt, BatchOrder, LanguageModel, Run, SpendDay, Story
from stories.provider_accounts import let_through, note_answer
from stories.values.money import cost, show, to_micros

MAX_TOKENS = 10**9
"""Of one call. A higher count is a provider's mistake, and no column could hold it."""
MAX_QUOTED = 10**15
"""The highest count that is quoted in digits."""


def reservation(model: LanguageModel, ask: Ask) -> int | None:
    """The most this call can cost; None if the model's price is unknown."""
    if model.input_price is None or model.output_price is None:
        return None
    asked = ask.prompt + "".join(message["content"] for message in ask.messages)
    highest = max(model.input_price, model.cached_input_price or 0)
    prompt = cost(tokens=max_tokens_of(asked), price=highest)
    return prompt + cost(tokens=ask.max_tokens, price=model.output_price)


def max_tokens_of(text: str) -> int:
    """An upper bound for the tokens of Chinese text with its frame: 0.93 each were measured, 1.5 is safe."""
    return len(text) * 3 // 2 + 32


def bill(
    model: LanguageModel, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None
) -> int | None:
    """What the provider asks for these tokens; None if the model's price is unknown.

    `cached_tokens` of the prompt have a price of their own. Tokens of thinking are among those of the completion.
    """
    if model.input_price is None or model.output_price is None:
        return None
    cached = min(cached_tokens or 0, prompt_tokens)
    cached_price = model.input_price if model.cached_input_price is None else model.cached_input_price
    read = cost(tokens=prompt_tokens - cached, price=model.input_price) + cost(
        tokens=cached, price=cached_price
    )
    return read + cost(tokens=completion_tokens, price=model.output_price)


def half(amount: int | None) -> int | None:
    """What the same costs in a batch, rounded up; None stays unknown."""
    return None if amount is None else -(-amount // 2)


def open_attempt(story: Story, ask: Ask, *, batch: BatchOrder | None = None) -> Attempt:
    """Reserves the money and writes the row of a call to come.

    Raises `OverBudget` (also where the provider's account is empty), `UnknownModel`; `BadState` if the story's run is
    not running any more.
    """
    model = story.model
    most = reservation(model, ask)
    amount = known_amount(most if batch is None else half(most), model)
    with transaction.atomic():
        is_probe = let_through(model, may_probe=batch is None)
        if story.run_id:
            _reserve_run(story.run_id, amount)
        return _open(model, amount, story=story, fence=story.fence, batch=batch, is_probe=is_probe)


def open_promotion(model: LanguageModel, ask: Ask) -> Attempt:
    """As `open_attempt`, for the call that a model is tried with; an IntegrityError while another one is open."""
    amount = known_amount(reservation(model, ask), model)
    with transaction.atomic():
        return _open(model, amount, purpose=Attempt.Purpose.PROMOTION, fence=0)


def open_check(model: LanguageModel, ask: Ask) -> Attempt:
    """As `open_attempt`, for a call that finds out what an endpoint can do."""
    amount = known_amount(reservation(model, ask), model)
    with transaction.atomic():
        return _open(model, amount, purpose=Attempt.Purpose.CHECK, fence=0)


def _open(model: LanguageModel, amount: int, **columns: object) -> Attempt:
    day = timezone.localdate()
    reserve_day(amount, day)
    return Attempt.objects.create(language_model=model, day=day, reserved=amount, **columns)


def known_amount(amount: int | None, model: LanguageModel) -> int:
    """The amount; 0 for an unknown price. Raises `UnknownModel` for that while a daily limit is set."""
    if amount is None and settings.DAILY_SPEND_LIMIT_USD is not None:
        words = {"name": model.name}
        raise UnknownModel(_("设了每日花费上限，而模型「%(name)s」的价格未知：请先填写价格。") % words)
    return amount or 0


def reserve_day(amount: int, day: date) -> None:
    """Adds to what is reserved for `day`. Raises `OverBudget` at the daily limit."""
    counter = SpendDay.objects.filter(day=day)
    limit: Decimal | None = settings.DAILY_SPEND_LIMIT_USD
    if limit is not None:
        counter = counter.filter(spent__lte=to_micros(limit) - amount - F("reserved"))
    if not counter.update(reserved=F("reserved") + amount):
        # The day may only lack its row. With the row in place, a second failure means that the limit is reached.
        SpendDay.objects.get_or_create(day=day)
        if counter.update(reserved=F("reserved") + amount):
            return
        words = {"limit": show(to_micros(limit)) if limit is not None else ""}
        raise OverBudget(_("今天的花费会超过每日上限 %(limit)s。") % words)


def settle_day(day: date, *, reserved: int, spent: int) -> None:
    """Takes a reservation of that day back and adds what was really spent. Neither counter falls below zero."""
    SpendDay.objects.filter(day=day).update(
        reserved=_less("reserved", reserved), spent=_less("spent", -spent)
    )


def charge(attempt: Attempt, difference: int) -> None:
    """Adds `difference`, by which the price of a settled call was changed, to what its day and its run have spent."""
    charge_day(attempt.day, difference)
    if attempt.story is not None and attempt.story.run_id:
        Run.objects.filter(pk=attempt.story.run_id).update(spent=_less("spent", -difference))


def charge_day(day: date, difference: int) -> None:
    """Adds `difference` to what was spent on that day, also beyond the limit; then no more is reserved on it."""
    SpendDay.objects.get_or_create(day=day)
    settle_day(day, reserved=0, spent=difference)


def _less(column: str, amount: int) -> Greatest:
    return Greatest(F(column) - amount, 0, output_field=BigIntegerField())


def _reserve_run(run_id: int, amount: int) -> None:
    within = Q(budget__isnull=True) | Q(budget__gte=F("spent") + F("reserved") + amount)
    # A run may have been paused since its story was claimed. Then no call is made for it any more.
    running = Run.objects.filter(pk=run_id, state=Run.State.RUNNING)
    if not running.filter(within).update(reserved=F("reserved") + amount):
        if not running.exists():
            raise BadState(_("这个批次现在不在进行中。"))
        raise OverBudget(_("批次的预算已用完。"))


def settle(
    attempt: Attempt,
    *,
    state: str,
    finish_reason: str = "",
    prompt_tokens: object = None,
    completion_tokens: object = None,
    cached_tokens: object = None,
    reasoning_tokens: object = None,
    odd_usage: str = "",
    error: Words = "",
) -> bool:
    """Closes an attempt, once; False if it was closed before.

    A refused call costs nothing. A call with usage costs its bill, but its reservation at most; a cut or unknown call
    without usage costs its reservation. What a provider claims beyond that is kept in `doubt` for a person to look at,
    and so is `odd_usage`: what it said where its counts belong.
    """
    counts = {"prompt_tokens": _count(prompt_tokens), "completion_tokens": _count(completion_tokens)}
    parts = {"cached_tokens": _count(cached_tokens), "reasoning_tokens": _count(reasoning_tokens)}
    price: int | None = 0
    doubt: Words = ""
    if state != Attempt.State.REFUSED:
        claimed = (prompt_tokens, completion_tokens)
        price, doubt = _price(attempt, claimed=claimed, cached_tokens=parts["cached_tokens"], **counts)
    if odd_usage and not doubt:
        words = {"usage": odd_usage, "reserved": show(attempt.reserved)}
        doubt = _("对方报的用量不可能（%(usage)s），按预留 %(reserved)s 结算。") % words
    with transaction.atomic(savepoint=False):
        closed = Attempt.objects.filter(pk=attempt.pk, state__in=Attempt.OPEN).update(
            state=state,
            price=price,
            finish_reason=finish_reason[:40],
            error=error,
            doubt=doubt,
            ended_at=timezone.now(),
            **counts,
            **parts,
        )
        if not closed:
            return False
        settle_day(attempt.day, reserved=attempt.reserved, spent=price or 0)
        if attempt.is_probe and (state == Attempt.State.COMPLETE or finish_reason):
            note_answer(attempt.language_model)
        if attempt.story is not None and attempt.story.run_id:
            Run.objects.filter(pk=attempt.story.run_id).update(
                reserved=_less("reserved", attempt.reserved), spent=_less("spent", -(price or 0))
            )
    return True


def reopen(attempt: Attempt) -> bool:
    """unknown → submitting, because the answer came after all; False if a person has settled it meanwhile.

    The price becomes a reservation again. The sum of spent and reserved stays the same, so no limit is exceeded.
    """
    unknown = Attempt.objects.filter(pk=attempt.pk, state=Attempt.State.UNKNOWN, price=attempt.price)
    spent = attempt.price or 0
    with transaction.atomic(savepoint=False):
        if not unknown.update(state=Attempt.State.SUBMITTING, price=None, ended_at=None):
            return False
        settle_day(attempt.day, reserved=-attempt.reserved, spent=-spent)
        if attempt.own_story.run_id:
            Run.objects.filter(pk=attempt.own_story.run_id).update(
                reserved=F("reserved") + attempt.reserved, spent=F("spent") - spent
            )
    return True


def _price(
    attempt: Attempt,
    *,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    cached_tokens: int | None,
    claimed: tuple[object, object],
) -> tuple[int | None, Words]:
    """What the call costs, and a sentence why the provider's word differs ("" if it does not)."""
    model = attempt.language_model
    is_priced = bill(model, prompt_tokens=0, completion_tokens=0) is not None
    words = {"prompt": said(claimed[0]), "completion": said(claimed[1]), "reserved": show(attempt.reserved)}
    if prompt_tokens is None or completion_tokens is None:
        is_odd = (prompt_tokens, completion_tokens) != claimed
        sentence = _(
            "对方报的词元数不可能（输入 %(prompt)s，输出 %(completion)s），按预留 %(reserved)s 结算。"
        )
        return attempt.reserved if is_priced else None, sentence % words if is_odd else ""
    price = bill(
        model,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=cached_tokens,
    )
    price = price if attempt.batch_id is None else half(price)
    if price is None or price <= attempt.reserved:
        return price, ""
    sentence = _(
        "对方报了输入 %(prompt)s、输出 %(completion)s 词元，合 %(price)s，超过最多的花费，按预留 %(reserved)s 结算。"
    )
    return attempt.reserved, sentence % (words | {"price": show(price)})


def _count(claimed: object) -> int | None:
    """A provider's count of tokens; None for what cannot be a count."""
    return claimed if type(claimed) is int and 0 <= claimed <= MAX_TOKENS else None


def said(claimed: object) -> str:
    """What a provider claimed, short enough to be kept and read."""
    if type(claimed) is int and abs(claimed) > MAX_QUOTED:
        return f"{'-' if claimed < 0 else ''}2^{abs(claimed).bit_length() - 1}"
    return "—" if claimed is None else str(claimed).replace("\0", "")[:40]
