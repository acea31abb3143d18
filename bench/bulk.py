"""How near to a provider's limit a run comes, and what it wastes on the way; one markdown table.

    python -m bench.bulk                                    about an hour
    python -m bench.bulk --quick                            about ten minutes: the site alone, told nothing
    python -m bench.bulk --kinds bucket --ways site,sdk     a part of it

The suite's provider (200 ms an answer), which keeps a limit of 900 calls a minute in one of four ways and tells of it
by headers, by `Retry-After` alone, or not at all; a copy of the site with two bulk workers of 12 threads that share
one rate, and beside it 24 threads with the SDK's own retries or plain `backoff`, without database or queue. The limit
is also halved after 100 seconds and doubled again after 200, for the site. `--nemo PYTHON` adds NeMo DataDesigner's
client, whose AIMD learns how many calls at once are borne; PYTHON is one with the package data-designer.
"""

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from bench.bulk_copy import Copy, running_copy
from tests.provider import CHAT, AtOnce, Bucket, FixedMinute, Limit, Provider, SlidingMinute, Telling

TEXT = "唐朝的少年推开门，看见满街的灯。他和奥特曼一起打败了怪兽，然后笑着走回了长安。" * 7
WAYS = {"site": "the site", "sdk": "SDK's retries", "backoff": "plain backoff", "nemo": "NeMo's AIMD"}
PER_MINUTE, STORIES, CHANGED_STORIES = 900, 1500, 3600
LATENCY, AT_ONCE = 0.2, 8  # seconds of an answer; calls at once
KINDS: dict[str, Callable[[Telling], Limit]] = {
    "bucket": lambda telling: Bucket(PER_MINUTE, telling, burst=10),
    "sliding minute": lambda telling: SlidingMinute(PER_MINUTE, telling),
    "minute of the clock": lambda telling: FixedMinute(PER_MINUTE, telling),
    "calls at once": lambda telling: AtOnce(round(60 * AT_ONCE / LATENCY), telling, most=AT_ONCE),
}
CHANGES = {100.0: PER_MINUTE // 2, 200.0: PER_MINUTE}  # seconds, calls a minute
MEMORY_STORIES, QUICK_MEMORY_STORIES = 10_000, 600
HEAD = "| limit | told by | way | stories | share of the limit | wasted 429 calls | failed | seconds |"


@dataclass(frozen=True)
class Row:
    """One measurement. `share`: stories a second, beside the limit; from the first call to the last answer."""

    kind: str
    telling: Telling
    way: str
    stories: int
    share: float
    wasted: int
    failed: int
    seconds: float

    def __str__(self) -> str:
        cells = [
            *(self.kind, self.telling.value, WAYS[self.way], f"{self.stories:,}", f"{self.share:.1%}"),
            *(f"{self.wasted} ({self.wasted / self.stories:.1%})", str(self.failed), f"{self.seconds:.1f}"),
        ]
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Choice:
    """What is measured."""

    kinds: Sequence[str]
    tellings: Sequence[Telling]
    ways: Sequence[str]
    changed: bool
    nemo: str = ""


def measure(provider: Provider, copy: Copy, choice: Choice) -> Iterator[Row]:
    """Every kind of limit, in every way of telling, by every way of asking."""
    for kind in choice.kinds:
        for telling in choice.tellings:
            for way in choice.ways:
                yield measure_one(provider, copy, kind, telling, way, nemo=choice.nemo)
            if choice.changed and kind != "calls at once":
                yield measure_one(provider, copy, kind, telling, "site", changes=CHANGES)


def measure_one(
    provider: Provider,
    copy: Copy,
    kind: str,
    telling: Telling,
    way: str,
    *,
    changes: dict[float, int] | None = None,
    nemo: str = "",
) -> Row:
    limit = KINDS[kind](telling)
    reset(provider, limit, latency=LATENCY)
    stories = CHANGED_STORIES if changes else STORIES
    timers = [threading.Timer(at, setattr, (limit, "per_minute", to)) for at, to in (changes or {}).items()]
    for timer in timers:
        timer.start()
    failed = write(way, stories, provider=provider, copy=copy, nemo=nemo)
    for timer in timers:
        timer.cancel()
    calls = provider.posts(CHAT)
    answers = [call.answered_at or 0.0 for call in calls if call.status == HTTPStatus.OK]
    refused = sum(call.status == HTTPStatus.TOO_MANY_REQUESTS for call in calls)
    seconds = max(answers) - calls[0].at
    # While it was halved, half of a hundred seconds' calls were not allowed.
    allowed = seconds * limit.per_minute / 60 - (100 * PER_MINUTE / 120 if changes else 0)
    name = f"{kind}, halved and doubled" if changes else kind
    return Row(name, telling, way, stories, len(answers) / allowed, refused, failed, seconds)


def reset(provider: Provider, limit: Limit | None, *, latency: float) -> None:
    """Forgets its calls, and keeps that limit; `latency`: the seconds of an answer."""
    provider.reset()
    provider.text, provider.limit, provider.answer_after = TEXT, limit, latency


def write(way: str, stories: int, *, provider: Provider, copy: Copy, nemo: str) -> int:
    """Has that many stories written; how many failed."""
    if way == "site":
        copy.forget_pace()
        return copy.write(stories).failed
    if way == "nemo":
        return int(run_rival([nemo, "bench/bulk_nemo.py", provider.base_url, str(stories)])["failed"])
    return int(ask_bare(way, stories, provider=provider)["failed"])


def ask_bare(way: str, calls: int, *, provider: Provider) -> dict[str, Any]:
    return run_rival([sys.executable, "-m", "bench.bulk_rivals", way, provider.base_url, str(calls)])


def run_rival(command: Sequence[str]) -> dict[str, Any]:
    """What a way of asking prints of itself."""
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure_overhead(provider: Provider, copy: Copy, stories: int) -> Iterator[str]:
    """Without a limit: CPU of the worker a story, and its memory on the way to the last of them."""
    reset(provider, None, latency=0.0)
    bare = ask_bare("sdk", 500, provider=provider)["cpu_ms"]
    parts = 10
    memory, orders = [copy.memory], []
    for _part in range(parts):
        orders.append(copy.write(stories // parts))
        memory.append(copy.memory)
    cpu = sum(order.worker_cpu_ms for order in orders) / parts
    pace = stories / sum(order.seconds for order in orders)
    ours = cpu - bare
    yield f"CPU of the workers: {cpu:.1f} ms a story, {bare:.1f} of them for the bare SDK call, {ours:.1f} our own."
    yield f"Without a limit: {pace:.0f} stories a second from both workers."
    yield (
        f"Memory of one worker over {stories:,} stories: {memory[0]:.0f} MiB at its start, "
        f"{memory[1]:.0f} after a tenth, {memory[parts // 2]:.0f} after half, {memory[-1]:.0f} at the end."
    )


def read_choice(arguments: argparse.Namespace) -> Choice:
    """What the command line asks for."""
    if arguments.quick:
        return Choice(list(KINDS), [Telling.NOTHING], ["site"], changed=False)
    kinds = arguments.kinds.split(",") if arguments.kinds else list(KINDS)
    ways = arguments.ways.split(",") if arguments.ways else ["site", "sdk", "backoff"]
    ways += ["nemo"] if arguments.nemo else []
    tellings = [Telling(arguments.told)] if arguments.told else list(Telling)
    return Choice(kinds, tellings, ways, changed="site" in ways, nemo=arguments.nemo)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bulk", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the site alone, told nothing")
    parser.add_argument("--kinds", help=f"of {', '.join(KINDS)}, comma-separated")
    parser.add_argument("--told", choices=list(Telling), help="by what the limit is told")
    parser.add_argument("--nemo", default="", metavar="PYTHON", help="a Python with data-designer")
    parser.add_argument("--ways", help=f"of {', '.join(WAYS)}, comma-separated")
    chosen = parser.parse_args(arguments)
    provider = Provider()
    with provider.running(), running_copy(provider.base_url) as copy:
        print(HEAD, "|---" * (HEAD.count("|") - 1), sep="\n", end="|\n", flush=True)
        for row in measure(provider, copy, read_choice(chosen)):
            print(row, flush=True)
        print()
        for line in measure_overhead(
            provider, copy, QUICK_MEMORY_STORIES if chosen.quick else MEMORY_STORIES
        ):
            print(line, flush=True)


if __name__ == "__main__":
    main()
