"""How every management command of the site speaks: lines for a person, one object for a program.

A command subclasses `SiteCommand`, takes its arguments in `add_options`, does its work in `run` and returns
the object of `--json`. Bad input becomes one sentence on stderr and exit code 1, never a traceback.
"""

import getpass
import json
import platform
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, TextIO

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser, SystemCheckError
from django.db import DatabaseError, InterfaceError
from django.utils.translation import gettext as _

from llm.errors import LLMError
from stories.errors import StoryError

BAR_WIDTH = 30
CLEAR_TO_END = "\x1b[K"


class Failed(CommandError):
    """Exit code 1 with what is known all the same, for `--json`: `Failed("…", run=3)`."""

    def __init__(self, sentence: str, *, returncode: int = 1, **known: object) -> None:
        super().__init__(sentence, returncode=returncode)
        self.known = known


class SiteCommand(BaseCommand):
    """Base of all our commands. `json_keys` are printed with `--json` also on failure, null where unknown."""

    json_keys: ClassVar[tuple[str, ...]] = ()
    errors: ClassVar[tuple[type[Exception], ...]] = (StoryError, LLMError, OSError)
    _called_from_command_line: bool

    def add_options(self, parser: CommandParser) -> None:
        """The command's own arguments."""

    # Any: Django's own signature.
    def run(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Does the work, says lines with `self.say`, returns the `--json` object."""
        raise NotImplementedError

    def say(self, line: str = "", *, ending: str = "\n") -> None:
        """A line for a person, on stdout at once (`ending=""` for pieces of a stream)."""
        self.stdout.write(line, ending=ending)
        self.stdout.flush()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help=_("最后一行输出一个 JSON 对象"))
        self.add_options(parser)

    # Any: Django's own signature.
    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)

        def refuse(message: str) -> NoReturn:
            self._refuse_usage(message, subcommand)

        parser.error = refuse  # type: ignore[method-assign]
        return parser

    # Any: Django's own signature.
    def execute(self, *args: Any, **options: object) -> str | None:
        """As Django's, but on the command line an error is the sentence alone, without a class name."""
        try:
            return super().execute(*args, **options)
        except SystemCheckError:
            raise
        except CommandError as error:
            if not self._called_from_command_line or options.get("traceback"):
                raise
            self.stderr.write(str(error))
            sys.exit(error.returncode)

    def handle(self, *args: object, **options: object) -> None:
        wants_json = options.pop("json")
        try:
            result = self._run_clearly(**options)
        except CommandError as error:
            if wants_json:
                self._print_failure(error)
            raise
        if wants_json:
            self.stdout.write(json.dumps(result, ensure_ascii=False, default=str))

    def _run_clearly(self, **options: object) -> dict[str, object]:
        """`run`, its errors turned into sentences."""
        try:
            return self.run(**options)
        except self.errors as error:
            raise Failed(_sentence(error)) from error
        except (DatabaseError, InterfaceError) as error:
            words = {"error": " ".join(str(error).split())}
            raise Failed(
                _("数据库用不了（%(error)s）。请检查 DATABASE_URL，并运行 manage.py migrate。") % words
            ) from error
        except KeyboardInterrupt as error:
            raise Failed(_("已按 Ctrl-C 停下；已经开始的工作会继续。"), returncode=130) from error

    def _print_failure(self, error: CommandError) -> None:
        known = getattr(error, "known", {})
        result = dict.fromkeys(self.json_keys) | known | {"error": str(error)}
        self.stdout.write(json.dumps(result, ensure_ascii=False, default=str))

    def _refuse_usage(self, message: str, subcommand: str) -> NoReturn:
        """Bad usage: one line and exit code 1, where argparse prints its usage and exits with 2."""
        words = {"message": message, "command": subcommand}
        error = CommandError(_("参数不对：%(message)s（见 manage.py %(command)s --help）") % words)
        if not self._called_from_command_line:
            raise error
        if "--json" in sys.argv:
            self._print_failure(error)
        self.stderr.write(str(error))
        sys.exit(1)


def add_by(parser: ArgumentParser, *, required: bool = True) -> None:
    """The option `--by USER`; turn its value into a user with `find_editor`."""
    parser.add_argument("--by", metavar="USER", required=required, help=_("以哪位编辑的名义"))


def find_editor(username: str) -> User:
    """The active account of that name that may decide on stories. Raises `StoryError`."""
    user = User.objects.filter(username=username).first()
    if user is None:
        raise StoryError(_("没有用户「%(name)s」。") % {"name": username})
    if not user.has_perm("stories.review_story"):
        raise StoryError(_("用户「%(name)s」不是编辑。") % {"name": username})
    return user


def terminal_name() -> str:
    """Who sits at this terminal, for the audit: `root@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        user = "?"
    return f"{user}@{platform.node()}"


def split_list(value: str) -> list[str]:
    """The parts of `唐,宋` (full-width commas too), as typed; empty parts are left out."""
    return [part for part in value.replace("，", ",").split(",") if part.strip()]


@dataclass(frozen=True)
class Progress:
    """How far something is: `note` is shown behind the bar, `finished` ends the wait."""

    done: int
    total: int
    note: str = ""
    finished: bool = False

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total if self.total else 0

    def __str__(self) -> str:
        filled = BAR_WIDTH * self.percent // 100
        bar = "█" * filled + "░" * (BAR_WIDTH - filled)
        return f"{bar} {self.percent:3d}% {self.done}/{self.total} {self.note}".rstrip()


def wait_with_bar(
    poll: Callable[[], Progress], *, stream: TextIO | None = None, every: float = 1.0
) -> Progress:
    """Polls (the database) until `finished`, and draws a bar on stderr; returns the last progress.

    On a terminal one line is redrawn, elsewhere a line is written for each 10 %.
    """
    stream = stream or sys.stderr
    is_terminal = stream.isatty()
    shown = -1
    try:
        while True:
            progress = poll()
            step = progress.percent // 10
            if is_terminal:
                stream.write(f"\r{progress}{CLEAR_TO_END}")
            elif step != shown or progress.finished:
                stream.write(f"{progress}\n")
            stream.flush()
            shown = step
            if progress.finished:
                return progress
            time.sleep(every)
    finally:
        # Also after Ctrl-C or an error: the next line must not run on behind the bar.
        stream.write("\n" if is_terminal else "")


def _sentence(error: Exception) -> str:
    """What a person reads for one of a command's errors."""
    if isinstance(error, OSError) and error.filename:
        words = {"file": error.filename, "reason": error.strerror}
        if isinstance(error, FileNotFoundError):
            return _("找不到文件「%(file)s」。") % words
        return _("文件「%(file)s」用不了：%(reason)s。") % words
    return " ".join(str(error).split()) or type(error).__name__
