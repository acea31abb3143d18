"""What this process knows about the rate limit of one endpoint and model, and how it goes on without Redis."""

import hashlib
import threading
import time
from dataclasses import dataclass, field
from functools import cache

FIRST_RATE = 8.0  # calls a second, until an answer says more
ALONE_SHARE = 0.5  # of the last rate, while Redis cannot say what the other processes do
MAX_HOLD = 600.0  # seconds that a Retry-After stops bulk work
MAX_URGENT_HOLD = 60.0  # seconds that it stops readers, as in observe.lua


@dataclass
class RateLimit:
    """The state of one limit in this process. `queue`: the lock that bulk threads wait for, one asks at a time."""

    key: str
    place: str = ""
    queue: threading.Lock = field(default_factory=threading.Lock)
    call_ended: threading.Event = field(default_factory=threading.Event)
    rate: float = FIRST_RATE
    free_at: float = 0.0  # time.monotonic() of the next slot that is taken without Redis
    held_until: float = 0.0
    held_urgent_until: float = 0.0

    def hold(self, seconds: float) -> None:
        """Notes a 429: without Redis, too, nobody calls for so many seconds."""
        now = time.monotonic()
        self.held_until = max(self.held_until, now + seconds)
        self.held_urgent_until = max(self.held_urgent_until, now + min(seconds, MAX_URGENT_HOLD))

    def reserve_alone(self, *, urgent: bool) -> tuple[bool, float]:
        """Whether a slot was taken by this process's own clock; the seconds until it, or until asking again."""
        now, interval = time.monotonic(), 1 / (self.rate * ALONE_SHARE)
        slot = max(now, self.free_at, self.held_urgent_until if urgent else self.held_until)
        if slot - now > interval + 1:
            return False, slot - now
        self.free_at = slot + interval
        return True, slot - now


@cache
def rate_limit_of(place: str, model: str) -> RateLimit:
    """The rate limit of `model` at the base URL `place`."""
    name = hashlib.sha256(f"{place}\n{model}".encode()).hexdigest()[:32]
    return RateLimit(f"pace:{name}", place)
