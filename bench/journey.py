"""The seven steps of the loop on a running copy, by its commands, pages and socket; as a table of figures.

    python -m bench.journey            a fresh copy of its own, 486 + 135 stories

`tests/system/test_journey.py` walks the same steps at a small size and asserts what each returns.
"""

import csv
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz, process

from bench.visitor import Step, Visitor
from tests.servers import wait_until
from tests.sites import Result, Site, manage

COLUMNS = ["dynasty", "super_power", "story_type", "story"]
MINUTES = 60.0

Figures = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """The ingredients of one run."""

    dynasties: Sequence[str]
    powers: Sequence[str]
    types: Sequence[str]
    repeat: int

    @property
    def stories(self) -> int:
        return len(self.dynasties) * len(self.powers) * len(self.types) * self.repeat


FIRST = Order(
    ["唐", "宋", "元", "明", "清", "汉", "魏", "晋", "南北朝"],
    ["隐形", "飞行", "读心术", "瞬间移动", "不死之身", "喷火"],
    ["轻松", "努力", "艰难"],
    repeat=3,
)
FURTHER = Order(
    ["秦", "五代", "隋"],
    ["龙卷风", "冰冻大海", "流星火雨"],
    ["轻松", "努力", "艰难", "勇敢", "辛苦"],
    repeat=3,
)
UNSEEN = ("宋", "发射激光", "艰难")


def done(result: Result) -> Any:
    """The --json object of a command that succeeded."""
    if result.rc != 0:
        raise Step(f"exit code {result.rc}: {result.stderr.strip() or result.stdout[-2000:]}")
    return result.json


@dataclass
class Journey:
    """One way round the loop. `name` is the dataset's, so that two journeys on one copy stay apart."""

    site: Site
    folder: Path
    name: str = "journey"
    run: int = 0
    further_run: int = 0
    model: str = ""
    child: str = ""
    figures: list[tuple[str, float, Figures]] = field(default_factory=list)

    def timed(self, title: str, step: Callable[..., Figures], *arguments: Any) -> Figures:
        """Walks a step, and notes its seconds and figures for the table."""
        began = time.monotonic()
        figures = step(*arguments)
        self.figures.append((title, time.monotonic() - began, figures))
        return figures

    def command(self, *arguments: str) -> Any:
        return done(self.site.manage(*arguments, "--json", seconds=15 * MINUTES))

    def query(self, sql: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.site.data_dir / "site.sqlite3")) as database:
            return database.execute(sql, values).fetchall()

    # --- the steps ---

    def generate(self, order: Order, *, retries: int = 3) -> Figures:
        """Step 1: a run, its failures retried until all are written or `retries` are used up."""
        result = self.command(
            *(
                "generate_stories",
                "--dynasties",
                ",".join(order.dynasties),
                "--powers",
                ",".join(order.powers),
            ),
            *("--types", ",".join(order.types), "--repeat", str(order.repeat), "--wait"),
        )
        run = result["run"]
        first_time = result["states"]["written"]
        for _retry in range(retries):
            if self.command("retry_stories", "--run", str(run))["retried"] == 0:
                break
            self._wait_for_run(run)
        ((written,),) = self.query(
            "SELECT count(*) FROM stories_story WHERE run_id=? AND state='written'", run
        )
        ((attempts, price),) = self.query(
            "SELECT count(*), sum(price) FROM stories_attempt a JOIN stories_story s ON s.id = a.story_id"
            " WHERE s.run_id=?",
            run,
        )
        texts = [text for (text,) in self.query("SELECT text FROM stories_story WHERE run_id=?", run)]
        return {
            "run": run,
            "stories": result["stories"],
            "written first time": first_time,
            "written": written,
            "attempts": attempts,
            "estimate USD": result["estimated_price"],
            "price USD": price / 1_000_000,
            "characters, mean": round(sum(map(len, texts)) / len(texts)),
            "similarity, highest pair": round(highest_similarity(texts), 3),
        }

    def carry_over(self) -> Figures:
        """Step 2: CSV out, into another empty site, and out again: the same rows."""
        first, second = self.folder / "out.csv", self.folder / "again.csv"
        exported = self.command("export_stories", str(first))["rows"]
        other = {**self.site.env, "DATA_DIR": str(self.folder / "other")}
        other["DATABASE_URL"] = f"sqlite:///{self.folder / 'other.sqlite3'}"
        for arguments in (["prepare_site"], ["import_stories", str(first)], ["export_stories", str(second)]):
            done(manage(*arguments, "--json", env=other, seconds=5 * MINUTES))
        rows, again = read_csv(first), read_csv(second)
        return {
            "exported": exported,
            "columns": list(rows[0]),
            "same after the round trip": sorted(map(str, rows)) == sorted(map(str, again)),
            "label beside it": Path(f"{first}.aigc.json").exists(),
        }

    def review(self, run: int, *, by: str = "editor") -> Figures:
        """Step 3: every written story of the run is approved."""
        reviewed = self.command("review_stories", "--verdict", "approved", "--by", by, "--run", str(run))[
            "reviewed"
        ]
        ((library,),) = self.query(
            "SELECT count(*) FROM stories_story WHERE run_id=? AND visibility='library'", run
        )
        return {"reviewed": reviewed, "in the library": library}

    def freeze(self, run: int, name: str) -> Figures:
        """Step 4: the same stories give the same bytes, as chat and as completion lines."""
        chat = self.command(
            "build_dataset", name, "--run", str(run), "--output", str(self.folder / "chat.jsonl")
        )
        again = self.command("build_dataset", name, "--run", str(run))
        legacy = self.command(
            *("build_dataset", f"{name}-completion", "--run", str(run), "--format", "completion"),
            *("--output", str(self.folder / "completion.jsonl")),
        )
        return {
            "dataset": f"{chat['dataset']}@{chat['version']}",
            "rows": chat["rows"],
            "tokens": chat["tokens"],
            "validation rows": chat["validation_rows"],
            "same bytes again": chat["sha256"] == again["sha256"],
            "stop": legacy["stop"],
        }

    def train(self, dataset: str, *options: str) -> Figures:
        """Step 5 (and 7): price, job, results."""
        quote = self.command("train", dataset, *options)
        job = self.command("train", dataset, *options, "--wait", "--yes")
        path = self.folder / f"job-{job['job']}.csv"
        self.command("job_results", str(job["job"]), "--output", str(path))
        listed = self.command("list_jobs")["jobs"]
        steps = read_csv(path)
        return {
            "quoted job": quote["job"],
            "quote USD": quote["price"],
            "job": job["job"],
            "status": job["status"],
            "model": job["model"],
            "price USD": job["price"],
            "listed": any(one["job"] == job["job"] for one in listed),
            "columns": list(steps[0]),
            "steps": len(steps),
            **curve(steps, "training_loss", "loss"),
            **curve(steps, "training_token_accuracy", "accuracy"),
            **curve(steps, "validation_loss", "validation loss"),
            **curve(steps, "validation_token_accuracy", "validation accuracy"),
        }

    def promote(self, model: str) -> Figures:
        """Step 6 and 7: `previous` is what was in use before; promoting it is the way back."""
        return dict(self.command("promote", model))

    def read(self, parts: Sequence[str] = UNSEEN) -> Figures:
        """Step 6: a visitor asks by the page, watches by the socket, loses the line once, and reads the page."""
        visitor = Visitor(self.site)
        asked = time.monotonic()
        pk = visitor.ask(parts)
        watched = visitor.watch(pk, leave_after=40)
        rest = visitor.watch(pk, attempt=watched.attempt, offset=len(watched.text))
        text = watched.text + rest.text
        page = visitor.get(f"/stories/{pk}.txt")
        ((kept, state, model),) = self.query(
            "SELECT text, s.state, m.name FROM stories_story s"
            " JOIN stories_languagemodel m ON m.id = s.language_model_id WHERE s.id=?",
            pk.replace("-", ""),
        )
        return {
            "state": state,
            "model": model,
            "to the first character, s": round(watched.first_text_at - asked, 2),
            "to the end, s": round(time.monotonic() - asked, 1),
            "characters": len(text),
            "as committed": text == kept,
            "as on the page": kept.strip() in page,
            "names all three": all(part in kept for part in parts),
        }

    def tell(self, parts: Sequence[str] = UNSEEN) -> Figures:
        """Step 6, in a terminal."""
        told = self.command("tell_story", *parts)
        return {"state": told["state"], "model": told["model"], "characters": len(told["text"])}

    def _wait_for_run(self, run: int) -> None:
        def done() -> bool:
            return self.query("SELECT state FROM stories_run WHERE id=?", run) == [("done",)]

        wait_until(done, seconds=10 * MINUTES, every=0.3, what=f"run {run} is done")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def curve(steps: Iterable[dict[str, str]], column: str, label: str) -> Figures:
    """The first and the last figure of a column, where the provider gave any."""
    values = [float(step[column]) for step in steps if step[column]]
    return {f"{label}, first": round(values[0], 3), f"{label}, last": round(values[-1], 3)} if values else {}


def highest_similarity(texts: Sequence[str]) -> float:
    """Of any two of the texts, 0 to 1 (rapidfuzz ratio)."""
    highest = 0.0
    for number, text in enumerate(texts[:-1]):
        highest = max(highest, *process.cdist([text], texts[number + 1 :], scorer=fuzz.ratio)[0])
    return float(highest) / 100


def walk(journey: Journey, *, first: Order, further: Order) -> None:
    """All seven steps, noted in `journey.figures`."""
    journey.run = journey.timed("1 generate", journey.generate, first)["run"]
    journey.timed("2 CSV", journey.carry_over)
    journey.timed("3 review", journey.review, journey.run)
    dataset = journey.timed("4 dataset", journey.freeze, journey.run, journey.name)["dataset"]
    journey.model = journey.timed("5 train", journey.train, dataset, "--epochs", "4")["model"]
    journey.timed("6 promote", journey.promote, journey.model)
    journey.timed("6 read", journey.read)
    journey.timed("6 tell", journey.tell)
    journey.further_run = journey.timed("7 generate", journey.generate, further)["run"]
    journey.timed("7 review", journey.review, journey.further_run)
    new = journey.timed("7 dataset", journey.freeze, journey.further_run, f"{journey.name}-new")["dataset"]
    options = ("--model", journey.model, "--learning-rate-multiplier", "0.2")
    journey.child = journey.timed("7 train further", journey.train, new, *options)["model"]
    journey.timed("7 promote", journey.promote, journey.child)
    journey.timed("7 roll back", journey.promote, journey.model)


def table(journey: Journey) -> str:
    """Markdown: a row per step."""
    lines = ["| step | seconds | figures |", "|---|---:|---|"]
    for title, seconds, figures in journey.figures:
        shown = " · ".join(f"{name} {value}" for name, value in figures.items() if name != "columns")
        lines.append(f"| {title} | {seconds:.1f} | {shown} |")
    total = sum(seconds for _title, seconds, _figures in journey.figures)
    return "\n".join([*lines, f"| total | {total:.1f} | |"])


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="journey-"))
    site = Site(folder / "data")
    journey = Journey(site, folder)
    try:
        began = time.monotonic()
        site.start()
        journey.figures.append(("0 make run", time.monotonic() - began, {"demo content": False}))
        walk(journey, first=FIRST, further=FURTHER)
    except (Step, AssertionError) as reason:
        print(reason, file=sys.stderr)
        return 1
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)
        print(table(journey))
    return 0


if __name__ == "__main__":
    sys.exit(main())
