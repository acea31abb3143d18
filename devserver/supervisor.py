"""Starts Redis and the model server, sets the site up, starts its processes, makes the demo content, then watches."""

import os
import signal
import time
from collections import defaultdict, deque
from collections.abc import Callable
from types import FrameType

from devserver import readiness, services
from devserver.console import Console
from devserver.disk import has_room
from devserver.plan import Plan
from devserver.processes import Child, Command, Reaper, describe, end_all, python
from devserver.services import Service

NAME = "make run"
WATCH_INTERVAL, READINESS_INTERVAL = 0.1, 0.4
READY_SECONDS = 90.0
DEMO_SECONDS = 60.0
GRACE_SECONDS = 5.0
MIN_BACK_OFF, MAX_BACK_OFF = 0.5, 30.0
ROOM_INTERVAL = 2.0
DEATHS_ALLOWED, DEATHS_WITHIN = 5, 60.0


class Stopped(Exception):
    """A person asked for the end, or the process that started us has ended."""


class Died(Exception):
    """The sentence says which process, and why that ends everything."""


class Supervisor:
    """Runs one copy of the site until it is told to stop. `parent`: end when that process is gone."""

    def __init__(self, plan: Plan, console: Console, *, reaper: Reaper, parent: int | None) -> None:
        self._plan, self._console, self._reaper, self._parent = plan, console, reaper, parent
        self._children: dict[Service, Child] = {}
        self._once: list[Child] = []
        self._due: dict[Service, float] = {}
        self._deaths: dict[Service, deque[float]] = defaultdict(deque)
        self._ready = False
        self._stop_asked = ""

    def run(self) -> int:
        """The exit code: 0 when asked to stop, 1 when a process would not live."""
        self._listen()
        try:
            self._bring_up()
            self._wait(lambda: False)
        except Stopped:
            return 0
        except Died as reason:
            self._say(f"{reason}; ending everything", loud=True)
            return 1
        finally:
            self._end()
        raise AssertionError("the watch has no other end")

    def _bring_up(self) -> None:
        began = time.monotonic()
        self._say(
            f"{self._plan.url} · data {self._plan.data_dir} · log {self._plan.data_dir / 'logs/run.log'}"
        )
        self._start_all(services.foundations(self._plan))
        self._set_up()
        self._start_all(services.site(self._plan))
        self._wait_for_answers()
        if self._plan.wants_demo:
            self._make_demo()
        self._ready = True
        self._greet(time.monotonic() - began)

    def _set_up(self) -> None:
        options = ["--demo-logins", "--starting"]
        if self._plan.owns_database:
            options.append("--alone")
        if self._plan.moved_from:
            options += ["--moved-from", self._plan.moved_from]
        code = self._run_once("setup", ["prepare_site", *options], seconds=READY_SECONDS)
        if code != 0:
            raise Died(f"setup did not succeed ({_why(code)}, see the lines above)")

    def _make_demo(self) -> None:
        """Waits for the demo content. If it is not complete, the start goes on, and the next start makes the rest."""
        code = self._run_once("demo", ["seed_demo"], seconds=DEMO_SECONDS)
        if code != 0:
            self._say(f"the demo content is not complete ({_why(code)}); the next start goes on", loud=True)

    def _greet(self, seconds: float) -> None:
        self._say(f"everything answers after {seconds:.1f} s")
        self._say(f"网站 site {self._plan.url}/ · 管理 admin {self._plan.url}/admin/ · Ctrl-C 结束 ends it")
        self._say("演示账号 demo logins (密码同名 password = name): editor · trainer · reader")
        self._console.plain(f"ready: {self._plan.url}")

    def _start_all(self, wanted: list[Service]) -> None:
        for service in wanted:
            self._children[service] = self._spawn(service.name, service.command)

    def _spawn(self, name: str, command: Command) -> Child:
        environment = self._plan.environment
        return Child(name, command, environment=environment, console=self._console, reaper=self._reaper)

    def _run_once(self, name: str, arguments: list[str], *, seconds: float) -> int | None:
        """The exit code of a management command; None if it took too long and was ended."""
        child = self._spawn(name, python("manage.py", *arguments))
        self._once.append(child)
        try:
            self._wait(lambda: child.ended() is not None, seconds=seconds)
            code = child.ended()
        finally:
            end_all([child], grace=GRACE_SECONDS)
            self._once.remove(child)
        child.drain()
        return code

    def _wait_for_answers(self) -> None:
        lacking: list[str] = ["web"]

        def all_answer() -> bool:
            lacking[:] = readiness.missing(self._plan)
            return not lacking

        if not self._wait(all_answer, seconds=READY_SECONDS, every=READINESS_INTERVAL):
            raise Died(f"not ready after {READY_SECONDS:.0f} s: no answer from {', '.join(lacking)}")

    def _wait(
        self, done: Callable[[], bool], *, seconds: float = float("inf"), every: float = WATCH_INTERVAL
    ) -> bool:
        """Keeps watch until `done()`; False if that took longer than `seconds`. Raises `Stopped`, `Died`."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            self._watch_once()
            time.sleep(every)
        return True

    def _watch_once(self) -> None:
        if self._parent is not None and os.getppid() != self._parent:
            self._stop_asked = self._stop_asked or "the process that started this one is gone"
        if self._stop_asked:
            raise Stopped
        for service, child in list(self._children.items()):
            code = child.ended()
            if code is not None:
                child.drain()
                del self._children[service]
                self._on_exit(service, code)
        for service, moment in list(self._due.items()):
            if time.monotonic() >= moment:
                self._start_again(service)

    def _start_again(self, service: Service) -> None:
        """Starts a process again that ended; on a full disk as soon as there is room."""
        if has_room(self._plan.data_dir):
            del self._due[service]
            self._start_all([service])
        else:
            self._due[service] = time.monotonic() + ROOM_INTERVAL

    def _on_exit(self, service: Service, code: int) -> None:
        """Says how a process ended, and when it starts again. Raises `Died` if it may not."""
        if not self._ready:
            raise Died(f"{service.name} ended ({describe(code)}) before the site was ready")
        now = time.monotonic()
        if not has_room(self._plan.data_dir):  # the disk ended it: that counts as no death
            self._due[service] = now + ROOM_INTERVAL
            self._say(
                f"{service.name} ended ({describe(code)}): the disk is full; it waits for room", loud=True
            )
            return
        deaths = self._deaths[service]
        deaths.append(now)
        while now - deaths[0] > DEATHS_WITHIN:
            deaths.popleft()
        if len(deaths) >= DEATHS_ALLOWED:
            raise Died(f"{service.name} ended ({describe(code)}) for the {len(deaths)}th time in a minute")
        pause = min(MIN_BACK_OFF * 2 ** (len(deaths) - 1), MAX_BACK_OFF)
        self._due[service] = now + pause
        self._say(f"{service.name} ended ({describe(code)}); it starts again in {pause:g} s", loud=True)

    def _listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it, and so do we
            signal.signal(signal.SIGHUP, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """The first signal asks for the end; another one kills what still runs."""
        if self._stop_asked:
            for child in [*self._once, *self._children.values()]:
                child.send(signal.SIGKILL)
        self._stop_asked = signal.Signals(number).name

    def _end(self) -> None:
        """Ends the site first, then Redis and the model server."""
        if self._stop_asked:
            self._say(f"{self._stop_asked}: ending everything")
        foundations = set(services.foundations(self._plan))
        end_all(
            [child for service, child in self._children.items() if service not in foundations],
            grace=GRACE_SECONDS,
        )
        end_all(self._children.values(), grace=GRACE_SECONDS)
        for child in self._children.values():
            child.drain()
        self._reaper.close()
        self._say("ended")

    def _say(self, text: str, *, loud: bool = False) -> None:
        self._console.line(NAME, text, loud=loud)


def _why(code: int | None) -> str:
    return "took too long" if code is None else describe(code)
