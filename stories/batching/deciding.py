"""What a person decides about an order whose creation is unknown (floor 3)."""

from typing import Any

from django.utils.translation import gettext as _

from stories.batching.collecting import lose
from stories.batching.steps import claim, end, hand_back
from stories.errors import BadState
from stories.models import BatchOrder


def send_again(order: BatchOrder) -> None:
    """Whoever looked at the provider found no such batch: it is ordered anew."""
    _take(order)
    hand_back(order, state=BatchOrder.State.UPLOADED, error="")


def give_up(order: BatchOrder, *, by: Any) -> None:
    """Ends the order; its calls are of unknown outcome, to be resolved one by one in the ledger."""
    _take(order)
    sentence = _("下单结果不明，%(user)s 放弃了这份批量订单。") % {"user": by}
    lose(order, sentence)
    end(order, error=sentence)


def _take(order: BatchOrder) -> None:
    if order.state != BatchOrder.State.CREATE_UNKNOWN or not claim(order):
        raise BadState(_("这份批量订单现在不等人处理，或者正在处理，请稍后再看。"))
