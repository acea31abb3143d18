"""The rows of the domain of stories, split by what they are about."""

from stories.models import lookups as lookups  # registers itself
from stories.models.attempts import Attempt
from stories.models.audit import AuditEntry
from stories.models.batches import BatchOrder
from stories.models.endpoint_checks import EndpointCheck
from stories.models.flags import Band, Fingerprint, Flag
from stories.models.housekeeping import Heartbeat, ReaderDay, SpendDay
from stories.models.imports import ImportedFile
from stories.models.ingredients import Ingredient, Template
from stories.models.language_models import DialectLesson, LanguageModel, PromptStyle
from stories.models.moderation import ModerationPage
from stories.models.provider_accounts import ProviderAccount
from stories.models.reactions import Reaction
from stories.models.reviews import Review
from stories.models.runs import Run
from stories.models.stories import EndReason, Story

__all__ = [
    "Attempt",
    "AuditEntry",
    "Band",
    "BatchOrder",
    "DialectLesson",
    "EndReason",
    "EndpointCheck",
    "Fingerprint",
    "Flag",
    "Heartbeat",
    "ImportedFile",
    "Ingredient",
    "LanguageModel",
    "ModerationPage",
    "PromptStyle",
    "ProviderAccount",
    "Reaction",
    "ReaderDay",
    "Review",
    "Run",
    "SpendDay",
    "Story",
    "Template",
]
