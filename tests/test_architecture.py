"""The floors hold, and so do the house rules; every rule is shown to catch what it forbids."""

import subprocess
from pathlib import Path

import pytest

from tests import floors
from tests.environment import BASE_DIR
from tests.floors import RULES, SCRIPT_RULES, TEMPLATE_RULES, Module, floor_of, wrong_in

LONG_FUNCTION = "def f() -> None:\n" + "    g()\n" * 51
BROKEN = {
    "has_a_floor": Module("stories.newcomer", ""),
    "imports_point_down": Module("stories.generation.streaming", "from finetuning.tasks import sweep_jobs\n"),
    "stories_never_imports_finetuning": Module("stories.admin", "import finetuning.models\n"),
    "the_model_server_stands_apart": Module("model_server.app", "from ultraman_site import settings\n"),
    "one_place_builds_clients": Module(
        "stories.generation.completion", "def f():\n    from openai import OpenAI\n"
    ),
    "the_domain_never_enqueues": Module(
        "stories.readers.orders", "from stories.operations.task_queue import publish\n"
    ),
    "consumers_only_relay": Module("stories.consumers", "from stories import live, prompts\n"),
    "files_fit_in_one_reading": Module("stories.values.money", LONG_FUNCTION),
    "no_sharp_tools": Module("stories.views", "try:\n    f()\nexcept OSError:\n    pass\n"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule):
    assert [wrong for module in floors.modules() for wrong in rule(module)] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_catches_who_breaks_it(rule):
    assert len(rule(BROKEN[rule.__name__])) == 1


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("stories.models.stories", "from stories.review.decisions import approve"),
        ("stories.review.decisions", "from stories import tasks"),
        ("stories.tasks", "from stories.views import library"),
        ("llm.calls", "from stories.models import Story"),
        ("finetuning.models.jobs", "import finetuning.training"),
        ("finetuning.training", "from finetuning.admin import JobAdmin"),
    ],
)
def test_an_import_that_points_up_is_found_on_every_floor(importer, source):
    assert len(floors.imports_point_down(Module(importer, source))) == 1


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("stories.views", "from stories.tasks import write_story"),
        (
            "finetuning.training",
            "from stories.language_models import add_model\nfrom ultraman_site import llm",
        ),
        ("finetuning.admin", "from stories.admin import StoryAdmin"),
        ("stories.review.decisions", "import json\nfrom django.db import transaction"),
    ],
)
def test_an_import_that_points_down_is_welcome(importer, source):
    assert floors.imports_point_down(Module(importer, source)) == []


def test_importing_the_publisher_through_its_package_is_seen():
    module = Module("stories.readers.orders", "from ultraman_site import publishing")

    assert len(floors.the_domain_never_enqueues(module)) == 1


def test_a_file_of_351_lines_is_too_long():
    assert len(floors.files_fit_in_one_reading(Module("stories.values.money", "x = 1\n" * 351))) == 1
    assert floors.files_fit_in_one_reading(Module("stories.values.money", "x = 1\n" * 350)) == []


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
    assert len(floors.no_sharp_tools(Module("stories.views", source))) == 1


def test_the_floors_are_those_of_the_design():
    names = ["model_server.app", "llm.calls", "stories.models.runs", "stories.generation.streaming.engine"]
    names += ["finetuning.models", "finetuning.training.poll", "stories.tasks", "stories.admin.runs"]
    names += ["ultraman_site.asgi"]

    assert [floor_of(name) for name in names] == [0, 1, 2, 3, 4, 5, 6, 7, 8]


# --- pages and scripts ----------------------------------------------------------------------------------


def broken_files(paths: list[Path], rules: dict[str, str]) -> dict[str, list[str]]:
    found = {str(path.relative_to(BASE_DIR)): wrong_in(path.read_text("utf-8"), rules) for path in paths}
    return {path: wrong for path, wrong in found.items() if wrong}


def test_templates_keep_text_escaped_and_code_in_files():
    assert broken_files(floors.templates(), TEMPLATE_RULES) == {}


def test_scripts_build_pages_through_text_content_alone():
    assert broken_files(floors.scripts(), SCRIPT_RULES) == {}


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
