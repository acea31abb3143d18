"""What can go wrong in the domain of stories, each a sentence its reader can act on.

StoryError                 a clear sentence; edges show `str(error)` and nothing else
├── BadIngredient          an ingredient cannot be used; `axis` says which
├── BadFile                an imported file is refused whole, naming row and column
├── BadState               the story or run is not in a state that allows this (or someone was quicker)
├── QuotaUsedUp            a reader's or address's stories of today, or streams at once
├── OverBudget             the run's budget or today's spending limit would be passed
│   └── AccountEmpty       the provider said that its account is empty, and nobody has said since that it was paid
├── Unsuitable             a moderation page flagged what a reader typed
└── UnknownModel           no such language model, or its price is not known where it must be
"""

from sentences import Words


class StoryError(Exception):
    """A sentence for a person."""


class BadIngredient(StoryError):
    """An ingredient that cannot be used."""

    def __init__(self, sentence: Words, *, axis: str) -> None:
        super().__init__(sentence)
        self.axis = axis


class BadFile(StoryError):
    """A file that is refused whole."""


class BadState(StoryError):
    """Not allowed in this state."""


class QuotaUsedUp(StoryError):
    """A reader's quota is used up."""


class OverBudget(StoryError):
    """Money would pass a limit."""


class AccountEmpty(OverBudget):
    """A provider's account is out of money; in the provider's words."""


class Unsuitable(StoryError):
    """Ingredients that a moderation page flagged."""


class UnknownModel(StoryError):
    """A language model that cannot be asked."""
