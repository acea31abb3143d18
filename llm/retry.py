"""Waits for a limit to pass and asks again: what is left to guard after the limiter.

This is the only use of `backoff`, which is archived upstream.
"""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

import backoff

from llm.errors import TryAgainLater

T = TypeVar("T")
PATIENCE = 10.0  # seconds in all; what takes longer goes back to the queue
TOO_MANY = 429


def _waits() -> Generator[Any, Any, None]:
    """Seconds until the next try: what the provider asked for, else 1, 2, 4 … up to 30."""
    error = yield
    tries = 0
    while True:
        asked = error.retry_after if isinstance(error, TryAgainLater) else None
        error = yield min(30.0, 2.0**tries) if asked is None else asked
        tries += 1


def patiently(
    call: Callable[[], T], *, max_seconds: float = PATIENCE, wanted: Callable[[], bool] = lambda: True
) -> T:
    """`call()`, repeated while the provider answers 429 and the answer is still `wanted()`.

    Raises the last 429 after `max_seconds`, or at once if the provider asks for a longer wait; and every
    other error.
    """
    guarded = backoff.on_exception(
        _waits,
        TryAgainLater,
        max_time=max_seconds,
        giveup=lambda error: not _is_short_limit(error, max_seconds) or not wanted(),
        jitter=backoff.random_jitter,
        logger=None,
    )(call)
    return guarded()


def _is_short_limit(error: Any, max_seconds: float) -> bool:
    return error.status == TOO_MANY and (error.retry_after or 0.0) <= max_seconds
