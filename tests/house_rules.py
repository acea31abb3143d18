"""The house rules that import-linter cannot say; who may import whom stands in pyproject.toml.

A rule takes a `Module`, or all of them, and returns what is wrong, as sentences; tests/test_architecture.py
applies each to every module, and to made-up ones that break it.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.environment import BASE_DIR

SITE = ("devserver", "ultraman_site", "finetuning", "stories", "llm", "sentences")
PACKAGES = (*SITE, "model_server")
FILE_LINES, FUNCTION_LINES = 350, 50


@dataclass(frozen=True)
class Module:
    """One file of ours: its dotted name and its source."""

    name: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)


def modules() -> list[Module]:
    """Every Python file of the two programs, migrations left out (Django writes them)."""
    paths = [BASE_DIR / "manage.py"]
    for package in PACKAGES:
        paths += sorted((BASE_DIR / package).rglob("*.py"))
    return [
        Module(_dotted(path), path.read_text("utf-8")) for path in paths if "migrations" not in path.parts
    ]


def _dotted(path: Path) -> str:
    parts = path.relative_to(BASE_DIR).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# --- the rules ------------------------------------------------------------------------------------------


def files_fit_in_one_reading(module: Module) -> list[str]:
    lines = module.source.count("\n")
    wrong = [f"{module.name} has {lines} lines, more than {FILE_LINES}"] if lines > FILE_LINES else []
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                wrong.append(f"{module.name}:{node.lineno} {node.name} has {length} lines")
    return wrong


def any_has_a_reason(module: Module) -> list[str]:
    """`Any` switches the type checker off: a comment on the line, or directly above it, says why."""
    if module.name.split(".")[0] not in SITE:
        return []
    lines, comments = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.string == "Any" and not token.line.lstrip().startswith(("from ", "import ")):
            lines[token.start[0]] = token.line
    return [
        f"{module.name}:{line} has an Any without a reason"
        for line in lines
        if not {line, line - 1} & comments
    ]


def no_sharp_tools(module: Module) -> list[str]:
    """Nothing that marks text safe, starts a shell, evaluates text, or swallows an error whole."""
    wrong = []
    for node in ast.walk(module.tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in ("mark_safe", "SafeString", "SafeText", "eval", "exec"):
            wrong.append(f"{module.name}:{node.lineno} uses {name}")  # type: ignore[attr-defined]
        if isinstance(node, ast.keyword) and node.arg == "shell" and getattr(node.value, "value", 0) is True:
            wrong.append(f"{module.name}:{node.value.lineno} starts a shell")
        if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass) for line in node.body):
            wrong.append(f"{module.name}:{node.lineno} swallows an error")
    return wrong


RULES = [any_has_a_reason, files_fit_in_one_reading, no_sharp_tools]


def class_names_stand_for_one_thing(modules: Iterable[Module]) -> list[str]:
    """No two classes of the site have the same name; the model server is a program of its own.

    Django finds a command by the name `Command`. A class inside another one is called by both names
    (`Story.State`, `Run.Meta`), so it is not looked at.
    """
    places: dict[str, list[str]] = {}
    for module in modules:
        if module.name.split(".")[0] in SITE:
            for node in module.tree.body:
                if isinstance(node, ast.ClassDef) and node.name != "Command":
                    places.setdefault(node.name, []).append(module.name)
    return [f"{name} is a class in {' and '.join(found)}" for name, found in places.items() if len(found) > 1]


# --- pages and scripts ----------------------------------------------------------------------------------

TEMPLATE_RULES = {
    "marks text safe": r"\|\s*safe(seq)?\b|\{%\s*autoescape\s+off",
    "has an inline script": r"<script(?![^>]*\bsrc=)(?![^>]*type=.application/json)[^>]*>",
    "has inline style": r"<style\b|\sstyle\s*=",
    "has an inline handler": r"<[^>]*\son[a-z]+\s*=|javascript:|\shx-on\b",
}
SCRIPT_RULES = {
    "writes HTML": r"\b(innerHTML|outerHTML|insertAdjacentHTML)\b|document\.write\b",
    "evaluates text": r"\beval\s*\(|new\s+Function\s*\(|set(Timeout|Interval)\s*\(\s*[\"'`]",
}


def wrong_in(text: str, rules: dict[str, str]) -> list[str]:
    """The names of the rules that a template or script breaks."""
    return [name for name, pattern in rules.items() if re.search(pattern, text)]


def templates() -> list[Path]:
    return sorted(path for path in (BASE_DIR / "templates").rglob("*") if path.is_file())


def scripts() -> list[Path]:
    return sorted((BASE_DIR / "static" / "js").rglob("*.js"))
