"""The many words by which providers end an answer, and the three that we know (pure).

A word that stands in none of these tables ends an answer naturally: more servers invent names for "finished" than for
anything else. The word itself is kept in the attempt, for staff to see.
"""

from llm.redaction import redact

MAX_WORD = 40  # characters that are kept
STOP, LENGTH, CONTENT_FILTER = "stop", "length", "content_filter"
NOT_YET = ("", "null", "none")
"""百炼 writes "null" as a word into each event before the last."""
LENGTHS = (
    "length",
    "max_tokens",
    "max_length",
    "max_output_tokens",
    "model_length",
    "model_context_window_exceeded",
)
CONTENT_FILTERS = (
    *("content_filter", "content_filtered", "sensitive", "refusal", "safety", "image_safety", "recitation"),
    *("blocklist", "prohibited_content", "spii", "guardrail_intervened", "data_inspection_failed"),
)
BREAKS = (
    *("abort", "aborted", "cancel", "cancelled", "canceled", "error", "timeout", "network_error"),
    *("insufficient_system_resource", "malformed_function_call", "internal_error"),
)
"""Words by which a server says that it broke off: vLLM and SGLang, OpenRouter, 智谱, DeepSeek, Gemini."""


def read_finish_reason(value: object) -> tuple[str, str]:
    """One of our three words, "" for none of them; and the provider's own word, "" if it sent none.

    What is no text is kept as a word, and ends nothing.
    """
    if value is None or value == "":
        return "", ""
    word = redact(value, most=MAX_WORD)
    if not isinstance(value, str):
        return "", word if value else ""
    key = value.strip().lower().replace("-", "_")
    if key in NOT_YET:
        return "", ""
    if key in LENGTHS:
        return LENGTH, word
    if key in CONTENT_FILTERS:
        return CONTENT_FILTER, word
    return "" if key in BREAKS else STOP, word


def is_break(word: str) -> bool:
    """Whether a provider's word says that the answer broke off."""
    return word.strip().lower().replace("-", "_") in BREAKS
