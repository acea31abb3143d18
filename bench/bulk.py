"""How near to a provider's limit a run comes, and what it wastes on the way; one markdown table.

    python -m bench.bulk            about twenty minutes
    python -m bench.bulk --quick    about three, with a few hundred stories each

A provider of its own (200 ms an answer, limits of 600 and 3,000 requests a minute, with and without rate
headers), a copy of the site with two bulk workers of 12 threads that share one pace, and beside it 24 threads
with the SDK's own retries or plain `backoff`, without database or queue. At 600 a minute 2,000 stories would
take over three minutes each way, so there are 400 of them there; the share does not depend on how many.
"""

import argparse
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.bulk_copy import Copy, running_copy
from tests.environment import DATA_DIR, free_port
from tests.servers import listens, python

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


class Provider:
    """The other process, over HTTP."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    @property
    def base_url(self) -> str:
        return f"{self.address}/v1"

    def set_rules(self, **rules: Any) -> None:
        request = urllib.request.Request(f"{self.address}/rules", data=json.dumps(rules).encode())
        urllib.request.urlopen(request, timeout=10).close()

    def read_ledger(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.address}/ledger", timeout=10) as reply:
            ledger: dict[str, Any] = json.load(reply)
        return ledger


def measure(provider: Provider, copy: Copy, limits: dict[int, int]) -> Iterator[Row]:
    """Every limit, with and without headers, in every way."""
    for per_minute, stories in limits.items():
        for headers in (True, False):
            for way in WAYS:
                provider.set_rules(per_minute=per_minute, headers=headers, latency=0.2)
                failed = write(way, stories, provider=provider, copy=copy)
                ledger = provider.read_ledger()
                seconds = ledger["last_at"] - ledger["first_at"]
                share = ledger["written"] / seconds / (per_minute / 60)
                yield Row(per_minute, headers, way, stories, share, ledger["refused"], failed, seconds)


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
    provider.set_rules(per_minute=0, latency=0.0)
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
    port = free_port()
    child = python("-m", "bench.bulk_provider", str(port), log=DATA_DIR / "logs/provider.log")
    with child.wait_until(lambda: listens(port)):
        provider = Provider(port)
        with running_copy(provider.base_url) as copy:
            print(HEAD, "|---" * HEAD.count(" |"), sep="\n", end="|\n", flush=True)
            for row in measure(provider, copy, QUICK_LIMITS if quick else LIMITS):
                print(row, flush=True)
            print()
            for line in measure_overhead(provider, copy, QUICK_MEMORY_STORIES if quick else MEMORY_STORIES):
                print(line, flush=True)


if __name__ == "__main__":
    main()
