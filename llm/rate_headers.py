"""What a provider's answer says about its limits: the headers `x-ratelimit-*` and `Retry-After`.

`limit` is what may be asked in a minute, `remaining` what is left of it now, `reset` the time until all of it is
there again (`1s`, `6m0s`, `250ms`). A reset much longer than a minute belongs to a daily quota, whose limit says
nothing about calls a minute. Source: https://platform.openai.com/docs/guides/rate-limits.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
MAX_RESET = 90.0  # seconds; a longer one belongs to a daily quota
MAX_COUNT = 10**9
MAX_WAIT = 86_400.0  # seconds


@dataclass(frozen=True)
class Rates:
    """Requests and tokens a minute, and what is left of them; None for what an answer does not name."""

    requests: int | None = None
    requests_left: int | None = None
    tokens: int | None = None
    tokens_left: int | None = None


NOTHING = Rates()


def read_rates(headers: Mapping[str, str]) -> Rates:
    """The limits per minute that an answer names."""
    requests, requests_left = _read(headers, "requests")
    tokens, tokens_left = _read(headers, "tokens")
    return Rates(requests, requests_left, tokens, tokens_left)


def _read(headers: Mapping[str, str], what: str) -> tuple[int | None, int | None]:
    limit = _whole(headers.get(f"x-ratelimit-limit-{what}"))
    left = _whole(headers.get(f"x-ratelimit-remaining-{what}"))
    reset = read_span(headers.get(f"x-ratelimit-reset-{what}") or "")
    if not limit or (reset is not None and reset > MAX_RESET):
        return None, None
    return limit, left


def _whole(value: str | None) -> int | None:
    text = (value or "").strip()
    return min(int(text), MAX_COUNT) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def read_span(text: str) -> float | None:
    """Seconds of `1s`, `6m0s`, `250ms` or a bare number; None for anything else."""
    text = text.strip()
    if re.fullmatch(f"(?:{PART.pattern})+", text):
        return sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    return _seconds(text)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `Retry-After` (only its number form is used by providers)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _seconds(headers.get(name) or "")
        if seconds is not None:
            return min(max(0.0, seconds * unit), MAX_WAIT)
    return None


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
