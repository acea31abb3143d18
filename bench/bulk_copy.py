"""A copy of the site for bench/bulk.py: its own folder, SQLite and Redis, and two bulk workers that share a pace."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.environment import DATA_DIR  # first: it makes the environment of this process and its children
from tests.servers import Child, python, start_redis, wait_until

TICKS = os.sysconf("SC_CLK_TCK")
WORKERS, THREADS = 2, 12
MAX_SECONDS = 3600.0  # of one run


@dataclass(frozen=True)
class Order:
    """What became of one run: seconds from its start to its end, and how its stories ended."""

    seconds: float
    written: int
    failed: int
    attempts: int
    worker_cpu_ms: float


class Copy:
    """The running copy. Use inside `running_copy`."""

    def __init__(self, workers: list[Child]) -> None:
        self.workers = workers

    @property
    def cpu(self) -> float:
        """Seconds that the workers have used."""
        return sum(cpu_seconds(worker.pid) for worker in self.workers)

    def write(self, stories: int) -> Order:
        """Orders a run of that many stories and waits for its end."""
        from stories.models import Attempt, Run
        from stories.runs.lifecycle import count_states, plan_run, start_run
        from stories.tasks import enqueue_run, sweep

        run = plan_run(dynasties=["唐"], powers=["隐形"], types=["轻松"], repeat=stories, budget=10**12)
        cpu, began = self.cpu, time.monotonic()
        start_run(run)
        enqueue_run(run)
        swept = began

        def ended() -> bool:
            nonlocal swept
            if time.monotonic() - swept > 10:  # what beat does
                swept = time.monotonic()
                sweep()
            run.refresh_from_db()
            return run.state in (Run.State.DONE, Run.State.PAUSED)

        wait_until(ended, seconds=MAX_SECONDS, every=0.25, what="the run ends")
        seconds = time.monotonic() - began
        states = count_states(run)
        return Order(
            seconds=seconds,
            written=states["written"],
            failed=stories - states["written"],
            attempts=Attempt.objects.filter(story__run=run).count(),
            worker_cpu_ms=(self.cpu - cpu) * 1000 / stories,
        )

    def forget_pace(self) -> None:
        """Every measurement begins without knowledge of the limit."""
        import redis
        from django.conf import settings

        with redis.Redis.from_url(settings.REDIS_URL) as server:
            for key in server.scan_iter("pace:*"):
                server.delete(key)

    @property
    def memory(self) -> float:
        """The resident memory of one worker, MiB."""
        status = Path(f"/proc/{self.workers[0].pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


@contextmanager
def running_copy(base_url: str) -> Iterator[Copy]:
    """Migrated, prepared, with workers that wait for work."""
    os.environ |= {"DJANGO_SETTINGS_MODULE": "ultraman_site.settings", "OPENAI_BASE_URL": base_url}
    os.environ |= {"OPENAI_MODEL": "bench", "DATA_DIR": str(DATA_DIR)}
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    _prepare()
    logs = DATA_DIR / "logs"
    port = urlsplit(os.environ["REDIS_URL"]).port or 0
    with start_redis(port, log=logs / "redis.log"), ExitStack() as stack:
        yield Copy([stack.enter_context(_start_worker(number)) for number in range(WORKERS)])


def _start_worker(number: int) -> Child:
    log = DATA_DIR / f"logs/bulk-{number}.log"
    queues = ("-n", f"bulk{number}@%h", "-Q", "bulk", "-P", "threads", "-c", str(THREADS))
    quiet = ("--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat")
    worker = python("-m", "celery", "-A", "ultraman_site", "worker", *queues, *quiet, log=log)
    return worker.wait_until(lambda: " ready." in worker.output)


def _prepare() -> None:
    from stories.language_models import ensure_models
    from stories.models import Template

    ensure_models()
    user = "请写一个三百字左右的故事：{dynasty}朝的主人公获得了{super_power}，{story_type}地打败了怪兽。"
    Template.objects.get_or_create(
        name="bench", defaults={"version": 1, "system": "你是一位作家。", "user": user}
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
