"""A limit of requests a minute, as hosted models keep it and tell of it: `provider.limit = RequestLimit(600)`."""

import math
import time
from dataclasses import dataclass, field


@dataclass
class RequestLimit:
    """A bucket of one second's worth, filled evenly. `headers`: whether answers carry `x-ratelimit-*`."""

    per_minute: int
    headers: bool = True
    level: float = field(init=False, default=1.0)
    at: float = field(init=False, default_factory=time.monotonic)

    @property
    def _size(self) -> float:
        return max(1.0, self.per_minute / 60)

    def take(self) -> float:
        """0 for a call within the limit, else the seconds until there is room for one."""
        now = time.monotonic()
        self.level = min(self._size, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) * 60 / self.per_minute

    def describe(self, wait: float) -> dict[str, str]:
        """The headers of an answer; `wait` is what `take()` returned for its call."""
        if not self.headers:
            return {}
        until_full = (self._size - self.level) * 60 / self.per_minute
        headers = {
            "x-ratelimit-limit-requests": str(self.per_minute),
            "x-ratelimit-remaining-requests": str(int(self.level)),
            "x-ratelimit-reset-requests": f"{math.ceil(until_full * 1000)}ms",
        }
        if wait:
            headers["retry-after-ms"] = str(math.ceil(wait * 1000))
            headers["retry-after"] = str(math.ceil(wait))
        return headers
