"""What a CSV of 200,000 rows costs those who read, order and review meanwhile, on a whole copy with SQLite.

    python -m bench.imports [rows] [seconds of idle before and after]

A person each reads the library, orders stories and decides on stories, one request after another, before, while
and after an editor's upload is imported. Figures: milliseconds of each request, redirects by themselves.
"""

import http.client
import re
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bench.visitor import TOKEN, Step, Visitor
from tests.servers import wait_until
from tests.sites import Site

PAUSE = 0.2  # seconds between a person's requests
MAX_SECONDS = 4 * 3600.0  # of the import
LIMITS = ("READER_STORIES_PER_DAY", "READER_STREAMS", "ADDRESS_STORIES_PER_DAY")
DYNASTIES, POWERS, TYPES = "唐宋元明清汉魏晋", ("隐形", "飞行", "喷火"), ("轻松", "努力", "艰难")
TEXT = "长安的宵禁鼓刚敲过三遍，金吾卫的小校尉追着一道流星跑出城门，再抬头时，眼前已是车水马龙的今天。" * 6


class Editor(Visitor):
    """The demo login `editor`, in the editorial office."""

    def sign_in(self) -> None:
        self.post("/admin/login/?next=/admin/", "/admin/login/", username="editor", password="editor")

    def post(self, path: str, form_at: str, **fields: str) -> str:
        """Sends a form; the address it leads to."""
        token = TOKEN.search(self.get(form_at))
        if token is None:
            raise Step(f"the page {form_at} has no form")
        body = urllib.parse.urlencode(fields | {"csrfmiddlewaretoken": token[1]}).encode()
        with self.opener.open(self.site.url + path, data=body, timeout=60) as reply:
            reply.read()
            return str(reply.url)

    def decide(self) -> None:
        """Approves the first story of the queue; the page of the next one comes with the answer."""
        with self.opener.open(self.site.url + "/admin/stories/story/next/", timeout=60) as reply:
            page, address = reply.read().decode(), urllib.parse.urlsplit(reply.url).path
        token, seen = TOKEN.search(page), re.search(r'name="seen" value="([^"]*)"', page)
        if token is None or seen is None:
            raise Step(f"nothing to decide on at {address}")
        fields = {"action": "approve", "seen": seen[1], "csrfmiddlewaretoken": token[1]}
        path = address.replace("/change/", "/decide/")
        with self.opener.open(
            self.site.url + path, data=urllib.parse.urlencode(fields).encode(), timeout=60
        ) as reply:
            reply.read()

    def upload(self, file: Path) -> None:
        path = "/admin/stories/story/import/"
        token = TOKEN.search(self.get(path))
        if token is None:
            raise Step("the page of the import has no form")
        mark = "----------imports"
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{token[1]}\r\n'
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
            "Content-Type: text/csv\r\n\r\n"
        )
        body = head.encode() + file.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        request = urllib.request.Request(self.site.url + path, data=body)
        request.add_header("Content-Type", f"multipart/form-data; boundary={mark}")
        with self.opener.open(request, timeout=120) as reply:
            reply.read()


class Clock(urllib.request.HTTPHandler):
    """Notes of each request, those of redirects too, when it was answered and after how many seconds."""

    handler_order = 400  # before the one that urllib brings

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[float, float]] = []

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        began = time.monotonic()
        try:
            return super().http_open(request)
        finally:
            self.waits.append((time.monotonic(), time.monotonic() - began))


class Person(threading.Thread):
    """Does one thing again and again until `over`."""

    def __init__(self, name: str, visitor: Visitor, act: Callable[[], object], over: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.act, self.over = act, over
        self.clock = Clock()
        visitor.opener.add_handler(self.clock)
        self.errors: list[tuple[float, str]] = []

    def run(self) -> None:
        while not self.over.wait(PAUSE):
            try:
                self.act()
            except (OSError, Step) as error:
                self.errors.append((time.monotonic(), str(error)))

    def figures(self, since: float, until: float) -> tuple[int, float, float, float, int]:
        """Requests, p50, p95 and longest in milliseconds, failures."""
        waits = sorted(1000 * wait for at, wait in self.clock.waits if since <= at < until)
        failed = sum(since <= at < until for at, _error in self.errors)
        if not waits:
            return 0, 0.0, 0.0, 0.0, failed
        return len(waits), waits[len(waits) // 2], waits[int(len(waits) * 0.95)], waits[-1], failed


def write_csv(path: Path, rows: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.write("dynasty,super_power,story_type,story\n")
        for number in range(rows):
            combo = f"{DYNASTIES[number % 8]},{POWERS[number % 3]},{TYPES[number // 3 % 3]}"
            file.write(f"{combo},{number} {TEXT}\n")
    return path


def state_of_import(site: Site) -> tuple[str, int]:
    with closing(sqlite3.connect(site.data_dir / "site.sqlite3")) as database:
        query = "SELECT state, staged FROM stories_importedfile ORDER BY id DESC LIMIT 1"
        state, staged = database.execute(query).fetchone()
        return str(state), int(staged)


def wait_for_import(site: Site) -> float:
    """Until it is published; how many seconds that took. Raises `Step` if it was refused."""
    began = time.monotonic()

    def published() -> bool:
        state = state_of_import(site)
        if state[0] in ("removing", "refused"):
            raise Step(f"the import ended as {state}")
        return state[0] == "published"

    wait_until(published, seconds=MAX_SECONDS, every=1, what="the import is published")
    return time.monotonic() - began


def measure(site: Site, folder: Path, rows: int, idle: float) -> None:
    first = site.manage("import_stories", str(write_csv(folder / "first.csv", 2000)))
    if first.rc:
        raise Step(first.stderr)
    editor, reader, writer = Editor(site), Visitor(site), Visitor(site)
    editor.sign_in()
    uploader = Editor(site)
    uploader.sign_in()
    file = write_csv(folder / "large.csv", rows)
    over = threading.Event()
    people = [
        Person("read the library", reader, lambda: reader.get("/"), over),
        Person("order a story", writer, lambda: writer.ask(("唐", "隐形", "轻松")), over),
        Person("decide on a story", editor, editor.decide, over),
    ]
    for person in people:
        person.start()
    marks = [time.monotonic()]
    time.sleep(idle)  # the people alone
    marks.append(time.monotonic())
    uploader.upload(file)
    took = wait_for_import(site)
    marks.append(time.monotonic())
    time.sleep(idle)  # the people alone, once more
    marks.append(time.monotonic())
    over.set()
    for person in people:
        person.join()
    size = file.stat().st_size / 1_000_000
    print(f"{rows:,} rows, {size:.0f} MB: {took:.0f} s from the upload's end to all published\n")
    print("| who | when | requests | p50 ms | p95 ms | longest ms | failed | p95 against before |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for person in people:
        before = person.figures(marks[0], marks[1])[2]
        for when, since, until in zip(("before", "meanwhile", "after"), marks, marks[1:], strict=False):
            count, middle, most, longest, failed = person.figures(since, until)
            ratio = most / before if before else 0
            print(
                f"| {person.name} | {when} | {count} | {middle:.0f} | {most:.0f} | {longest:.0f}"
                f" | {failed} | {ratio:.1f} |"
            )
    for person in people:
        for _at, error in person.errors[:3]:
            print(person.name, error)


def main() -> int:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    idle = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    folder = Path(tempfile.mkdtemp(prefix="imports-"))
    site = Site(folder / "data", more=dict.fromkeys(LIMITS, "1000000"))
    try:
        site.start()
        measure(site, folder, rows, idle)
    except (Step, AssertionError) as reason:
        print(reason, file=sys.stderr)
        return 1
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
