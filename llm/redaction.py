"""A provider's words, made fit to be kept, logged and shown.

Whatever a wire brings may be endless, hold what PostgreSQL cannot store, or echo the key it was sent.
"""

from typing import Any

from django.conf import settings

from llm.endpoints import NO_KEY

MOST = 1_000  # characters of one sentence
SHORTEST_KEY = 4
MASK = "[密钥]"
REPLACEMENT = "\ufffd"


def redact(value: Any, *, most: int = MOST) -> str:
    """`value` as text of at most `most` characters: no NUL, no lone surrogate, no key of ours; "" for None."""
    text = "" if value is None else str(value)
    for key in _keys():
        text = text.replace(key, MASK)
    text = text.replace("\0", REPLACEMENT).encode("utf-8", "replace").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _keys() -> list[str]:
    """The keys of this deployment, the longest first: one may be the beginning of another."""
    keys = {place.key for place in settings.LLM_ENDPOINTS.values()}
    return sorted((key for key in keys if key != NO_KEY and len(key) >= SHORTEST_KEY), key=len, reverse=True)
