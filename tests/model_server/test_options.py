"""The options of `python -m model_server` are written down twice: for `--help`, and in its README. They agree."""

import argparse
import re
from pathlib import Path

import pytest

from model_server.__main__ import _parser

README = Path(__file__).resolve().parents[2] / "model_server" / "README.md"


def options() -> dict[str, argparse.Action]:
    return {action.option_strings[-1]: action for action in _parser()._actions if action.dest != "help"}


def rows() -> dict[str, str]:
    """Option to default, as the README's table has them; a row may hold two."""
    table = README.read_text("utf-8").partition("## Options")[2].partition("\n\n`GET")[0]
    found = {}
    for names, defaults in re.findall(r"^\| (`--.*?) \| (.*?) \|", table, flags=re.MULTILINE):
        flags = re.findall(r"--[a-z0-9-]+", names)
        values = defaults.split(", ") if len(flags) > 1 else [defaults]
        found |= dict(zip(flags, values, strict=True))
    return found


def test_the_readme_tells_of_every_option_and_of_no_other():
    assert set(rows()) == set(options())


@pytest.mark.parametrize("option", [name for name, action in options().items() if action.default])
def test_the_readme_names_the_default_of(option):
    default = options()[option].default
    written = rows()[option].strip("`")

    assert written == (f"{default:g}" if isinstance(default, float) else str(default))
