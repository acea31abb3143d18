"""How near to a provider's limit a run comes, and what it wastes on the way; one markdown table.

    python -m bench.bulk            about twenty minutes
    python -m bench.bulk --quick    about three, with a few hundred stories each

The suite's provider (200 ms an answer, limits of 600 and 3,000 requests a minute, with and without rate
headers), a copy of the site with two bulk workers of 12 threads that share one pace, and beside it 24 threads
with the SDK's own retries or plain `backoff`, without database or queue. At 600 a minute 2,000 stories would
take over three minutes each way, so there are 400 of them there; the share does not depend on how many.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from bench.bulk_copy import Copy, running_copy
from tests.provider import CHAT, Bucket, Limit, Provider, Telling

TEXT = "唐朝的少年推开门，看见满街的灯。他和奥特曼一起打败了怪兽，然后笑着走回了长安。" * 7
WAYS = {"site": "the site", "sdk": "SDK's retries", "backoff": "plain backoff"}
LIMITS = {600: 400, 3000: 2000}
QUICK_LIMITS = {600: 100, 3000: 400}
MEMORY_STORIES, QUICK_MEMORY_STORIES = 10_000, 600
HEAD = (
    "| limit a minute | headers | way | stories | share of the limit | wasted 429 calls | failed | seconds |"
)


@dataclass(frozen=True)
class Row:
    """One measurement. `share`: stories a second, beside the limit; from the first call to the last answer."""

    per_minute: int
    headers: bool
    way: str
    stories: int
    share: float
    wasted: int
    failed: int
    seconds: float

    def __str__(self) -> str:
        cells = [
            *(f"{self.per_minute:,}", "yes" if self.headers else "no", WAYS[self.way], f"{self.stories:,}"),
            *(f"{self.share:.1%}", f"{self.wasted} ({self.wasted / self.stories:.1%})"),
            *(str(self.failed), f"{self.seconds:.1f}"),
        ]
        return f"| {' | '.join(cells)} |"


def measure(provider: Provider, copy: Copy, limits: dict[int, int]) -> Iterator[Row]:
    """Every limit, with and without headers, in every way."""
    for per_minute, stories in limits.items():
        for headers in (True, False):
            for way in WAYS:
                reset(
                    provider, Bucket(per_minute, Telling.HEADERS if headers else Telling.NOTHING), latency=0.2
                )
                failed = write(way, stories, provider=provider, copy=copy)
                calls = provider.posts(CHAT)
                answers = [call.answered_at or 0.0 for call in calls if call.status == HTTPStatus.OK]
                refused = sum(call.status == HTTPStatus.TOO_MANY_REQUESTS for call in calls)
                seconds = max(answers) - calls[0].at
                share = len(answers) / seconds / (per_minute / 60)
                yield Row(per_minute, headers, way, stories, share, refused, failed, seconds)


def reset(provider: Provider, limit: Limit | None, *, latency: float) -> None:
    """Forgets its calls, and keeps that limit; `latency`: the seconds of an answer."""
    provider.reset()
    provider.text, provider.limit, provider.answer_after = TEXT, limit, latency


def write(way: str, stories: int, *, provider: Provider, copy: Copy) -> int:
    """Has that many stories written; how many failed."""
    if way == "site":
        copy.forget_pace()
        return copy.write(stories).failed
    return int(ask_bare(way, stories, provider=provider)["failed"])


def ask_bare(way: str, calls: int, *, provider: Provider) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.bulk_rivals", way, provider.base_url, str(calls)]
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bulk", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few hundred stories each")
    quick = parser.parse_args(arguments).quick
    provider = Provider()
    with provider.running(), running_copy(provider.base_url) as copy:
        print(HEAD, "|---" * HEAD.count(" |"), sep="\n", end="|\n", flush=True)
        for row in measure(provider, copy, QUICK_LIMITS if quick else LIMITS):
            print(row, flush=True)
        print()
        for line in measure_overhead(provider, copy, QUICK_MEMORY_STORIES if quick else MEMORY_STORIES):
            print(line, flush=True)


if __name__ == "__main__":
    main()
