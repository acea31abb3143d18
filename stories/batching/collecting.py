"""What came back: each answer ends its story once, whatever is delivered twice or not at all (floor 3)."""

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from stories import claims, filling
from stories.batching import remote
from stories.batching.gathering import open_calls
from stories.ledger import settle
from stories.models import Attempt, BatchOrder, EndReason
from ultraman_site import llm

OK, TOO_MANY, SERVER = 200, 429, 500


def collect(order: BatchOrder, files: tuple[str, ...]) -> None:
    """Ends the stories whose lines are in the provider's files. Raises llm.py's errors; may be repeated."""
    waiting = {remote.custom_id(attempt): attempt for attempt in open_calls(order)}
    for file_id in files:
        for line in remote.read_lines(order, file_id):
            if attempt := waiting.pop(str(line.get("custom_id")), None):
                _take_line(attempt, line)


def _take_line(attempt: Attempt, line: dict[str, Any]) -> None:
    try:
        answer = _answer_of(line)
    except llm.LLMError as error:
        filling.take_error(attempt.story, attempt, error)
    else:
        filling.take_answer(attempt.story, attempt, answer)


def _answer_of(line: dict[str, Any]) -> llm.Answer:
    """The answer in a line. Raises what the same answer would have raised in a call of its own."""
    try:
        response = line.get("response") or {}
        status, body = response.get("status_code"), response.get("body") or {}
        if status != OK:
            raise _error_of(status, (body.get("error") or line.get("error") or {}).get("message", ""))
        choice, usage = body["choices"][0], body.get("usage") or {}
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        return llm.Answer(
            text=text or "",
            finish_reason=choice.get("finish_reason") or "",
            prompt_tokens=int(usage.get("prompt_tokens", 0)),
            completion_tokens=int(usage.get("completion_tokens", 0)),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise llm.OutcomeUnknown(_("模型服务的回答无法读懂，结果不明。")) from error


def _error_of(status: Any, message: str) -> llm.LLMError:
    words = _("模型服务在批量结果里拒绝了（%(status)s：%(message)s）。") % {
        "status": status,
        "message": message,
    }
    if status == TOO_MANY:
        return llm.TryAgainLater(words, status=TOO_MANY)
    if isinstance(status, int) and status >= SERVER:
        return llm.ServerFailed(words, status=status)
    return llm.Refused(words, status=status if isinstance(status, int) else None)


def give_back(order: BatchOrder) -> int:
    """Stories that the provider never answered, nor billed: back to the queue; how many."""
    count = 0
    for attempt in open_calls(order):
        with transaction.atomic():
            settle(attempt, state=Attempt.State.REFUSED, error=order.error)
            count += claims.release(attempt.story)
    return count


def lose(order: BatchOrder, sentence: str) -> None:
    """Stories that may have been billed and whose answers are not to be had: a person resolves them."""
    for attempt in open_calls(order):
        with transaction.atomic():
            settle(attempt, state=Attempt.State.UNKNOWN, error=sentence)
            claims.end(attempt.story, reason=EndReason.LOST, length=0, error=sentence)
