"""The admin: Django's, in the site's words.

Stories are read and decided on, runs ordered and watched, models put in use. Every change goes through the
domain; no story is added, typed over or deleted by hand.
"""

from stories.admin import (
    accounts,
    attempts,
    audit,
    batches,
    endpoint_checks,
    imports,
    ingredients,
    language_models,
    provider_accounts,
    reactions,
    runs,
    stories,
)

__all__ = [
    "accounts",
    "attempts",
    "audit",
    "batches",
    "endpoint_checks",
    "imports",
    "ingredients",
    "language_models",
    "provider_accounts",
    "reactions",
    "runs",
    "stories",
]
