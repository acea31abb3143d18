"""Where a setting comes from: the environment, then `.env`, then `DATA_DIR/run.env`.

Read by `settings.py` (floor 1) and by the supervisor of `make run`, so that both see the same values.
`OPENAI_*` are taken as one group from the first source that has any of them: a key from one place never
meets an address from another.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import environ

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
    data_dir = BASE_DIR / merge(os.environ, dot_env).get("DATA_DIR", "var")
    return merge(os.environ, dot_env, read_file(data_dir / "run.env"))
