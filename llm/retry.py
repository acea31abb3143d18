"""Asks again after a 429, for a limit that the rate limiter could not foresee.

This is the only use of `backoff`, which is archived upstream.
"""

from collections.abc import Callable, Generator
from http import HTTPStatus
from typing import Any, TypeVar

import backoff

from llm.errors import LLMError, TryAgainLater

T = TypeVar("T")
MAX_RETRY_SECONDS = 10.0  # in all; a story whose limit lasts longer goes back to the queue
MAX_WAIT = 30.0  # seconds between two tries, if the provider named none


# Any: `backoff` sends in the error, after a first None, and types neither.
def _waits() -> Generator[Any, Any, None]:
    """Seconds until the next try: what the provider asked for, else 1, 2, 4 … up to `MAX_WAIT`."""
    error = yield
    tries = 0
    while True:
        asked = error.retry_after if isinstance(error, TryAgainLater) else None
        error = yield min(MAX_WAIT, 2.0**tries) if asked is None else asked
        tries += 1


def retry_rate_limited(
    call: Callable[[], T],
    *,
    max_seconds: float = MAX_RETRY_SECONDS,
    wanted: Callable[[], bool] = lambda: True,
) -> T:
    """`call()`, repeated while the provider answers 429 and the answer is still `wanted()`.

    Raises the last 429 after `max_seconds`, or at once if the provider asks for a longer wait. Raises every other
    error at once.
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


def _is_short_limit(error: Exception, max_seconds: float) -> bool:
    return (
        isinstance(error, LLMError)
        and error.status == HTTPStatus.TOO_MANY_REQUESTS
        and (error.retry_after or 0.0) <= max_seconds
    )
