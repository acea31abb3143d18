#!/usr/bin/env python3
"""How fast and how well the site finds near-duplicates, as the stories become many: one Markdown table.

    .venv/bin/python bench/duplicates.py [--quick] [--sizes 1000,10000,100000]

A database of its own (SQLite in a temporary folder, or DATABASE_URL) is filled with the built-in model's stories.
Then 400 new stories arrive one by one: half are copies of stories that are there, changed in one of eight ways,
half are new ones. Measured is the way a story takes on the site (`quality.near_duplicates`: fingerprint, rows written,
candidates read, likeness scored); beside it RapidFuzz over all texts, held in memory, as the peer (`cdist`, one
core; at 100,000 its matrix is made for 40 arrivals only).

A copy counts as found if its original is named first; a new story that is called like any other is a false alarm,
unless RapidFuzz over all, too, finds a story that is as alike (then it is a chance duplicate, and right).
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
ARRIVALS, PEER_ARRIVALS_AT_MOST = 400, 40
COMMON = "的一是了我不在人有他这上们来到时大地为子中你说生国年着就那和要她出也得里后自以会"


# --- stories and their copies -------------------------------------------------------------------------------


def write_stories(count: int, *, seed: int) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Stories of the built-in model over the mission's combos, without its deliberate mistakes."""
    from model_server.engines.grammar.compose import compose
    from model_server.engines.prompts import Ingredients

    axes = ("唐 宋 元 明 清 汉 魏 晋 南北朝", "隐形 飞行 读心术 瞬间移动 不死之身 喷火", "轻松 努力 艰难")
    rng = random.Random(seed)
    for _ in range(count):
        dynasty, power, kind = (rng.choice(axis.split()) for axis in axes)
        yield (
            (dynasty, power, kind),
            compose(Ingredients(dynasty=dynasty, power=power, story_type=kind), rng),
        )


def replace_signs(text: str, rng: random.Random, share: float) -> str:
    """A share of the characters replaced at random: the hardest change for any fingerprint."""
    signs = list(text)
    for _ in range(int(len(signs) * share)):
        signs[rng.randrange(len(signs))] = rng.choice(COMMON)
    return "".join(signs)


def drop_sentence(text: str, rng: random.Random) -> str:
    parts = text.split("。")
    del parts[rng.randrange(len(parts) - 1)]
    return "。".join(parts)


def move_sentence(text: str, rng: random.Random) -> str:
    """One sentence goes to another place."""
    parts = text.rstrip("。").split("。")
    parts.insert(rng.randrange(len(parts)), parts.pop(rng.randrange(len(parts) - 1)))
    return "。".join(parts) + "。"


def rename_hero(text: str, rng: random.Random) -> str:
    """The most frequent threesome of characters, mostly the hero's name, becomes another."""
    threes = [text[at : at + 3] for at in range(len(text) - 2)]
    names = [three for three in set(threes) if three.isalpha() and three != "奥特曼"]
    return text.replace(max(sorted(names), key=threes.count), "慕容雪")


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "exact": lambda text, rng: text,
    "punctuation": lambda text, rng: text.replace("，", ",").replace("。", "！").replace("\n\n", "\n"),
    "renamed": rename_hero,
    "sentence dropped": drop_sentence,
    "sentence moved": move_sentence,
    "5 % replaced": lambda text, rng: replace_signs(text, rng, 0.05),
    "10 % replaced": lambda text, rng: replace_signs(text, rng, 0.10),
    "15 % replaced": lambda text, rng: replace_signs(text, rng, 0.15),
}


# --- the site's way ----------------------------------------------------------------------------------------


def fill(stories: Sequence[tuple[tuple[str, str, str], str]]) -> list[Any]:
    """The stories as written rows with their fingerprints; the rows."""
    from django.db import transaction

    from stories.models import Band, Fingerprint, Story
    from stories.review.quality.near_duplicates import compute_signature
    from stories.review.quality.passages import normalise

    rows = [make_row(combo, text) for combo, text in stories]
    for start in range(0, len(rows), 1000):
        batch = rows[start : start + 1000]
        with transaction.atomic():
            Story.objects.bulk_create(batch, batch_size=500)
            signatures = [compute_signature(normalise(row.text)) for row in batch]
            kept = Fingerprint.objects.bulk_create(
                Fingerprint(story=row, digest=signature.digest)
                for row, signature in zip(batch, signatures, strict=True)
            )
            Band.objects.bulk_create(
                (
                    Band(key=key, fingerprint=row)
                    for row, signature in zip(kept, signatures, strict=True)
                    for key in signature.keys
                ),
                batch_size=5000,
            )
    return rows


def make_row(combo: tuple[str, str, str], text: str) -> Any:
    from django.utils import timezone

    from stories.models import Story

    return Story(
        dynasty=combo[0],
        super_power=combo[1],
        story_type=combo[2],
        origin=Story.Origin.IMPORT,
        state=Story.State.WRITTEN,
        text=text,
        length=len(text),
        ended_at=timezone.now(),
    )


def arrive(row: Any) -> tuple[float, float, list[Any]]:
    """Seconds from a written story to its neighbours (of the clock, of this core), and the neighbours."""
    from stories.review.quality.near_duplicates import compute_signature, find_neighbours, store_signature
    from stories.review.quality.passages import normalise

    started, worked = time.perf_counter(), time.thread_time()
    plain = normalise(row.text)
    signature = compute_signature(plain)
    store_signature(row, signature)
    found = find_neighbours(row, plain, signature)
    return time.perf_counter() - started, time.thread_time() - worked, found


def measure(size: int, *, arrivals: int, seed: int) -> dict[str, Any]:
    """One line of the table."""
    rng = random.Random(seed)
    rows = fill(list(write_stories(size, seed=seed)))
    plants = [(index % len(CHANGES), rng.randrange(size)) for index in range(arrivals // 2)]
    fresh = list(write_stories(arrivals - len(plants), seed=seed + 1))
    texts = [row.text for row in rows]
    new: list[tuple[Any, int | None, str]] = []
    for kind, at in plants:
        name, change = list(CHANGES.items())[kind]
        combo = (rows[at].dynasty, rows[at].super_power, rows[at].story_type)
        new.append((make_row(combo, change(texts[at], rng)), at, name))
    new += [(make_row(combo, text), None, "") for combo, text in fresh]
    rng.shuffle(new)
    times, work, found = [], [], []
    for row, _at, _name in new:
        row.save()
        seconds, cpu, neighbours = arrive(row)
        times.append(seconds)
        work.append(cpu)
        found.append(neighbours)
    peer, scores = ask_peer(texts, [row.text for row, _at, _name in new[: peer_arrivals(size, len(new))]])
    return judge(size, rows=rows, new=new, found=found, times=(times, work), peer=peer, scores=scores)


def judge(
    size: int,
    *,
    rows: list[Any],
    new: list[tuple[Any, int | None, str]],
    found: list[list[Any]],
    times: tuple[list[float], list[float]],
    peer: float,
    scores: list[tuple[float, int]],
) -> dict[str, Any]:
    """Recall and precision of the site, and how often the peer finds what was planted."""
    from django.conf import settings

    texts = {row.text: row.pk for row in rows}
    hits, missed, false = 0, [], 0
    for index, ((row, at, name), neighbours) in enumerate(zip(new, found, strict=True)):
        if at is None:
            by_chance = index < len(scores) and scores[index][0] >= settings.QUALITY_DUPLICATE_SCORE
            false += bool(neighbours) and not by_chance
            continue
        original = {rows[at].pk, texts[rows[at].text]}
        others = [one for one in neighbours if one.story.pk != row.pk]
        right = bool(others) and (
            others[0].story.pk in original or others[0].story.text in (rows[at].text, row.text)
        )
        hits += right
        if not right:
            missed.append(name)
    planted = sum(at is not None for _row, at, _name in new)
    peer_planted = [index for index in range(len(scores)) if new[index][1] is not None]
    peer_hits = sum(scores[index][0] >= settings.QUALITY_DUPLICATE_SCORE for index in peer_planted)
    clock, work = (sorted(kind) for kind in times)
    return {
        "stories": size,
        "median": 1000 * clock[len(clock) // 2],
        "p95": 1000 * clock[int(len(clock) * 0.95)],
        "cpu": 1000 * sum(work) / len(work),
        "recall": hits / planted,
        "precision": hits / (hits + false) if hits + false else 1.0,
        "peer": 1000 * peer,
        "peer_recall": peer_hits / len(peer_planted) if peer_planted else 1.0,
        "missed": missed,
    }


# --- the peer ----------------------------------------------------------------------------------------------


def peer_arrivals(size: int, arrivals: int) -> int:
    return arrivals if size <= 10_000 else min(arrivals, PEER_ARRIVALS_AT_MOST)


def ask_peer(texts: Sequence[str], new: Sequence[str]) -> tuple[float, list[tuple[float, int]]]:
    """RapidFuzz over all: CPU seconds per new text, and each one's best score with its place."""
    from rapidfuzz import fuzz, process

    from stories.review.quality.passages import normalise

    known = [normalise(text) for text in texts]
    best: list[tuple[float, int]] = []
    started = time.thread_time()
    for text in new:
        row = process.cdist([normalise(text)], known, scorer=fuzz.ratio, workers=1)[0]
        at = int(row.argmax())
        best.append((float(row[at]), at))
    return (time.thread_time() - started) / max(1, len(new)), best


# --- the table ---------------------------------------------------------------------------------------------

COLUMNS = (
    "| stories | ms per story: median | p95 | CPU | growth | recall | precision "
    "| RapidFuzz over all: CPU ms | growth | recall |"
)


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Growth: CPU time per story beside that of the first line."""
    first = lines[0]
    shown = [COLUMNS, "|" + "---:|" * 10]
    shown += [
        f"| {line['stories']:,} | {line['median']:.1f} | {line['p95']:.1f} | {line['cpu']:.1f} "
        f"| {line['cpu'] / first['cpu']:.1f}× "
        f"| {line['recall']:.1%} | {line['precision']:.1%} | {line['peer']:.1f} "
        f"| {line['peer'] / first['peer']:.1f}× | {line['peer_recall']:.1%} |"
        for line in lines
    ]
    return "\n".join(shown)


def set_up(folder: str) -> None:
    """Django on a database of our own."""
    os.environ.update(
        READ_ENV_FILES="0",
        SECRET_KEY=os.environ.get("SECRET_KEY", "only for this measurement"),
        DATA_DIR=folder,
        DJANGO_SETTINGS_MODULE="ultraman_site.settings",
    )
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)


def empty() -> None:
    from stories.models import Band, Fingerprint, Story

    for model in (Band, Fingerprint, Story):
        model.objects.all()._raw_delete(using="default")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1,000 and 5,000 stories, 80 arrivals")
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--seed", type=int, default=4)
    given = parser.parse_args()
    sizes = [1000, 5000] if given.quick else [int(size) for size in given.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="duplicates-") as folder:
        set_up(folder)
        lines = []
        for size in sizes:
            empty()
            lines.append(measure(size, arrivals=80 if given.quick else ARRIVALS, seed=given.seed))
            missed = lines[-1]["missed"]
            counted = {name: missed.count(name) for name in dict.fromkeys(missed)}
            print(f"{size:,}: not found: {counted or 'none'}", file=sys.stderr, flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
