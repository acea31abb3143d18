"""The two real scripts on a real Redis against simulated providers, on a simulated clock: an hour takes seconds.

Threads and calls are events in a queue. Two processes with twelve threads each ask for permits as `permits.acquire`
does: one thread of a process at a time. A refused call is made again, by the same thread, until it is answered.
"""

import heapq
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import redis

from llm.rate_headers import read_rates, read_retry_after
from llm.rate_limit import scripts
from llm.rate_limit.limits import FIRST_RATE
from tests.provider.limits import Limit

MICRO = 1_000_000
BEGIN = 1_800_000_000.0
PROCESSES, THREADS = 2, 12


@dataclass
class Result:
    """`answered` and `refused`: when, in seconds after the beginning."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    @property
    def wasted(self) -> float:
        """Refused calls, as a share of those that were answered."""
        return len(self.refused) / len(self.answered)


@dataclass
class Simulation:
    """`latency`: the seconds of an answer; `trip`: those of a refusal. `change`: what happens to the limit when."""

    url: str
    limit: Limit
    stories: int
    latency: Callable[[random.Random], float] = lambda dice: dice.uniform(0.15, 0.25)
    trip: float = 0.05
    change: dict[float, Callable[[], None]] = field(default_factory=dict)
    settings: dict[str, int] = field(default_factory=dict)
    seed: int = 1
    now: float = BEGIN

    def run(self) -> Result:
        self._server = redis.Redis.from_url(self.url)
        self._server.flushall()
        self._scripts = {
            name: self._server.register_script(scripts.source(name)) for name in ("acquire", "observe")
        }
        self._dice, self._events, self._order = random.Random(self.seed), [], count()
        self.limit.clock = lambda: self.now
        if hasattr(self.limit, "at"):
            self.limit.at = self.now
        self._left, self.result = self.stories, Result()
        for process in range(PROCESSES):
            self._at(self.now, self._work, self._process(process))
        for at, what in self.change.items():
            self._at(BEGIN + at, what)
        while self._events and len(self.result.answered) < self.stories:
            self.now, _, act, arguments = heapq.heappop(self._events)
            act(*arguments)
        return self.result

    def _at(self, when: float, act: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), act, arguments))

    def _process(self, _number: int) -> dict[str, Any]:
        return {"idle": THREADS, "asking": False, "turn": 0}

    def _work(self, process: dict[str, Any]) -> None:
        """One idle thread of the process asks for a permit, if none does."""
        if process["asking"] or not process["idle"] or not self._left:
            return
        reply = self._run("acquire", urgent=False, tokens=2600, lease_us=180 * MICRO)
        if not reply[0]:
            process["asking"] = True
            process["turn"] += 1
            self._at(self.now + reply[1] / MICRO, self._ask_again, process, process["turn"])
            return
        self._left -= 1
        process["idle"] -= 1
        _, wait, taken_at, waited, granted, number = reply
        permit = {"taken_at": taken_at, "waited": bool(waited), "granted": granted, "number": number}
        self._at(self.now + wait / MICRO, self._call, process, permit)
        self._at(self.now + 0.001, self._work, process)

    def _ask_again(self, process: dict[str, Any], turn: int) -> None:
        if turn == process["turn"]:
            process["asking"] = False
            self._work(process)

    def _call(self, process: dict[str, Any], permit: dict[str, Any]) -> None:
        wait = self.limit.take()
        headers = self.limit.describe(wait)
        after = self.trip if wait else self.latency(self._dice)
        if not wait:
            self._at(self.now + after - 0.01, self.limit.release)
        self._at(self.now + after, self._end, process, permit, bool(wait), headers)

    def _end(
        self, process: dict[str, Any], permit: dict[str, Any], refused: bool, headers: dict[str, str]
    ) -> None:
        rates, hold = read_rates(headers), read_retry_after(headers)
        said = {
            "answered": not refused,
            "limited": refused,
            "at_once": refused and "concurrent" in self.limit.words,
            "retry_after_us": None if hold is None else int(hold * MICRO),
            "requests": rates.requests,
            "requests_left": rates.requests_left,
        }
        self._run("observe", **permit, **said)
        (self.result.refused if refused else self.result.answered).append(self.now - BEGIN)
        process["idle"] += 1
        process["asking"], process["turn"] = False, process["turn"] + 1
        self._left += refused
        self._work(process)

    def _run(self, name: str, **arguments: Any) -> Any:
        said = {"first_rate": FIRST_RATE, "now": int(self.now * MICRO), **self.settings, **arguments}
        given = {field: value for field, value in said.items() if value is not None}
        return self._scripts[name](keys=scripts.keys_of("pace:simulated"), args=[json.dumps(given)])
