#!/usr/bin/env python3
"""What people read about the settings, written from the one table, ultraman_site/variables.py.

bin/settings_tables.py write    .env.example, and the two tables between the markers in README.md
bin/settings_tables.py check    exit 1, naming each file that is not as `write` would leave it

Reads the table alone, never the environment: no value of this machine gets into a file.
"""

import sys
import unicodedata
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BASE_DIR))

from ultraman_site.variable import Section, Variable  # noqa: E402  (after the line that finds it)
from ultraman_site.variables import VARIABLES  # noqa: E402

EXAMPLE, README = ".env.example", "README.md"
WIDTH = 118
EXAMPLE_HEAD = """\
# 全部设置。复制成 .env 再改；环境变量优先于 .env。不设任何一项即可 `make run`。
# Every setting. Copy to .env and edit; the environment goes before .env. `make run` needs none of them.
# 由 bin/settings_tables.py 写成，源头是 ultraman_site/variables.py · written by it, from that table
"""
COLUMNS = {
    "zh": "| 变量 | 作用 | 默认 |\n|---|---|---|\n",
    "en": "| variable | what it does | default |\n|---|---|---|\n",
}


def shown() -> list[Variable]:
    """The rows for people; variables that our own programs set for each other are left out."""
    return [variable for variable in VARIABLES if variable.section != Section.INTERNAL]


def example_text() -> str:
    """`.env.example`: every variable in a comment, below the sentences that say what it does."""
    parts = [EXAMPLE_HEAD]
    for section in Section:
        rows = [variable for variable in shown() if variable.section == section]
        if rows:
            chinese, english = section.value
            parts.append(f"\n# ---- {chinese} · {english}\n")
            parts += [_example(variable) for variable in rows]
    return "".join(parts)


def _example(variable: Variable) -> str:
    value = variable.example or variable.default
    line = value if "<" in variable.name else f"{variable.name}={value}"
    return "".join(f"# {words}\n" for words in _sentences(variable)) + f"#{line}\n"


def _sentences(variable: Variable) -> list[str]:
    """Both languages in one line if they fit, else each in its own lines."""
    chinese, english = (words.replace("`", "") for words in (variable.zh, variable.en))
    both = f"{chinese} · {english}"
    if _columns(both) <= WIDTH - 2:
        return [both]
    return [part for words in (chinese, english) for part in _wrap(words)]


def _wrap(words: str) -> list[str]:
    """Lines that fit; a line is broken at a space, or anywhere between Chinese characters."""
    lines, line = [], ""
    for word in words.replace("；", "； ").replace("：", "： ").split(" "):
        joined = f"{line}{'' if not line or line.endswith(('；', '：')) else ' '}{word}"
        if line and _columns(joined) > WIDTH - 2:
            lines.append(line)
            joined = word
        line = joined
    return [*lines, line]


def _columns(text: str) -> int:
    """The width on a terminal: a Chinese character takes two columns."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def table(language: str) -> str:
    """README's table in "zh" or "en"."""
    return COLUMNS[language] + "".join(_row(variable, language) for variable in shown())


def _row(variable: Variable, language: str) -> str:
    words = variable.zh if language == "zh" else variable.en
    unset = variable.unset_zh if language == "zh" else variable.unset_en
    default = f"`{variable.default}`" if variable.default else unset
    return f"| `{variable.name}` | {words} | {default} |\n"


def readme_text(readme: str) -> str:
    """The README with both tables as they should be. Raises `ValueError` without its markers."""
    for language in COLUMNS:
        begin = f"<!-- settings {language}: bin/settings_tables.py -->\n"
        before, found, rest = readme.partition(begin)
        _old, closed, after = rest.partition("<!-- end of settings -->")
        if not found or not closed:
            raise ValueError(f"{README} has no place for the settings: {begin.strip()}")
        readme = before + begin + table(language) + closed + after
    return readme


def wanted() -> dict[Path, str]:
    """Each file with the text it should have."""
    readme = BASE_DIR / README
    return {BASE_DIR / EXAMPLE: example_text(), readme: readme_text(readme.read_text("utf-8"))}


def main(arguments: list[str]) -> int:
    if arguments not in (["write"], ["check"]):
        print(__doc__)
        return 2
    stale = [path for path, text in wanted().items() if path.read_text("utf-8") != text]
    for path in stale:
        if arguments == ["write"]:
            path.write_text(wanted()[path], "utf-8")
        else:
            print(f"{path.name} does not tell of the settings as they are: run bin/settings_tables.py write")
    return int(bool(stale) and arguments == ["check"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
