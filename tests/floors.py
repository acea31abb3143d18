"""The floors of docs/architecture.md, and the house rules that a reader of imports can hold.

A rule takes a `Module` and returns what is wrong with it, as sentences; tests/test_architecture.py applies
each to every module, and to a made-up one that breaks it. A new file gets its floor in `FLOORS` below.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from tests.environment import BASE_DIR

# The first pattern that fits a module's dotted name is its floor. `x.*` is what lies inside x, at any depth.
FLOORS: list[tuple[int, str]] = [
    (0, "model_server model_server.*"),
    (1, "ultraman_site.settings ultraman_site.environment llm.calls llm.endpoints"),
    (1, "stories.operations.task_queue llm.outage llm.retry llm.rate_headers"),
    (1, "llm.answers llm.errors llm.redaction ultraman_site.proxies"),
    (1, "ultraman_site.log_lines ultraman_site.sessions ultraman_site.variables"),
    (1, "llm.rate_limit llm.rate_limit.*"),
    (8, "manage ultraman_site ultraman_site.celery ultraman_site.asgi ultraman_site.wsgi ultraman_site.urls"),
    (8, "ultraman_site.handshake ultraman_site.bodies"),
    (8, "devserver devserver.*"),
    (2, "stories stories.models stories.models.* stories.errors stories.values.combos stories.values.money"),
    (7, "*.apps *.admin *.admin.* *.views *.views.* *.forms *.urls *.routing *.consumers *.middleware"),
    (7, "*.admin_site *.templatetags *.templatetags.* *.management *.management.*"),
    (6, "stories.tasks finetuning.tasks"),
    (3, "stories.generation.batches stories.generation.batches.*"),
    (
        3,
        "stories.readers.orders stories.generation.states stories.generation.connections stories.library.csv_files stories.generation.completion",
    ),
    (
        3,
        "stories.generation.text_assembly stories.runs.lifecycle stories.operations.health stories.operations.heartbeats stories.generation.attempts stories.live.viewer",
    ),
    (
        3,
        "stories.runs.orders stories.readers.quotas stories.readers.reactions stories.readers.sharing stories.readers.moderation",
    ),
    (
        3,
        "stories.library.labels stories.operations.audit stories.generation.corrections stories.promotion stories.readers.holds stories.library.imports",
    ),
    (3, "stories.live.broker stories.live.snapshots"),
    (
        3,
        "stories.live.follow stories.values.prices stories.generation.prompts stories.readers.identity stories.review.decisions",
    ),
    (
        3,
        "stories.operations.seeding stories.language_models stories.review.quality stories.review.quality.* stories.runs.coverage",
    ),
    (3, "stories.runs.plan stories.runs.progress"),
    (3, "stories.runs.unknown_calls"),
    (
        3,
        "stories.library.pages stories.live.connection_limits stories.generation.sweeper stories.values.texts stories.generation.streaming stories.generation.streaming.*",
    ),
    (4, "finetuning finetuning.models finetuning.models.* finetuning.errors"),
    (5, "finetuning.datasets finetuning.datasets.* finetuning.training finetuning.training.*"),
    (5, "finetuning.results finetuning.exports finetuning.tokens"),
]
PACKAGES = ("ultraman_site", "stories", "finetuning", "model_server")
FILE_LINES, FUNCTION_LINES = 350, 50


@dataclass(frozen=True)
class Module:
    """One file of ours: its dotted name and its source."""

    name: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def imports(self) -> list[tuple[str, int]]:
        """Every module it names, with the line; `from a import b` counts as a.b where that is a module."""
        found: list[tuple[str, int]] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [(name, node.lineno) for name in _imported_from(node)]
        return found

    @property
    def imports_of_ours(self) -> Iterator[tuple[str, int]]:
        for name, line in self.imports:
            if name.split(".")[0] in PACKAGES:
                yield name, line


def _imported_from(node: ast.ImportFrom) -> list[str]:
    source = node.module or ""
    return [
        f"{source}.{alias.name}" if is_module(f"{source}.{alias.name}") else source for alias in node.names
    ]


def is_module(name: str) -> bool:
    path = BASE_DIR.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def floor_of(name: str) -> int | None:
    """The floor of a module, None if nobody gave it one."""
    for floor, patterns in FLOORS:
        if any(fnmatchcase(name, pattern) for pattern in patterns.split()):
            return floor
    return None


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


def has_a_floor(module: Module) -> list[str]:
    if floor_of(module.name) is None:
        return [f"{module.name} stands on no floor: give it one in tests/floors.py"]
    return []


def imports_point_down(module: Module) -> list[str]:
    mine = floor_of(module.name)
    wrong = []
    for name, line in module.imports_of_ours:
        theirs = floor_of(name)
        if mine is not None and theirs is not None and theirs > mine:
            wrong.append(f"{module.name}:{line} (floor {mine}) imports {name} (floor {theirs})")
    return wrong


def stories_never_imports_finetuning(module: Module) -> list[str]:
    if module.name.split(".")[0] != "stories":
        return []
    return [
        f"{module.name}:{line} imports {name}"
        for name, line in module.imports_of_ours
        if name.split(".")[0] == "finetuning"
    ]


def the_model_server_stands_apart(module: Module) -> list[str]:
    mine = module.name.split(".")[0] == "model_server"
    return [
        f"{module.name}:{line} imports {name}: the two programs meet on the wire"
        for name, line in module.imports_of_ours
        if (name.split(".")[0] == "model_server") != mine
    ]


def one_place_builds_clients(module: Module) -> list[str]:
    if module.name in ("llm.calls", "llm.retry") or module.name.split(".")[0] == "model_server":
        return []
    return [
        f"{module.name}:{line} imports {name}: only llm/calls.py and patience.py do"
        for name, line in module.imports
        if name.split(".")[0] in ("openai", "backoff")
    ]


def the_domain_never_enqueues(module: Module) -> list[str]:
    floor = floor_of(module.name)
    if floor is None or not 2 <= floor <= 5:
        return []
    return [
        f"{module.name}:{line} imports {name}: edges and tasks publish, after the commit"
        for name, line in module.imports
        if name.split(".")[0] == "celery"
        or name.endswith(".tasks")
        or name == "stories.operations.task_queue"
    ]


def consumers_only_relay(module: Module) -> list[str]:
    if not module.name.endswith(".consumers"):
        return []
    return [
        f"{module.name}:{line} imports {name}: a consumer knows event names, never prompts"
        for name, line in module.imports
        if name
        in (
            "stories.generation.prompts",
            "stories.runs.lifecycle",
            "stories.generation.completion",
            "llm.calls",
        )
    ]


def files_fit_in_one_reading(module: Module) -> list[str]:
    lines = module.source.count("\n")
    wrong = [f"{module.name} has {lines} lines, more than {FILE_LINES}"] if lines > FILE_LINES else []
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                wrong.append(f"{module.name}:{node.lineno} {node.name} has {length} lines")
    return wrong


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


RULES = [
    has_a_floor,
    imports_point_down,
    stories_never_imports_finetuning,
    the_model_server_stands_apart,
    one_place_builds_clients,
    the_domain_never_enqueues,
    consumers_only_relay,
    files_fit_in_one_reading,
    no_sharp_tools,
]

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
