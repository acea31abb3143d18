"""Makes a provider's words safe to store, log and show.

They may have any length, hold characters that PostgreSQL cannot store, or repeat the key that was sent.
"""

from functools import partial

from django.conf import settings

from llm.endpoints import NO_KEY
from sentences import Sentence, Words

MAX_LENGTH = 1_000  # characters of one sentence
MIN_KEY_LENGTH = 4
MAX_WORDING = 100  # of them that our own words around a provider's may take
MASK = "[密钥]"
REPLACEMENT = "\ufffd"


def redact(value: object, *, most: int = MAX_LENGTH) -> str:
    """`value` as text of at most `most` characters: no NUL, no lone surrogate, no key of ours; "" for None."""
    text = "" if value is None else _text_of(value)
    for key in _keys():
        text = text.replace(key, MASK)
    text = text.replace("\0", REPLACEMENT).encode("utf-8", "replace").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text_of(value: object) -> str:
    """`value` as text; "…" for JSON that is nested more deeply than Python writes."""
    try:
        return str(value)
    except RecursionError:
        return "…"


def redact_words(words: Words) -> Words:
    """A sentence with each of its texts redacted, or a plain text redacted."""
    if not isinstance(words, Sentence):
        return redact(words)
    return words.map(partial(redact, most=MAX_LENGTH - MAX_WORDING))


def _keys() -> list[str]:
    """The keys of this deployment, the longest first, because one may be the beginning of another."""
    keys = {place.key for place in settings.LLM_ENDPOINTS.values()}
    return sorted(
        (key for key in keys if key != NO_KEY and len(key) >= MIN_KEY_LENGTH), key=len, reverse=True
    )
