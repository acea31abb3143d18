"""Remembers for a whole process that Redis does not answer.

Who asks a silent Redis waits for its timeout. Here only the first ones do: for some seconds nobody asks it
again, and then one at a time, until it has answered. Everything works without Redis, slower.
"""

import threading
import time
from functools import cache

REST = 5.0  # seconds without asking a Redis that did not answer


class Outage:
    """Whether one Redis is away; for all threads of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lasts = False
        self._ask_at = 0.0  # time.monotonic() of the next look, while it lasts
        self._seen_at = float("-inf")

    def may_ask(self) -> bool:
        """True while Redis is there. While it is away: True for one caller after each rest, who tells what came."""
        with self._lock:
            if not self._lasts:
                return True
            now = time.monotonic()
            if now < self._ask_at:
                return False
            self._ask_at = now + REST
            return True

    def begin(self) -> None:
        """Redis did not answer just now."""
        with self._lock:
            self._lasts, self._seen_at = True, time.monotonic()
            self._ask_at = self._seen_at + REST

    def end(self) -> None:
        """Redis answered."""
        with self._lock:
            self._lasts = False

    def seen_since(self, moment: float) -> bool:
        """Whether anybody got no answer after that `time.monotonic()`, and nobody one since."""
        with self._lock:
            return self._lasts and self._seen_at > moment


@cache
def outage_of(url: str) -> Outage:
    """What this process knows about the Redis at `url`."""
    return Outage()
