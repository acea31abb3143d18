"""The steps of an order, by its state. `create`, the step that costs money, is never repeated by itself."""

from collections.abc import Callable

from django.db import transaction
from django.utils import timezone

from llm.errors import (
    LLMError,
    OutcomeUnknown,
    OutOfMoney,
    Refused,
    ServerFailed,
    TryAgainLater,
)
from sentences import sentence as _
from sentences import sentence_of
from stories.generation import states
from stories.generation.batches import remote, results
from stories.generation.batches.backoff import note_end
from stories.generation.batches.decisions import is_overdue
from stories.generation.batches.lease import claim, end, hand_back, pace
from stories.generation.batches.orders import gather
from stories.models import BatchOrder, Run
from stories.provider_accounts import note_refusal

State = BatchOrder.State
COMPLETED, FAILED, EXPIRED, CANCELLED = "completed", "failed", "expired", "cancelled"
MAX_WAIT = 300.0


def advance_batch(order: BatchOrder) -> bool:
    """Takes the next step of the order if it is due and nobody else takes it. True if a further step is due at once."""
    step = STEPS.get(order.state)
    if step is None:
        return False
    before = order.state
    step(order)
    return order.state != before and BatchOrder.objects.due(timezone.now()).filter(pk=order.pk).exists()


def gather_stories(order: BatchOrder) -> None:
    """gathering → uploading, or to the end where there is nothing to order."""
    if not claim(order):
        return
    if gather(order):
        hand_back(order, state=State.UPLOADING)
    else:
        end(order)


def upload(order: BatchOrder) -> None:
    """uploading → uploaded. After an error the file is sent again, unless the provider has it."""
    if not claim(order) or _is_called_off(order):
        return
    try:
        file_id = remote.upload_requests(order)
    except (Refused, OutOfMoney) as error:
        _refuse(order, error)
    except LLMError as error:
        _wait(order, error, state=State.UPLOADING)
    else:
        hand_back(order, state=State.UPLOADED, input_file_id=file_id, error="", tries=0)


def create(order: BatchOrder) -> None:
    """uploaded → creating → created | create_unknown."""
    if not claim(order, into=State.CREATING) or _is_called_off(order):
        return
    try:
        created = remote.create_batch(order)
    except (ServerFailed, OutcomeUnknown) as error:
        hand_back(order, state=State.CREATE_UNKNOWN, after=2.0, error=sentence_of(error))
    except TryAgainLater as error:
        _wait(order, error, state=State.UPLOADED)
    except (Refused, OutOfMoney) as error:
        _refuse(order, error)
    else:
        _adopt(order, created)


def mark_create_unknown(order: BatchOrder) -> None:
    """creating → create_unknown, because a worker died or was too slow while it created the remote batch."""
    if claim(order):
        hand_back(order, state=State.CREATE_UNKNOWN, error=_("下单时工作进程中断了，结果不明。"))


def look_for_batch(order: BatchOrder) -> None:
    """create_unknown → created if one remote batch carries our key. Else a person may decide; the search goes on."""
    if not claim(order):
        return
    try:
        found = remote.find_batches(order)
    except LLMError as error:
        hand_back(order, state=State.CREATE_UNKNOWN, after=pace(order), error=sentence_of(error))
        return
    if len(found) == 1:
        _adopt(order, found[0])
        return
    why = order.error
    if found:
        ids = "、".join(one.id for one in found)
        why = _("对方有几份订单带着本订单的标识（%(ids)s），请在对方那里处理。") % {"ids": ids}
    hand_back(order, state=State.CREATE_UNKNOWN, after=pace(order), error=why)


def poll(order: BatchOrder) -> None:
    """created: asks the provider for the status, and collects the results at the end. A failed look is repeated."""
    if not claim(order):
        return
    try:
        seen = remote.retrieve_batch(order)
        if order.run.state == Run.State.CANCELLED and seen.status not in (
            *(COMPLETED, FAILED, EXPIRED, CANCELLED, "cancelling"),
        ):
            seen = remote.cancel_batch(order)
        _conclude(order, seen)
    except LLMError as error:
        hand_back(order, state=State.CREATED, after=_retry_delay(order, error), error=sentence_of(error))


def _conclude(order: BatchOrder, seen: remote.RemoteBatch) -> None:
    if seen.status not in (COMPLETED, FAILED, EXPIRED, CANCELLED):
        late = _("对方过了一天多还没有结束这份订单：可以继续等，也可以放弃它。") if is_overdue(order) else ""
        hand_back(order, state=State.CREATED, after=pace(order), error=late, remote_status=seen.status)
        return
    unknown_lines = results.collect(order, seen.files)
    if seen.status == COMPLETED:
        # The provider says that it answered every line, so a missing line may have been billed.
        results.mark_lost(order, _("对方说批量完成了，结果文件里却没有这一篇。"))
    elif unknown_lines:
        results.mark_lost(order, _("结果文件里有认不出的行，这一篇也许已经写好并计费了。"))
    if seen.status == FAILED:
        why = _("对方没有接受批量文件：%(words)s") % {"words": seen.error}
        states.pause_automatically(order.run_id, why=why)
        order.error = why
    results.release_unanswered(order)
    _close(order, seen)


@transaction.atomic
def _close(order: BatchOrder, seen: remote.RemoteBatch) -> None:
    if end(order, error=order.error if seen.status == FAILED else "", remote_status=seen.status):
        note_end(order)


def _adopt(order: BatchOrder, created: remote.RemoteBatch) -> None:
    hand_back(
        order, state=State.CREATED, remote_id=created.id, remote_status=created.status, error="", tries=0
    )


def _is_called_off(order: BatchOrder) -> bool:
    """Ends an order whose run was cancelled or paused before anything was ordered; a run that goes on orders anew."""
    order.run.refresh_from_db(fields=["state"])
    if order.run.state not in (Run.State.CANCELLED, Run.State.PAUSED):
        return False
    results.release_unanswered(order)
    return end(order)


def _refuse(order: BatchOrder, error: LLMError) -> None:
    """Ends an order that the provider refused: its stories are queued again, and their run is paused."""
    note_refusal(order.run.language_model, error, asked_at=timezone.now())
    states.pause_automatically(order.run_id, why=sentence_of(error))
    order.error = sentence_of(error)
    results.release_unanswered(order)
    end(order, error=sentence_of(error))


def _wait(order: BatchOrder, error: LLMError, *, state: str) -> None:
    after = _retry_delay(order, error)
    hand_back(order, state=state, after=after, error=sentence_of(error), tries=min(order.tries + 1, 8))


def _retry_delay(order: BatchOrder, error: LLMError) -> float:
    asked = error.retry_after
    return min(MAX_WAIT, 2.0**order.tries + 1 if asked is None else asked)


STEPS: dict[str, Callable[[BatchOrder], None]] = {
    State.GATHERING: gather_stories,
    State.UPLOADING: upload,
    State.UPLOADED: create,
    State.CREATING: mark_create_unknown,
    State.CREATE_UNKNOWN: look_for_batch,
    State.CREATED: poll,
}
