"""What a job costs, as far as its provider can be believed."""

from dataclasses import dataclass

from finetuning.models import Job
from sentences import Words
from sentences import sentence as _
from stories.generation.attempts import said
from stories.values.money import cost, show


@dataclass(frozen=True)
class Bill:
    """What a job costs: micro-USD, None where unknown; `doubt` says why it differs from the provider's claim."""

    price: int | None
    doubt: Words = ""


NOTHING = Bill(0)


def bill_for(job: Job, trained_tokens: int | None, *, odd: str = "") -> Bill:
    """What a training of that many tokens costs, at most what was reserved for it.

    The bill is the reservation if the provider names no number, or an impossible one (`odd`).
    """
    price = job.language_model.training_price
    words = {"claimed": odd or said(trained_tokens), "reserved": show(job.reserved)}
    if odd:
        sentence = _("对方报的训练词元数不可能（%(claimed)s），按预留 %(reserved)s 结算。")
        return Bill(job.reserved, sentence % words)
    if trained_tokens is None or price is None:
        return Bill(job.reserved if trained_tokens is None else None)
    amount = cost(tokens=trained_tokens, price=price)
    if amount == 0 or (job.reserved is not None and amount <= job.reserved):
        return Bill(amount)
    sentence = _("对方报了 %(claimed)s 个训练词元，合 %(price)s，超过最多的花费，按预留 %(reserved)s 结算。")
    return Bill(job.reserved, sentence % (words | {"price": show(amount)}))
