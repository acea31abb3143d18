"""The limits that providers keep, and what they tell of them: `provider.limit = Bucket(600)`.

Each takes a call with `take()`, which returns 0, or the seconds until there is room for one. The clock is a parameter,
so that a simulation can run them on its own.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

Clock = Callable[[], float]


class Telling(StrEnum):
    """What answers say of a limit."""

    HEADERS = "headers"  # `x-ratelimit-*` on each answer, `Retry-After` on a 429
    RETRY_AFTER = "Retry-After"
    NOTHING = "nothing"


@dataclass
class Limit:
    """`per_minute` may be changed while it is kept. `words` are those of its 429."""

    per_minute: int
    telling: Telling = Telling.HEADERS
    clock: Clock = time.monotonic
    words: str = "Rate limit reached for requests"

    def take(self) -> float:
        raise NotImplementedError

    def release(self) -> None:
        """A call that was taken has ended."""

    def left(self) -> int:
        """How many calls would be taken now."""
        raise NotImplementedError

    def until_full(self) -> float:
        """Seconds until as many calls are left as there can be."""
        return 0.0

    def describe(self, wait: float) -> dict[str, str]:
        """The headers of an answer; `wait` is what `take()` returned for its call."""
        headers = {}
        if self.telling == Telling.HEADERS:
            headers = {
                "x-ratelimit-limit-requests": str(self.per_minute),
                "x-ratelimit-remaining-requests": str(self.left()),
                "x-ratelimit-reset-requests": f"{math.ceil(self.until_full() * 1000)}ms",
            }
        if wait and self.telling != Telling.NOTHING:
            headers["retry-after-ms"] = str(math.ceil(wait * 1000))
            headers["retry-after"] = str(math.ceil(wait))
        return headers


@dataclass
class Bucket(Limit):
    """Filled evenly; holds `burst` calls, one second's worth if that is None."""

    burst: int | None = None
    level: float = field(init=False, default=1.0)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.at = self.clock()

    @property
    def _size(self) -> float:
        return max(1.0, self.per_minute / 60 if self.burst is None else self.burst)

    def _fill(self) -> None:
        now = self.clock()
        self.level = min(self._size, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now

    def take(self) -> float:
        self._fill()
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) * 60 / self.per_minute

    def left(self) -> int:
        return int(self.level)

    def until_full(self) -> float:
        return (self._size - self.level) * 60 / self.per_minute


@dataclass
class SlidingMinute(Limit):
    """At most `per_minute` calls in any sixty seconds."""

    taken: deque[float] = field(init=False, default_factory=deque)

    def _forget(self) -> None:
        while self.taken and self.taken[0] <= self.clock() - 60:
            self.taken.popleft()

    def take(self) -> float:
        self._forget()
        if len(self.taken) < self.per_minute:
            self.taken.append(self.clock())
            return 0.0
        return max(0.001, self.taken[len(self.taken) - self.per_minute] + 60 - self.clock())

    def left(self) -> int:
        return max(0, self.per_minute - len(self.taken))

    def until_full(self) -> float:
        return self.taken[-1] + 60 - self.clock() if self.taken else 0.0


@dataclass
class FixedMinute(Limit):
    """At most `per_minute` calls in each minute of the clock; `phase` shifts its beginning by so many seconds."""

    phase: float = 0.0
    minute: int = field(init=False, default=-1)
    count: int = field(init=False, default=0)

    def take(self) -> float:
        now = self.clock() + self.phase
        if int(now // 60) != self.minute:
            self.minute, self.count = int(now // 60), 0
        if self.count < self.per_minute:
            self.count += 1
            return 0.0
        return (self.minute + 1) * 60 - now

    def left(self) -> int:
        return max(0, self.per_minute - self.count)

    def until_full(self) -> float:
        return (self.minute + 1) * 60 - self.clock() - self.phase


@dataclass
class AtOnce(Limit):
    """At most `most` calls under way; `per_minute` is not kept."""

    most: int = 8
    words: str = "Too many concurrent requests"
    under_way: int = field(init=False, default=0)

    def take(self) -> float:
        if self.under_way < self.most:
            self.under_way += 1
            return 0.0
        return 1.0

    def release(self) -> None:
        self.under_way -= 1

    def describe(self, wait: float) -> dict[str, str]:
        return {"retry-after": "1"} if wait and self.telling != Telling.NOTHING else {}
