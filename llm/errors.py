"""What can go wrong when a provider is asked: one class per decision that a caller makes.

LLMError                 a sentence for a person
├── TryAgainLater        nothing was billed; `retry_after` in seconds if the provider said so
│   └── ServerFailed     5xx: nothing billed for a story, but an object may have been created
├── Refused              refused for good (other 4xx); `status` is the HTTP status
├── OutOfMoney           the account is empty (`balance.py`); nothing was billed
└── OutcomeUnknown       the call was sent, its outcome is not known; it is never repeated by itself
"""

from llm.rate_headers import NOTHING, Rates
from llm.redaction import redact_words
from sentences import Words
from sentences import sentence as _

UNREADABLE = _("模型服务的回答无法读懂，结果不明。")


class LLMError(Exception):
    """A provider could not do what was asked. The sentence may quote the provider, so it is redacted here."""

    def __init__(
        self,
        sentence: Words,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        rates: Rates = NOTHING,
    ) -> None:
        super().__init__(redact_words(sentence))
        self.retry_after = retry_after
        self.status = status
        self.rates = rates


class TryAgainLater(LLMError):
    """Nothing was billed; asking again later may work."""


class ServerFailed(TryAgainLater):
    """The provider answered 5xx."""


class Refused(LLMError):
    """The provider said no, and will say it again."""


class OutOfMoney(LLMError):
    """The provider's account must be topped up before it is asked again."""


class OutcomeUnknown(LLMError):
    """The call was sent, and its outcome is not known."""
