"""How readers' stories stream through the site, beside the same calls made by a bare `openai` client.

    python -m bench.stream [--quick] [--repeat 3] [--only 100]            on SQLite
    bin/with_postgres.py .venv/bin/python -m bench.stream                 on PostgreSQL

One provider process, Redis, one web process, one readers' worker, and all viewers in a process of their own.
Each figure is the median of the repeats. Times are of one clock, from a piece leaving the provider (or the
order, for the first character) to its arrival. `over` is the p95 of the delay less the window of 100 ms.
"""

import argparse
import json
import os
import statistics
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from bench import stream_copy, stream_provider, stream_viewers  # the first makes the environment
from bench.stream_copy import Copy
from bench.stream_viewers import Seen

APART = 0.02  # seconds between two orders: three thousand readers a minute
WINDOW = 100.0  # ms between two commits of the worker
PATIENCE = 180.0  # seconds until a round must have ended
SPAWN = get_context("spawn")


@dataclass(frozen=True)
class Size:
    """One line of the table."""

    stories: int
    viewers: int = 1
    bare: bool = True


SIZES = [
    Size(1),
    Size(50),
    Size(100),
    Size(200),
    Size(300),
    Size(1, 100, bare=False),
    Size(20, 25, bare=False),
]
QUICK = [Size(1), Size(20), Size(1, 20, bare=False)]


@dataclass
class Delays:
    """ms. `first`: from order to first character; `pieces`: from a piece leaving to its arrival."""

    first: list[float] = field(default_factory=list)
    pieces: list[float] = field(default_factory=list)


@dataclass
class Round:
    """What one round of one size measured."""

    site: Delays
    bare: Delays | None
    wrong: int
    worker_ms: float
    web_ms: float
    worker_mb: float
    web_mb: float
    redis: int


def percentile(values: Sequence[float], share: int) -> float:
    """`share` in percent, of at least one value."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def measure(copy: Copy, size: Size) -> Round:
    """One round: the bare client first, then the same number of stories through the site."""
    bare = call_bare(copy, size.stories) if size.bare else None
    stories = make_stories(size.stories)
    ready, results = SPAWN.Event(), SPAWN.Queue()
    urls = [f"{copy.web_url}/ws/stories/{story.pk}/" for story in stories for _ in range(size.viewers)]
    viewers = SPAWN.Process(target=stream_viewers.watch, args=(urls, cookie(), ready, results), daemon=True)
    viewers.start()
    if not ready.wait(PATIENCE):
        sys.exit("bench.stream: the viewers could not connect")
    before = [stream_copy.cpu_seconds(child) for child in (copy.worker, copy.web)]
    began = order(stories)
    connections = stream_copy.redis_connections(copy.worker)
    seen = results.get(timeout=PATIENCE)
    after = [stream_copy.cpu_seconds(child) for child in (copy.worker, copy.web)]
    viewers.join()
    for number, one in enumerate(seen):
        one.began = began[number // size.viewers]
    worker_ms, web_ms = ((b - a) * 1000 / size.stories for a, b in zip(before, after, strict=True))
    return Round(
        site=delays(copy, seen),
        bare=bare,
        wrong=count_wrong(stories, seen, size.viewers),
        worker_ms=worker_ms,
        web_ms=web_ms,
        worker_mb=stream_copy.memory(copy.worker),
        web_mb=stream_copy.memory(copy.web),
        redis=connections,
    )


def call_bare(copy: Copy, count: int) -> Delays:
    results = SPAWN.Queue()
    arguments = (copy.provider_url, count, APART, results)
    process = SPAWN.Process(target=stream_viewers.call, args=arguments, daemon=True)
    process.start()
    seen = results.get(timeout=PATIENCE)
    process.join()
    return delays(copy, seen)


def make_stories(count: int) -> list[Any]:
    from stories.generation.prompts import current_template
    from stories.language_models import serving_model
    from stories.models import Story

    combo = {"dynasty": "唐", "super_power": "隐形", "story_type": "轻松"}
    common = {"origin": "reader", "reader_key": "bench", "template": current_template()}
    model = serving_model()
    return [Story.objects.create(**combo, **common, language_model=model) for _ in range(count)]


def cookie() -> dict[str, str]:
    from stories.readers.identity import COOKIE, sign_key

    return {"Cookie": f"{COOKIE}={sign_key('bench')}"}


def order(stories: Sequence[Any]) -> list[float]:
    """Publishes the stories one after the other, as the reader's page does; when each was."""
    from stories.tasks import enqueue_story

    began, due = [], time.monotonic()
    for story in stories:
        time.sleep(max(0.0, due - time.monotonic()))
        began.append(time.monotonic())
        enqueue_story(story)
        due += APART
    return began


def delays(copy: Copy, seen: Sequence[Seen]) -> Delays:
    """The arrivals laid beside what the provider noted."""
    with urllib.request.urlopen(f"{copy.provider_url}/sent", timeout=60) as reply:
        sent = json.load(reply)
    measured = Delays()
    for one in seen:
        if not one.text:
            continue
        call = stream_provider.call_of(one.text)
        measured.first.append((one.arrivals[0][0] - one.began) * 1000)
        measured.pieces += _piece_delays(one, sent[str(call)], stream_provider.text_pieces(call))
    return measured


def _piece_delays(one: Seen, sent: Sequence[float], pieces: Sequence[str]) -> list[float]:
    found, end, arrivals = [], 0, iter(one.arrivals)
    at, held = next(arrivals)
    for left_at, piece in zip(sent, pieces, strict=False):
        end += len(piece)
        while held < end:
            try:
                at, held = next(arrivals)
            except StopIteration:
                return found
        found.append((at - left_at) * 1000)
    return found


def count_wrong(stories: Sequence[Any], seen: Sequence[Seen], viewers: int) -> int:
    """Viewers whose text is not the row's, or not the provider's, or who saw no proper end."""
    from stories.models import Story

    rows = Story.objects.in_bulk([story.pk for story in stories])
    wrong = 0
    for number, one in enumerate(seen):
        row = rows[stories[number // viewers].pk]
        ended_well = one.ended == row.state == "written" and not one.faults
        wrong += not (ended_well and one.text == row.text == _written_text(one.text, row.length))
    return wrong


def _written_text(text: str, length: int) -> str:
    return "".join(stream_provider.text_pieces(stream_provider.call_of(text)))[:length]


# --- the table ------------------------------------------------------------------------------------------

HEAD = (
    "| stories × viewers | first ms: site | bare | site ÷ bare | piece ms: p50 | p95 | p99 | bare p50 | p95 | p99 "
    "| over | CPU ms a story: worker | web | MB: worker | web | Redis conn. | wrong texts |"
)


def line(size: Size, rounds: Sequence[Round]) -> str:
    """The medians of the rounds."""

    def middle(values: Sequence[float], digits: int = 0) -> str:
        return f"{statistics.median(values):.{digits}f}"

    def spread(delays: Sequence[Delays]) -> list[str]:
        return [middle([percentile(one.pieces, share) for one in delays]) for share in (50, 95, 99)]

    site = [one.site for one in rounds]
    bare = [one.bare for one in rounds if one.bare]
    first = statistics.median(percentile(one.first, 50) for one in site)
    bare_first = statistics.median(percentile(one.first, 50) for one in bare) if bare else 0.0
    cells = [
        f"{size.stories} × {size.viewers}",
        f"{first:.0f}",
        f"{bare_first:.0f}" if bare else "",
        f"{first / bare_first:.2f}" if bare else "",
        *spread(site),
        *(spread(bare) if bare else ["", "", ""]),
        middle([percentile(one.pieces, 95) - WINDOW for one in site]),
        middle([one.worker_ms for one in rounds]),
        middle([one.web_ms for one in rounds]),
        middle([one.worker_mb for one in rounds]),
        middle([one.web_mb for one in rounds]),
        str(max(one.redis for one in rounds)),
        str(sum(one.wrong for one in rounds)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of each line up to 100 stories")
    parser.add_argument("--only", type=int, help="only the line of so many stories")
    chosen = parser.parse_args()
    sizes = [size for size in (QUICK if chosen.quick else SIZES) if chosen.only in (None, size.stories)]
    pieces = 60 if chosen.quick else stream_provider.PIECES
    with stream_copy.running_copy(pieces=pieces, threads=300) as copy:
        measure(copy, Size(2, bare=False))  # imports, pools and connections are made
        print(
            f"{_machine()}; {pieces} pieces a story, one every 30–40 ms, the first after "
            f"{stream_provider.FIRST_AFTER * 1000:.0f} ms; load average before {_load()}\n"
        )
        print(HEAD)
        print("|---" * HEAD.count(" | ") + "|---|")
        for size in sizes:
            rounds = chosen.repeat if size.stories <= 100 and not chosen.quick else 1
            print(line(size, [measure(copy, size) for _ in range(rounds)]), flush=True)
        print(f"\nload average after {_load()}")


def _machine() -> str:
    database = "PostgreSQL" if "postgres" in os.environ.get("DATABASE_URL", "") else "SQLite"
    return f"{os.cpu_count()} cores, {database}"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
