"""Reads what a provider counted of a call, wherever and under whatever names it counts (pure).

OpenAI counts in an event of its own, Moonshot inside the last choice, vLLM on request in each event, Groq inside
`x_groq`; 百炼's own pages and Anthropic's call the counts input_tokens and output_tokens. A count of a wrong type or
range is None.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llm.redaction import redact

MAX_TOKENS = 10**9  # of one call; a larger number is an error of the provider
MAX_QUOTE = 120  # characters of an odd usage that are kept
PROMPT = ("prompt_tokens", "input_tokens")
COMPLETION = ("completion_tokens", "output_tokens")
CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
REASONING = ("reasoning_tokens",)
DETAILS = (
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
)


@dataclass(frozen=True)
class TokenUsage:
    """The provider's counts, None where it gave no possible one; `odd` then quotes what it sent, else it is "".

    `cached` are those of `prompt` that it had read before, `reasoning` those of `completion` that were thinking.
    """

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    odd: str = ""


NOT_SAID = TokenUsage()


def read_count(value: object) -> int | None:
    """A number of tokens: a whole number from 0 to `MAX_TOKENS` (100.0 is one), None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MAX_TOKENS else None


def find_usage(event: Mapping[str, object], choice: Mapping[str, object]) -> object:
    """The usage of an event, as it was sent; None if it holds none."""
    for holder in (event, choice, event.get("x_groq"), choice.get("delta"), choice.get("message")):
        if isinstance(holder, dict) and holder.get("usage") is not None:
            return holder["usage"]
    return None


def read_usage(usage: object) -> TokenUsage:
    """The counts of a usage, which may be anything."""
    if usage is None:
        return NOT_SAID
    if not isinstance(usage, dict):
        return TokenUsage(odd=redact(usage, most=MAX_QUOTE))
    values = _first(usage, PROMPT), _first(usage, COMPLETION)
    prompt, completion = (read_count(value) for value in values)
    is_odd = any(value is not None and read_count(value) is None for value in values)
    cached, reasoning = (read_count(_first_detail(usage, names)) for names in (CACHED, REASONING))
    if prompt is not None and completion is not None and reasoning:
        # Some count thinking beside what was written, and not as a part of it. Their total says so.
        is_beside = read_count(usage.get("total_tokens")) == prompt + completion + reasoning
        completion += reasoning if is_beside else 0
    return TokenUsage(
        prompt=prompt,
        completion=completion,
        # Anthropic counts what it had cached beside the input, not as a part of it: such a number is no part.
        cached=None if cached is not None and cached > (prompt or 0) else cached,
        reasoning=reasoning,
        odd=redact(usage, most=MAX_QUOTE) if is_odd else "",
    )


def _first(usage: Mapping[str, object], names: tuple[str, ...]) -> object:
    return next((usage[name] for name in names if usage.get(name) is not None), None)


def _first_detail(usage: dict[str, object], names: tuple[str, ...]) -> object:
    return next((value for holder in _holders(usage) if (value := _first(holder, names)) is not None), None)


def _holders(usage: dict[str, object]) -> Iterator[dict[str, object]]:
    """The usage itself, and the details in it."""
    yield usage
    for name in DETAILS:
        details = usage.get(name)
        if isinstance(details, dict):
            yield details
