"""What an answer or an error means for the story, its attempt, its run and the rate limiter (pure).

Streaming, completion and batches all ask here; `states.conclude` carries an outcome out. docs/contracts.md, "States",
draws what follows from it.

An answer, by its finish reason; the same for everyone:

    finish reason           attempt       the story ends because
    stop                    complete      stop (`states.end` makes it "empty" if there is no text)
    length                  interrupted   length
    content_filter          interrupted   content_filter, with the words in which the model declined
    none                    interrupted   cut

An error of a call, for a reader's story, which is streamed:

    error                   attempt       the story
    TryAgainLater, no text  refused       is queued again, in `retry_after` (5 without one, 60 at most) seconds; this
                                          uses up a try, but not after a 429 that asks for 60 seconds at most
    TryAgainLater, text     refused       ends: refused
    OutOfMoney              refused       ends: quota
    Declined                refused       ends: content_filter
    Refused                 refused       ends: refused
    FailedAnswer, no text   unknown       ends: refused
    all else, no text       unknown       ends: unknown
    all else, text          interrupted   ends: cut

An error of a call, for a story of a run, which comes whole or not at all:

    error                   attempt       the story
    TryAgainLater           refused       is queued again, in `retry_after` (5 without one, 600 at most) seconds; this
                                          uses up a try, but not after a 429
    OutOfMoney              refused       is queued again as it was; the run is paused
    Declined                refused       ends: content_filter
    Refused                 refused       ends: refused
    FailedAnswer            unknown       ends: refused
    all else                unknown       ends: unknown

An error before the call, which then is not made:

    error                   a reader's story    a story of a run
    OverBudget              ends: quota         is queued again as it was; the run is paused
    UnknownModel            ends: refused       ends: refused; the run is paused
    all else                ends: refused       ends: refused

What ended a call from our side:

    event                   attempt       the story ends because
    stopped by a person     interrupted   stopped
    lost by its worker      unknown       lost
    its text can't be kept  unknown       cut if it has text, else unknown

The rate limiter is told of every 429 (`is_rate_limited`), as often as a call is repeated. A story that has used up its
tries ends as refused (`states.requeue`). A story that ends with text is written if the reason is stop, else
interrupted; a story that ends without text is failed (`states.final_state`).
"""

from dataclasses import dataclass
from http import HTTPStatus

from llm.errors import Declined, FailedAnswer, LLMError, OutOfMoney, Refused, TryAgainLater
from llm.redaction import redact
from sentences import Words, sentence_of
from sentences import sentence as _
from stories.errors import OverBudget, StoryError
from stories.models import Attempt, EndReason

DEFAULT_RETRY = 5.0  # seconds until the next call, where the provider does not say
MAX_READER_RETRY = 60.0  # seconds until a reader's story is asked for again: a person waits
MAX_REFUSAL = 900  # characters of a model's own words that are kept
MAX_RUN_RETRY = 600.0  # seconds until a story of a run is asked for again
FINISH_REASONS = {
    "stop": EndReason.STOP,
    "length": EndReason.LENGTH,
    "content_filter": EndReason.CONTENT_FILTER,
}
UNBILLED: dict[type[LLMError], EndReason] = {
    OutOfMoney: EndReason.QUOTA,
    Declined: EndReason.CONTENT_FILTER,
    Refused: EndReason.REFUSED,
    TryAgainLater: EndReason.REFUSED,
}
"""Why a story ends whose call cost nothing; a kind stands before those that it is one of."""


@dataclass(frozen=True)
class Outcome:
    """What becomes of everything that a call touched.

    `reason` None: the story does not end but is queued again, for `retry_in` seconds, or (None) as it was before.
    `attempt_state` "": no call was made. `error` is a sentence for a person.
    """

    reason: EndReason | None
    attempt_state: str = ""
    error: Words = ""
    retry_in: float | None = None
    use_up_try: bool = False
    pause_run: bool = False


def of_answer(finish_reason: str, *, refusal: str = "") -> Outcome:
    """The outcome of an answer; one that did not end is a cut. `refusal`: the words in which the model declined."""
    reason = FINISH_REASONS.get(finish_reason, EndReason.CUT)
    if reason == EndReason.STOP:
        return Outcome(reason, Attempt.State.COMPLETE)
    words = {"words": redact(refusal.strip(), most=MAX_REFUSAL)}
    error: Words = _("模型不肯写：%(words)s") % words if refusal.strip() else ""
    return Outcome(reason, Attempt.State.INTERRUPTED, error)


def of_error(error: Exception, *, for_reader: bool, has_text: bool = False) -> Outcome:
    """The outcome of a call that raised `error`; `has_text`: the story has text, from this call or before it.

    Only a story that is streamed, which is always a reader's, can have text.
    """
    sentence = sentence_of(error) if isinstance(error, LLMError) else _sentence_of(error)
    if isinstance(error, TryAgainLater) and not has_text:
        return _retry(error, for_reader=for_reader)
    if isinstance(error, OutOfMoney) and not for_reader:
        return Outcome(None, Attempt.State.REFUSED, sentence, pause_run=True)
    for kind, reason in UNBILLED.items():
        if isinstance(error, kind):
            return Outcome(reason, Attempt.State.REFUSED, sentence)
    if has_text:
        return Outcome(EndReason.CUT, Attempt.State.INTERRUPTED, sentence)
    reason = EndReason.REFUSED if isinstance(error, FailedAnswer) else EndReason.UNKNOWN
    return Outcome(reason, Attempt.State.UNKNOWN, sentence)


def _retry(error: TryAgainLater, *, for_reader: bool) -> Outcome:
    asked = DEFAULT_RETRY if error.retry_after is None else error.retry_after
    longest = MAX_READER_RETRY if for_reader else MAX_RUN_RETRY
    # A reader's story would else be asked for endlessly at a provider that wants to be left alone for an hour.
    is_too_long = for_reader and asked > longest
    return Outcome(
        None,
        Attempt.State.REFUSED,
        sentence_of(error),
        retry_in=min(asked, longest),
        use_up_try=not is_rate_limited(error) or is_too_long,
    )


def of_unmade_call(error: StoryError, *, for_reader: bool) -> Outcome:
    """The outcome of an `OverBudget` or `UnknownModel` that was raised before the call."""
    if not isinstance(error, OverBudget):
        return Outcome(EndReason.REFUSED, error=sentence_of(error), pause_run=not for_reader)
    if for_reader:
        return Outcome(EndReason.QUOTA, error=sentence_of(error))
    return Outcome(None, error=sentence_of(error), pause_run=True)


def of_internal_error(error: Exception) -> Outcome:
    """Something of ours failed before the call, which then was not made."""
    return Outcome(EndReason.REFUSED, error=_sentence_of(error))


def of_stop() -> Outcome:
    """A person stopped the story while it was written."""
    return Outcome(EndReason.STOPPED, Attempt.State.INTERRUPTED)


def of_loss(sentence: Words) -> Outcome:
    """The worker or the batch that should have brought the answer is gone."""
    return Outcome(EndReason.LOST, Attempt.State.UNKNOWN, sentence)


def of_unstorable(sentence: Words, *, has_text: bool) -> Outcome:
    """The answer came and cannot be kept; `has_text`: an earlier part of it was."""
    return Outcome(EndReason.CUT if has_text else EndReason.UNKNOWN, Attempt.State.UNKNOWN, sentence)


def is_rate_limited(error: Exception | None) -> bool:
    """Whether the provider answered 429, which the rate limiter must learn."""
    return isinstance(error, TryAgainLater) and error.status == HTTPStatus.TOO_MANY_REQUESTS


def _sentence_of(error: Exception) -> Words:
    """What a person reads of an error that is not the provider's."""
    if isinstance(error, TimeoutError):
        return _("模型服务写得太久，已停止等待。")
    return _("本站内部出错，没有再写下去；原因在日志里。")
