"""A circuit breaker for each Redis, shared by all threads of a process.

A call to a Redis that does not answer costs its caller the whole timeout. After the first failure the breaker opens,
and for `COOL_DOWN` seconds nobody calls that Redis. Then one caller at a time may try (half-open), until a call
succeeds and the breaker closes. Everything that is guarded here also works without Redis, only slower.
"""

import threading
import time
from functools import cache

COOL_DOWN = 5.0  # seconds without a call to a Redis that did not answer


class CircuitBreaker:
    """Whether one Redis may be called now. Whoever was allowed to call must record how the call ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._retry_at = 0.0  # time.monotonic() of the next trial call, while the breaker is open
        self._failed_at = float("-inf")

    def allows(self) -> bool:
        """True while the breaker is closed. While it is open: True for one caller after each cool-down."""
        with self._lock:
            if not self._is_open:
                return True
            now = time.monotonic()
            if now < self._retry_at:
                return False
            self._retry_at = now + COOL_DOWN
            return True

    def record_failure(self) -> None:
        """Redis did not answer: the breaker opens, or stays open for another cool-down."""
        with self._lock:
            self._is_open, self._failed_at = True, time.monotonic()
            self._retry_at = self._failed_at + COOL_DOWN

    def record_success(self) -> None:
        """Redis answered: the breaker closes."""
        with self._lock:
            self._is_open = False

    def failed_since(self, moment: float) -> bool:
        """Whether a call failed after that `time.monotonic()`, and none has succeeded since."""
        with self._lock:
            return self._is_open and self._failed_at > moment


@cache
def breaker_of(url: str) -> CircuitBreaker:
    """This process's breaker for the Redis at `url`."""
    return CircuitBreaker()
