"""Where a setting comes from: the environment, then `.env`, then `DATA_DIR/run.env`; and how it is read.

Read by `settings.py` and by the supervisor of `make run`, so that both see the same values. `OPENAI_*` are taken as
one group from the first source that has any of them: a key from one place never meets an address from another.
Which variables there are is told in `variables.py`.
"""

import os
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from ultraman_site.variable import Kind, Variable
from ultraman_site.variables import VARIABLES

BASE_DIR = Path(__file__).resolve().parent.parent
GROUP = "OPENAI_"


def read_file(path: Path) -> dict[str, str]:
    """The `NAME=value` lines of a file, {} if there is none. Does not touch `os.environ`."""

    class FileEnv(environ.Env):
        ENVIRON: dict[str, str] = {}

    if path.is_file():
        FileEnv.read_env(path, encoding="utf-8")
    return dict(FileEnv.ENVIRON)


def merge(*sources: Mapping[str, str]) -> dict[str, str]:
    """One mapping out of several, the first that names a variable wins; `OPENAI_*` go together."""
    merged: dict[str, str] = {}
    group_found = False
    for source in sources:
        has_group = any(name.startswith(GROUP) and value for name, value in source.items())
        for name, value in source.items():
            if name.startswith(GROUP) and (group_found or not value):
                continue
            merged.setdefault(name, value)
        group_found = group_found or has_group
    return merged


def load(*, with_run_env: bool = True) -> dict[str, str]:
    """Every variable in effect. `READ_ENV_FILES=0` (the test suite) leaves the files unread."""
    if os.environ.get("READ_ENV_FILES", "1") == "0":
        return merge(os.environ)
    dot_env = read_file(BASE_DIR / ".env")
    if not with_run_env:
        return merge(os.environ, dot_env)
    data_dir = BASE_DIR / Values(merge(os.environ, dot_env)).text("DATA_DIR")
    return merge(os.environ, dot_env, read_file(data_dir / "run.env"))


class UnknownVariable(Exception):
    """The code reads a variable that the table does not have, or has as another kind."""


class Values:
    """The values of `source` by the table's kinds and defaults. An empty value counts as unset.

    Raises `UnknownVariable`, and `ImproperlyConfigured` with a sentence for a value that can't be read.
    """

    def __init__(self, source: Mapping[str, str]) -> None:
        self._env = environ.Env()
        self._env.ENVIRON = source

    def text(self, name: str) -> str:
        return self._read(name, Kind.TEXT, Kind.SECRET)

    def names(self, name: str) -> list[str]:
        return [part for part in self._read(name, Kind.NAMES).split(",") if part]

    def flag(self, name: str) -> bool:
        return bool(environ.Env.parse_value(self._read(name, Kind.FLAG) or "0", bool))

    def count(self, name: str) -> int:
        """A whole number above 0."""
        value = self._read(name, Kind.COUNT)
        if not value.isdecimal() or int(value) < 1:
            raise ImproperlyConfigured(f"{name} must be a whole number above 0, not {value!r}.")
        return int(value)

    def count_or_none(self, name: str) -> int | None:
        """As `count`; None where it is not set."""
        return self.count(name) if self._read(name, Kind.COUNT) else None

    def usd(self, name: str) -> Decimal | None:
        """An amount in USD, None where it is not set."""
        value = self._read(name, Kind.USD)
        try:
            amount = Decimal(value or 0)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount < 0:
            raise ImproperlyConfigured(f"{name} must be an amount in USD such as 5 or 0.50, not {value!r}.")
        return amount if value else None

    def _read(self, name: str, *kinds: Kind) -> str:
        variable = find_variable(name)
        if variable is None or variable.kind not in kinds:
            raise UnknownVariable(f"{name} is not in the table of ultraman_site/variables.py as {kinds}")
        return str(self._env.str(name, default="")) or variable.default


def find_variable(name: str) -> Variable | None:
    """The row of this name in the table; `LLM_KEY_LAB` is `LLM_KEY_<ALIAS>`."""
    for variable in VARIABLES:
        prefix, alias, _rest = variable.name.partition("<ALIAS>")
        if name == variable.name or (alias and name.startswith(prefix)):
            return variable
    return None
