"""What can go wrong when a provider is asked: one class per decision that a caller makes.

LLMError                 a sentence for a person
├── TryAgainLater        nothing was billed; `retry_after` in seconds if the provider said so
│   └── ServerFailed     5xx: nothing billed for a story, but an object may have been created
├── Refused              refused for good (other 4xx); `status` is the HTTP status
│   └── Declined         the provider declines what was to be written, and says so in its words
├── OutOfMoney           the account is empty (`balance.py`); nothing was billed
└── OutcomeUnknown       the call was sent, its outcome is not known; it is never repeated by itself
    └── FailedAnswer     answered with 200, but by an error or by nothing: no story; it may have been billed
"""

from dataclasses import dataclass

from llm.rate_headers import NOTHING, Rates
from llm.redaction import redact, redact_words
from sentences import Words
from sentences import sentence as _

UNREADABLE = _("模型服务的回答无法读懂，结果不明。")
MAX_QUOTE = 200  # characters of an answer that cannot be read


@dataclass(frozen=True)
class Refusal:
    """What a provider said as it refused: its code, the parameter that it names, and its words; "" for none."""

    status: int | None
    code: str = ""
    param: str = ""
    words: str = ""


class LLMError(Exception):
    """A provider could not do what was asked. The sentence may quote the provider, so it is redacted here."""

    def __init__(
        self,
        sentence: Words,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        rates: Rates = NOTHING,
        at_once: bool = False,
    ) -> None:
        super().__init__(redact_words(sentence))
        self.retry_after = retry_after
        self.status = status
        self.rates = rates
        self.at_once = at_once


class TryAgainLater(LLMError):
    """Nothing was billed; asking again later may work. `at_once`: too many calls were under way at once."""


class ServerFailed(TryAgainLater):
    """The provider answered 5xx."""


class Refused(LLMError):
    """The provider said no, and will say it again. `refusal`: what it said, None if it was not asked."""

    refusal: Refusal | None = None


class Declined(Refused):
    """The provider declines what was to be written. Asked the same again, it will decline again."""


class OutOfMoney(LLMError):
    """The provider's account must be topped up before it is asked again."""


class OutcomeUnknown(LLMError):
    """The call was sent, and its outcome is not known."""


class FailedAnswer(OutcomeUnknown):
    """The provider answered with 200, but its answer is an error, or nothing at all. It may have been billed."""


def unreadable(data: object) -> OutcomeUnknown:
    """The error for an answer that cannot be read, with its beginning in the provider's own words."""
    if isinstance(data, bytes):
        data = data[: 4 * MAX_QUOTE].decode(errors="replace")
    quote = redact(data, most=MAX_QUOTE).strip()
    if not quote:
        return OutcomeUnknown(UNREADABLE)
    return OutcomeUnknown(_("模型服务的回答无法读懂，结果不明：%(words)s") % {"words": quote})
