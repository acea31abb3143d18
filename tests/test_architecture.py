"""The layers and the house rules hold, and every one is shown to catch what it forbids."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import house_rules
from tests.environment import BASE_DIR
from tests.house_rules import PACKAGES, RULES, SCRIPT_RULES, TEMPLATE_RULES, Module, wrong_in

LONG_FUNCTION = "def f() -> None:\n" + "    g()\n" * 51
BROKEN = {
    "any_has_a_reason": Module("stories.values.money", "def f(x: Any) -> None: ...\n"),
    "files_fit_in_one_reading": Module("stories.values.money", LONG_FUNCTION),
    "no_sharp_tools": Module("stories.views", "try:\n    f()\nexcept OSError:\n    pass\n"),
}


# --- layers (the contracts in pyproject.toml) -------------------------------------------------------------


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the packages under `root`."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    env = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and the contracts, where a test may break them."""
    root = tmp_path_factory.mktemp("packages")
    for package in PACKAGES:
        shutil.copytree(BASE_DIR / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(BASE_DIR / "pyproject.toml", root)
    return root


@pytest.fixture
def broken(copy: Path, line: tuple[str, str]) -> Iterator[Path]:
    """The copy with one more import, in the module that must not have it."""
    module, source = line
    path = copy.joinpath(*module.split(".")).with_suffix(".py")
    before = path.read_text("utf-8") if path.exists() else None
    path.write_text(f"{before or ''}\n{source}\n", "utf-8")
    yield copy
    path.unlink() if before is None else path.write_text(before, "utf-8")


def test_every_import_points_down():
    said = lint_imports(BASE_DIR)

    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize(
    ("line", "contract"),
    [
        (("llm.calls", "from stories.models import Story"), "The packages of the site"),
        (("model_server.app", "from ultraman_site import settings"), "The model server knows nothing"),
        (("ultraman_site.celery", "import model_server.app"), "The site knows nothing of the model server"),
        (("stories.models.runs", "import stories.review.decisions"), "The rooms of stories"),
        (("stories.newcomer", ""), "The rooms of stories"),
        (("finetuning.models.jobs", "import finetuning.training.steps"), "The rooms of finetuning"),
        (("stories.generation.states", "import stories.generation.sweeper"), "The rooms of generation"),
        (("llm.errors", "import llm.clients"), "The rooms of llm"),
        (("stories.generation.completion", "from openai import OpenAI"), "Only llm builds clients"),
        (
            ("stories.readers.orders", "from stories.operations import task_queue"),
            "The domain never enqueues",
        ),
        (("stories.consumers", "import stories.generation.prompts"), "A consumer only relays"),
    ],
)
def test_the_contract_catches_who_breaks_it(broken: Path, contract: str):
    said = lint_imports(broken)

    assert said.returncode == 1
    assert any(contract in row and "BROKEN" in row for row in said.stdout.splitlines()), said.stdout


# --- rules for single files -------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule):
    assert [wrong for module in house_rules.modules() for wrong in rule(module)] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_catches_who_breaks_it(rule):
    assert len(rule(BROKEN[rule.__name__])) == 1


def test_a_file_of_351_lines_is_too_long():
    assert len(house_rules.files_fit_in_one_reading(Module("stories.values.money", "x = 1\n" * 351))) == 1
    assert house_rules.files_fit_in_one_reading(Module("stories.values.money", "x = 1\n" * 350)) == []


@pytest.mark.parametrize(
    "source",
    [
        "from django.utils.safestring import mark_safe\nmark_safe(text)\n",
        "import subprocess\nsubprocess.run(line, shell=True)\n",
        "eval(text)\n",
        "safestring.SafeString(text)\n",
    ],
)
def test_each_sharp_tool_is_seen(source):
    assert len(house_rules.no_sharp_tools(Module("stories.views", source))) == 1


# --- a rule for all files together ------------------------------------------------------------------------


def test_no_class_name_stands_for_two_things():
    assert house_rules.class_names_stand_for_one_thing(house_rules.modules()) == []


def test_two_classes_of_one_name_are_seen():
    wish = "class Wish:\n    pass\n"
    wrong = house_rules.class_names_stand_for_one_thing(
        [Module("stories.forms", wish), Module("stories.runs.plan", wish), Module("model_server.app", wish)]
    )

    assert wrong == ["Wish is a class in stories.forms and stories.runs.plan"]


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ("class Command:\n    pass\n", "finetuning.management.commands.train"),
        ("class Run:\n    class State:\n        pass\n", "finetuning.models.jobs"),
        ("class Answer:\n    pass\n", "model_server.engines.base"),
    ],
)
def test_commands_inner_classes_and_the_model_server_may_share_names(source, other):
    twin = source.replace("class Run", "class Job")
    modules = [Module("stories.models.runs", source), Module(other, twin)]

    assert house_rules.class_names_stand_for_one_thing(modules) == []


# --- pages and scripts ----------------------------------------------------------------------------------


def broken_files(paths: list[Path], rules: dict[str, str]) -> dict[str, list[str]]:
    found = {str(path.relative_to(BASE_DIR)): wrong_in(path.read_text("utf-8"), rules) for path in paths}
    return {path: wrong for path, wrong in found.items() if wrong}


def test_templates_keep_text_escaped_and_code_in_files():
    assert broken_files(house_rules.templates(), TEMPLATE_RULES) == {}


def test_scripts_build_pages_through_text_content_alone():
    assert broken_files(house_rules.scripts(), SCRIPT_RULES) == {}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("marks text safe", "<p>{{ story.text|safe }}</p>"),
        ("marks text safe", "{% autoescape off %}{{ story.text }}{% endautoescape %}"),
        ("has an inline script", "<script>go()</script>"),
        ("has inline style", '<p style="color:red">'),
        ("has inline style", "<style>p {}</style>"),
        ("has an inline handler", '<button class="x" onclick="go()">'),
        ("has an inline handler", '<a href="javascript:go()">'),
    ],
)
def test_each_template_rule_catches_who_breaks_it(rule, text):
    assert wrong_in(text, TEMPLATE_RULES) == [rule]


@pytest.mark.parametrize(
    "text",
    [
        '<script src="{% static "js/stream.js" %}" type="module"></script>',
        '<script type="application/json" id="labels"></script>',
        "{{ story.text|linebreaksbr }} {{ safety }}",
    ],
)
def test_honest_templates_pass(text):
    assert wrong_in(text, TEMPLATE_RULES) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("writes HTML", "p.innerHTML = text;"),
        ("writes HTML", "p.insertAdjacentHTML('beforeend', text);"),
        ("evaluates text", "eval(text)"),
        ("evaluates text", "setTimeout('go()', 5)"),
    ],
)
def test_each_script_rule_catches_who_breaks_it(rule, text):
    assert wrong_in(text, SCRIPT_RULES) == [rule]


def test_nothing_is_left_for_later():
    """No reminder of unfinished work in any file of ours that git knows."""
    words = "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"])
    command = ["git", "grep", "-nwE", words, "--", "*.py", "*.js", "*.html", "*.css", ":!static/vendor"]
    found = subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout) == (1, "")
